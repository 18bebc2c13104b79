"""Mono-Hydra (ROS 2) with this perception in place of its own.

    ros2 launch m2h_ros mono_hydra.launch.py engine:=/opt/engines/m2h
    ros2 launch m2h_ros mono_hydra.launch.py profile:=mono_hydra_scannet mono_hydra_launch:=mono_hydra_scannet.launch.py
    ros2 launch m2h_ros mono_hydra.launch.py engine:=/opt/engines/m2h align:=true perception_imu_topic:=/camera/imu

Arguments of Mono-Hydra's launch file are passed on to it: use_rviz:=true, output_root:=..., and so on.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

PERCEPTION = {
    "profile": ("mono_hydra_itc", "mono_hydra_itc or mono_hydra_scannet"),
    "engine": ("", "engine folder made by m2h-export"),
    "backend": ("", "auto, or a backend's name"),
    "align": ("", "true: average depth and labels with the frames before"),
    "mask_depth_edges": ("", "true, with align: depth edges become 0, no depth"),
    "calibration": ("", "Kalibr or camera_info file, with the camera's place on the IMU"),
}
OF_OTHER_NAMES = {
    "imu_topic": ("perception_imu_topic", "sensor_msgs/Imu, for align"),
    "odometry_topic": (
        "perception_odometry_topic",
        "nav_msgs/Odometry of the optical frame or the IMU, for align",
    ),
}
"""Arguments of perception whose names mean something else to Mono-Hydra."""
ALIGNED_TOPICS = {
    "image_depth_topic": "/temporally_aligned/depth",
    "label_ids_topic": "/temporally_aligned/labels_argmax",
    "image_semantic_topic": "/temporally_aligned/semantic",
}
"""Where Mono-Hydra's temporal filter publishes, and where Mono-Hydra reads with use_temporal_alignment:=true."""


def included(package: str, file: LaunchConfiguration | str, arguments: dict[str, LaunchConfiguration | str]):
    """A launch file of `package`."""
    path = PathJoinSubstitution([FindPackageShare(package), "launch", file])
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(path), launch_arguments=arguments.items())


def both(context: LaunchContext) -> list[GroupAction]:
    """Mono-Hydra without its perception node, and ours under that node's name."""
    aligned = LaunchConfiguration("aligned_topics").perform(context).lower() in ("1", "true", "yes", "on")
    clock = {"use_sim_time": LaunchConfiguration("use_sim_time")}
    others = {name: LaunchConfiguration(argument) for name, (argument, _) in OF_OTHER_NAMES.items()}
    perception = included(
        "m2h_ros",
        "perception.launch.py",
        {
            **{name: LaunchConfiguration(name) for name in PERCEPTION},
            **others,
            **({"align": "true", **ALIGNED_TOPICS} if aligned else {}),
            **clock,
            "name": "mono_hydra_perception",
        },
    )
    mono_hydra = included(
        "mono_hydra",
        LaunchConfiguration("mono_hydra_launch"),
        {"use_perception": "false", **({"use_temporal_alignment": "true"} if aligned else {}), **clock},
    )
    # In groups, because both have arguments like imu_topic and would see each other's.
    return [GroupAction([perception]), GroupAction([mono_hydra])]


def generate_launch_description() -> LaunchDescription:
    """Arguments, and both."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "mono_hydra_launch",
                default_value="mono_hydra_itc.launch.py",
                description="file of package mono_hydra",
            ),
            DeclareLaunchArgument(
                "use_sim_time", default_value="true", description="as Mono-Hydra: replayed bags with /clock"
            ),
            DeclareLaunchArgument(
                "aligned_topics",
                default_value="false",
                description="true: align, and publish on the topics of Mono-Hydra's temporal filter, which Mono-Hydra "
                "then reads (use_temporal_alignment)",
            ),
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in PERCEPTION.items()
            ),
            *(
                DeclareLaunchArgument(argument, default_value="", description=description)
                for argument, description in OF_OTHER_NAMES.values()
            ),
            OpaqueFunction(function=both),
        ]
    )
