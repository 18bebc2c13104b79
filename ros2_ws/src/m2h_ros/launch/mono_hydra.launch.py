"""Mono-Hydra (ROS 2) with this perception in place of its own.

    ros2 launch m2h_ros mono_hydra.launch.py engine:=/opt/engines/m2h
    ros2 launch m2h_ros mono_hydra.launch.py profile:=mono_hydra_scannet mono_hydra_launch:=mono_hydra_scannet.launch.py

Arguments of Mono-Hydra's launch file are passed on to it: use_rviz:=true, output_root:=..., and so on.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare


def included(package: str, file: LaunchConfiguration | str, arguments: dict[str, LaunchConfiguration | str]):
    """A launch file of `package`."""
    path = PathJoinSubstitution([FindPackageShare(package), "launch", file])
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(path), launch_arguments=arguments.items())


def generate_launch_description() -> LaunchDescription:
    """Mono-Hydra without its perception node, and ours under that node's name."""
    perception = included(
        "m2h_ros",
        "perception.launch.py",
        {
            "profile": LaunchConfiguration("profile"),
            "engine": LaunchConfiguration("engine"),
            "backend": LaunchConfiguration("backend"),
            "use_sim_time": LaunchConfiguration("use_sim_time"),
            "name": "mono_hydra_perception",
        },
    )
    mono_hydra = included(
        "mono_hydra",
        LaunchConfiguration("mono_hydra_launch"),
        {"use_perception": "false", "use_sim_time": LaunchConfiguration("use_sim_time")},
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "profile", default_value="mono_hydra_itc", description="mono_hydra_itc or mono_hydra_scannet"
            ),
            DeclareLaunchArgument(
                "mono_hydra_launch",
                default_value="mono_hydra_itc.launch.py",
                description="file of package mono_hydra",
            ),
            DeclareLaunchArgument("engine", default_value="", description="engine folder made by m2h-export"),
            DeclareLaunchArgument("backend", default_value="", description="auto, or a backend's name"),
            DeclareLaunchArgument(
                "use_sim_time", default_value="true", description="as Mono-Hydra: replayed bags with /clock"
            ),
            # In groups, because both have arguments like imu_topic and would see each other's.
            GroupAction([perception]),
            GroupAction([mono_hydra]),
        ]
    )
