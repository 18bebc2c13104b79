"""The scene graph's node: depth, labels and poses in; a graph, its markers and its files out.

ros2 launch m2h_ros perception.launch.py visual_odometry:=true image_topic:=/camera/image_raw      # terminal 1
ros2 launch m2h_ros graph.launch.py odometry_topic:=/odometry out:=/tmp/graph rviz:=true           # terminal 2
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PARAMETERS = {
    "profile": "whose topics are read: default, hydra, mono_hydra_itc, mono_hydra_scannet or a file",
    "perception": "name of the node that publishes them, where the profile says ~/",
    "label_space": "of the labels: nyudv2_40, nyud20 or scannet20",
    "odometry_topic": "nav_msgs/Odometry for the camera's poses; otherwise they come from /tf",
    "fixed_frame": "frame that the graph is in, z up",
    "out": "folder for graph.json, mesh.ply, graph.html and graph.jpg",
}
"""Texts that go to the node if they are given; everything else is in the parameter file."""


def graph_node(context: LaunchContext) -> list[Node]:
    """The node with what the arguments say."""
    said = {name: LaunchConfiguration(name).perform(context) for name in PARAMETERS}
    given = {name: ParameterValue(text, value_type=str) for name, text in said.items() if text}
    clock = {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}
    return [
        Node(
            package="m2h_ros",
            executable="graph_node",
            name=LaunchConfiguration("name"),
            namespace=LaunchConfiguration("namespace"),
            output="screen",
            parameters=[LaunchConfiguration("params_file"), given, clock],
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments, node, RViz if asked for."""
    share = FindPackageShare("m2h_ros")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([share, "config", "graph.yaml"]),
                description="parameter file",
            ),
            *(
                DeclareLaunchArgument(name, default_value="", description=description)
                for name, description in PARAMETERS.items()
            ),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="follow /clock"),
            DeclareLaunchArgument("name", default_value="m2h_graph", description="the node's name"),
            DeclareLaunchArgument("namespace", default_value="", description="the node's namespace"),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error"),
            DeclareLaunchArgument("rviz", default_value="false", description="also show the graph"),
            OpaqueFunction(function=graph_node),
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", PathJoinSubstitution([share, "rviz", "graph.rviz"])],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )
