"""Plain Hydra-ROS with this perception as its camera's depth and semantics.

    ros2 launch m2h_ros hydra.launch.py engine:=/opt/engines/m2h dataset:=my_robot \
        image_topic:=/camera/color/image_raw camera_info_topic:=/camera/color/camera_info

`dataset` names Hydra's configuration files; the input in them must be called `camera`. Somebody else sends TF
odom <- robot <- camera; without odometry, and if nobody else sends a parent of the camera's frame:

    ros2 launch m2h_ros hydra.launch.py ... visual_odometry:=true robot_frame:=camera_color_optical_frame
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

PERCEPTION = {
    "engine": ("", "engine folder made by m2h-export"),
    "backend": ("", "auto, or a backend's name"),
    "image_topic": ("", "images to read (default: /camera/color/image_raw)"),
    "camera_info_topic": ("", "their CameraInfo (default: /camera/color/camera_info)"),
    "imu_topic": ("", "sensor_msgs/Imu, for align and visual_odometry"),
    "odometry_topic": ("", "nav_msgs/Odometry, for align"),
    "calibration": ("", "Kalibr or camera_info file"),
    "align": ("", "true: average depth and labels with the frames before"),
    "visual_odometry": ("", "true: TF odom <- camera from images and depth, for a robot without odometry"),
}
HYDRA = {
    "labelspace": ("nyud20_config", "Hydra's label space; the profile hydra publishes nyud20"),
    "sensor_frame": ("camera_color_optical_frame", "the camera's optical frame"),
    "robot_frame": ("base_link", "the robot's frame"),
    "odom_frame": ("odom", "where odometry starts"),
    "map_frame": ("map", "frame of the scene graph"),
}


def included(package: str, file: str, arguments: dict[str, LaunchConfiguration | str]):
    """A launch file of `package`."""
    path = PathJoinSubstitution([FindPackageShare(package), "launch", file])
    return IncludeLaunchDescription(AnyLaunchDescriptionSource(path), launch_arguments=arguments.items())


def generate_launch_description() -> LaunchDescription:
    """Perception with the profile hydra, and Hydra."""
    passed_on = {name: LaunchConfiguration(name) for name in PERCEPTION}
    for_hydra = {name: LaunchConfiguration(name) for name in ("dataset", *HYDRA)}
    clock = {"use_sim_time": LaunchConfiguration("use_sim_time")}
    return LaunchDescription(
        [
            DeclareLaunchArgument("dataset", description="name of Hydra's configuration"),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="follow /clock"),
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in {**PERCEPTION, **HYDRA}.items()
            ),
            GroupAction(
                [included("m2h_ros", "perception.launch.py", {"profile": "hydra", **passed_on, **clock})]
            ),
            GroupAction([included("hydra_ros", "hydra.launch.yaml", {**for_hydra, **clock})]),
        ]
    )
