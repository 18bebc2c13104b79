"""A recorded bag played into the perception node, on the bag's own time.

ros2 launch m2h_ros bag_replay.launch.py bag:=recordings/office profile:=default rate:=1.0
"""

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """The player with /clock, perception on simulated time, and an end when the bag ends."""
    perception = PathJoinSubstitution([FindPackageShare("m2h_ros"), "launch", "perception.launch.py"])
    player = ExecuteProcess(
        cmd=[
            *("ros2", "bag", "play", LaunchConfiguration("bag"), "--clock", "100"),
            *("--rate", LaunchConfiguration("rate"), "--delay", LaunchConfiguration("delay")),
        ],
        output="screen",
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="bag folder or .mcap file"),
            DeclareLaunchArgument("rate", default_value="1.0", description="times real time"),
            DeclareLaunchArgument("delay", default_value="5.0", description="seconds for the engine to open"),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(perception), launch_arguments={"use_sim_time": "true"}.items()
            ),
            player,
            RegisterEventHandler(
                OnProcessExit(
                    target_action=player, on_exit=[EmitEvent(event=Shutdown(reason="the bag ended"))]
                )
            ),
        ]
    )
