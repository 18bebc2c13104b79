"""The perception node alone: a camera topic (or a camera, a file, a simulation) in, perception topics out.

ros2 launch m2h_ros perception.launch.py profile:=default engine:=/opt/engines/m2h-small image_topic:=/cam/image_raw
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PARAMETERS = {
    "engine": "engine folder made by m2h-export",
    "backend": "auto, or a backend's name",
    "source": "topic, camera:DEVICE, video:FILE, bag:PATH, simulate:NAME and others, see docs/ros2.md",
    "image_topic": "images to read; sensor_msgs/Image or CompressedImage",
    "camera_info_topic": "their CameraInfo",
    "imu_topic": "sensor_msgs/Imu to hand on",
    "odometry_topic": "nav_msgs/Odometry: the camera's poses",
    "calibration": "Kalibr or camera_info file",
    "record": "record inputs and outputs to this .mcap file",
    "image_depth_topic": "depth output",
    "label_ids_topic": "label output",
    "image_semantic_topic": "coloured semantics output",
}
"""Texts that go to the node if they are given; everything else is in the parameter file."""
FLAGS = {
    "align": "average depth and labels with the frames before",
    "mask_depth_edges": "with align: depth edges become 0, no depth",
    "visual_odometry": "poses from images and depth, as odometry and on /tf",
}
"""true or false, in the same way."""


def perception_node(context: LaunchContext) -> list[Node]:
    """The node with what the arguments say."""
    said = {
        name: LaunchConfiguration(name).perform(context)
        for name in (*PARAMETERS, *FLAGS, "profile", "params_file")
    }
    share = Path(FindPackageShare("m2h_ros").perform(context))
    params_file = said["params_file"] or str(share / "config" / f"{said['profile']}.yaml")
    given = {name: ParameterValue(said[name], value_type=str) for name in PARAMETERS if said[name]}
    given |= {name: ParameterValue(said[name], value_type=bool) for name in FLAGS if said[name]}
    flags = {
        name: ParameterValue(LaunchConfiguration(name), value_type=bool)
        for name in ("use_sim_time", "autostart")
    }
    return [
        Node(
            package="m2h_ros",
            executable="perception_node",
            name=LaunchConfiguration("name"),
            namespace=LaunchConfiguration("namespace"),
            output="screen",
            parameters=[params_file, given, flags],
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments, node, RViz if asked for."""
    layout = PathJoinSubstitution([FindPackageShare("m2h_ros"), "rviz", "m2h.rviz"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "profile", default_value="default", description="whose parameter file in config/ is used"
            ),
            DeclareLaunchArgument(
                "params_file", default_value="", description="a parameter file of your own"
            ),
            *(
                DeclareLaunchArgument(name, default_value="", description=description)
                for name, description in (PARAMETERS | FLAGS).items()
            ),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="follow /clock"),
            DeclareLaunchArgument(
                "autostart",
                default_value="true",
                description="false: a lifecycle manager configures and activates",
            ),
            DeclareLaunchArgument("name", default_value="m2h_perception", description="the node's name"),
            DeclareLaunchArgument("namespace", default_value="", description="the node's namespace"),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error"),
            DeclareLaunchArgument("rviz", default_value="false", description="also show the outputs"),
            OpaqueFunction(function=perception_node),
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", layout],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )
