"""A simulated episode as a rosbag2 folder with MCAP storage, as a robot would have recorded it.

Frames: world -> base_link (true motion, /tf), base_link -> camera_link -> camera_color_optical_frame and
base_link -> imu_link (/tf_static). base_link and camera_link have x forward, y left, z up.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from m2h_runtime.arrays import check_array
from m2h_runtime.errors import ContractError, InputError
from m2h_runtime.files import folder_in_place
from m2h_runtime.simulation.imu import KalibrImu
from m2h_runtime.simulation.libraries import require
from m2h_runtime.simulation.trajectory import BODY_FROM_OPTICAL, check_rigid, inverse, stamps_ns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_runtime.simulation.imu import ImuSamples
    from m2h_runtime.simulation.trajectory import Trajectory

WORLD, BASE, CAMERA, OPTICAL, IMU = (
    "world",
    "base_link",
    "camera_link",
    "camera_color_optical_frame",
    "imu_link",
)
COLOR = "/camera/color/image_raw"
COLOR_COMPRESSED = "/camera/color/image_raw/compressed"
CAMERA_INFO = "/camera/color/camera_info"
DEPTH = "/camera/depth/image_raw"
SEMANTIC = "/camera/semantic/image_raw"
IMU_DATA = "/imu/data"
ODOMETRY = "/odom"
TF, TF_STATIC = "/tf", "/tf_static"
TYPES = {
    COLOR: "sensor_msgs/msg/Image",
    COLOR_COMPRESSED: "sensor_msgs/msg/CompressedImage",
    CAMERA_INFO: "sensor_msgs/msg/CameraInfo",
    DEPTH: "sensor_msgs/msg/Image",
    SEMANTIC: "sensor_msgs/msg/Image",
    IMU_DATA: "sensor_msgs/msg/Imu",
    ODOMETRY: "nav_msgs/msg/Odometry",
    TF: "tf2_msgs/msg/TFMessage",
    TF_STATIC: "tf2_msgs/msg/TFMessage",
}
ROSBAG2_VERSION = 8  # the newest whose metadata Humble reads; Jazzy reads it too
JPEG_QUALITY = 95


def _camera_ahead() -> NDArray[np.float64]:
    transform = np.eye(4)
    transform[:3, :3] = BODY_FROM_OPTICAL
    return transform


@dataclass(frozen=True, slots=True)
class Rig:
    """The sensors on their base.

    Attributes:
        intrinsics: (3, 3) camera matrix in pixels, pixel centres at integers.
        size: width and height of the images.
        imu_from_camera: (4, 4), takes optical coordinates to IMU coordinates.
        base_from_camera: (4, 4), takes camera_link (x forward) coordinates to base_link coordinates.
        distortion: (5,) plumb_bob k1 k2 p1 p2 k3.
        imu: for the covariances.

    Raises:
        InputError: a transform is not rigid, the matrix is no camera's, or the size is not positive.
    """

    intrinsics: NDArray[np.float64]
    size: tuple[int, int]
    imu_from_camera: NDArray[np.float64] = field(default_factory=_camera_ahead)
    base_from_camera: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    distortion: NDArray[np.float64] = field(default_factory=lambda: np.zeros(5))
    imu: KalibrImu = field(default_factory=KalibrImu)

    def __post_init__(self) -> None:
        check_rigid("imu_from_camera", self.imu_from_camera)
        check_rigid("base_from_camera", self.base_from_camera)
        matrix = np.asarray(self.intrinsics)
        if matrix.shape != (3, 3) or min(matrix[0, 0], matrix[1, 1]) <= 0 or matrix[2].tolist() != [0, 0, 1]:
            raise InputError(
                "rig: the intrinsics are no camera matrix; give [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
            )
        if min(self.size) < 1 or np.shape(self.distortion) != (5,):
            raise InputError("rig: give a positive width and height and five distortion coefficients")

    @property
    def base_from_optical(self) -> NDArray[np.float64]:
        """(4, 4)."""
        return self.base_from_camera @ _camera_ahead()

    @property
    def base_from_imu(self) -> NDArray[np.float64]:
        """(4, 4)."""
        return self.base_from_optical @ inverse(self.imu_from_camera)


class EpisodeBag:
    """Writes an episode; `create` makes one. Frames come in order, and the motion falls in between them."""

    def __init__(
        self,
        writer: Any,
        rig: Rig,
        trajectory: Trajectory,
        imu: ImuSamples,
        pose_rate_hz: float,
        compressed: bool,
    ) -> None:
        store = require("rosbags.typesys")
        self._store = store.get_typestore(store.Stores.ROS2_HUMBLE)
        self._writer, self._rig = writer, rig
        self._color = COLOR_COMPRESSED if compressed else COLOR
        unused = COLOR if compressed else COLOR_COMPRESSED
        self._connections = {
            topic: writer.add_connection(
                topic, kind, typestore=self._store, offered_qos_profiles=[_qos(topic == TF_STATIC)]
            )
            for topic, kind in TYPES.items()
            if topic != unused
        }
        self._start_ns = int(imu.stamps_ns[0])
        self._end_ns = self._start_ns + int(stamps_ns(trajectory.duration_s, 0))
        self._last_frame_ns = self._start_ns - 1
        self._motion = self._motion_messages(trajectory, imu, pose_rate_hz)
        self._pending = next(self._motion, None)
        self._write_static()

    @classmethod
    @contextmanager
    def create(
        cls,
        folder: Path,
        rig: Rig,
        trajectory: Trajectory,
        imu: ImuSamples,
        pose_rate_hz: float = 100.0,
        compressed: bool = False,
        zstd: bool = True,
    ) -> Iterator[EpisodeBag]:
        """An open bag that takes `folder`'s place when the block ends well; otherwise nothing is left behind.

        Args:
            folder: of the bag.
            rig: the sensors.
            trajectory: of the camera's optical frame; gives /tf and /odom.
            imu: its samples; the first stamp is the trajectory's time 0.
            pose_rate_hz: of /tf and /odom, which also hold the trajectory's end.
            compressed: write colour as JPEG under `COLOR_COMPRESSED`, not raw under `COLOR`.
            zstd: compress the storage without loss.

        Raises:
            InputError: rosbags is missing, the stamps or the rate cannot be, or the folder cannot be written.
        """
        if len(imu.stamps_ns) == 0 or imu.stamps_ns[0] <= 0 or not pose_rate_hz > 0:
            raise InputError(
                f"{folder}: needs IMU samples stamped after 0, which tf2 takes for 'latest', and a positive "
                "pose rate; pass start_ns to simulate_imu"
            )
        with _writer_in_place(folder, zstd) as writer:
            bag = cls(writer, rig, trajectory, imu, pose_rate_hz, compressed)
            yield bag
            bag._write_motion_until(None)

    def add_frame(
        self,
        stamp_ns: int,
        image: NDArray[np.uint8],
        depth: NDArray[np.float32],
        semantics: NDArray[np.uint8],
    ) -> None:
        """Write what the camera saw, after all motion up to then.

        Args:
            stamp_ns: within the trajectory, later than the frame before.
            image: (H, W, 3) uint8, RGB.
            depth: (H, W) float32, metres along the optical axis, 0 where invalid.
            semantics: (H, W) uint8, label ids.

        Raises:
            ContractError: an array is of another shape or dtype, or a depth is negative or not finite.
            InputError: the stamp is out of order or outside of the trajectory.
        """
        width, height = self._rig.size
        check_array("image", image, np.uint8, (height, width, 3))
        check_array("depth", depth, np.float32, (height, width))
        check_array("semantics", semantics, np.uint8, (height, width))
        if not np.isfinite(depth).all() or depth.min() < 0:
            raise ContractError("depth: holds a negative or not finite value; write 0 where it is invalid")
        if not max(self._last_frame_ns + 1, self._start_ns) <= stamp_ns <= self._end_ns:
            raise InputError(
                f"bag: a frame stamped {stamp_ns} is not after the one before ({self._last_frame_ns}) and "
                f"within the trajectory ({self._start_ns} to {self._end_ns}); add frames in order of time"
            )
        self._last_frame_ns = stamp_ns
        self._write_motion_until(stamp_ns)
        header = self._header(stamp_ns, OPTICAL)
        self._write(CAMERA_INFO, stamp_ns, self._camera_info(header))
        if self._color == COLOR:
            color = self._image(header, image, "rgb8")
        else:
            color = self._make(
                "sensor_msgs/msg/CompressedImage", header, "rgb8; jpeg compressed bgr8", _jpeg(image)
            )
        self._write(self._color, stamp_ns, color)
        self._write(DEPTH, stamp_ns, self._image(header, depth, "32FC1"))
        self._write(SEMANTIC, stamp_ns, self._image(header, semantics, "mono8"))

    def _write(self, topic: str, stamp_ns: int, message: Any) -> None:
        data = self._store.serialize_cdr(message, TYPES[topic])
        self._writer.write(self._connections[topic], stamp_ns, data)

    def _write_motion_until(self, stamp_ns: int | None) -> None:
        """Write /tf, /odom and /imu/data up to and with `stamp_ns`, or all that is left."""
        while self._pending is not None and (stamp_ns is None or self._pending[1] <= stamp_ns):
            self._write(*self._pending)
            self._pending = next(self._motion, None)

    def _motion_messages(
        self, trajectory: Trajectory, imu: ImuSamples, rate_hz: float
    ) -> Iterator[tuple[str, int, Any]]:
        """Topic, stamp and message of every motion message, in order of stamps."""
        times = np.arange(int(trajectory.duration_s * rate_hz + 1e-6) + 1) / rate_hz
        if trajectory.duration_s - times[-1] > 1e-6:  # so that every frame lies between two poses
            times = np.append(times, trajectory.duration_s)
        pose_stamps = stamps_ns(times, self._start_ns)
        poses = trajectory.poses(times) @ inverse(self._rig.base_from_optical)
        twists = _base_twists(self._rig, trajectory, times)
        stamps = np.concatenate((pose_stamps, imu.stamps_ns))
        for index in np.argsort(stamps, kind="stable").tolist():
            stamp = int(stamps[index])
            if index < len(times):
                transform = self._transform(stamp, WORLD, BASE, poses[index])
                yield TF, stamp, self._make("tf2_msgs/msg/TFMessage", [transform])
                yield ODOMETRY, stamp, self._odometry(stamp, poses[index], twists[index])
            else:
                sample = index - len(times)
                yield IMU_DATA, stamp, self._imu(stamp, imu.gyro[sample], imu.accel[sample])

    def _write_static(self) -> None:
        stamp = self._start_ns
        tree = (
            (BASE, CAMERA, self._rig.base_from_camera),
            (CAMERA, OPTICAL, _camera_ahead()),
            (BASE, IMU, self._rig.base_from_imu),
        )
        transforms = [self._transform(stamp, *branch) for branch in tree]
        self._write(TF_STATIC, stamp, self._make("tf2_msgs/msg/TFMessage", transforms))

    def _make(self, kind: str, *values: Any) -> Any:
        return self._store.types[kind](*values)

    def _header(self, stamp_ns: int, frame: str) -> Any:
        time = self._make("builtin_interfaces/msg/Time", *divmod(int(stamp_ns), 1_000_000_000))
        return self._make("std_msgs/msg/Header", time, frame)

    def _vector(self, values: NDArray[np.float64], kind: str = "Vector3") -> Any:
        return self._make(f"geometry_msgs/msg/{kind}", *(float(value) for value in values))

    def _quaternion(self, rotation: NDArray[np.float64]) -> Any:
        quaternion = require("scipy.spatial.transform").Rotation.from_matrix(rotation).as_quat()
        return self._vector(quaternion, "Quaternion")

    def _transform(self, stamp_ns: int, parent: str, child: str, pose: NDArray[np.float64]) -> Any:
        transform = self._make(
            "geometry_msgs/msg/Transform", self._vector(pose[:3, 3]), self._quaternion(pose[:3, :3])
        )
        return self._make(
            "geometry_msgs/msg/TransformStamped", self._header(stamp_ns, parent), child, transform
        )

    def _odometry(self, stamp_ns: int, pose: NDArray[np.float64], twist: NDArray[np.float64]) -> Any:
        """The truth: its covariances are zero. The twist is in the frame of the base, as the message says."""
        place = self._make(
            "geometry_msgs/msg/Pose", self._vector(pose[:3, 3], "Point"), self._quaternion(pose[:3, :3])
        )
        motion = self._make("geometry_msgs/msg/Twist", self._vector(twist[:3]), self._vector(twist[3:]))
        return self._make(
            "nav_msgs/msg/Odometry",
            self._header(stamp_ns, WORLD),
            BASE,
            self._make("geometry_msgs/msg/PoseWithCovariance", place, np.zeros(36)),
            self._make("geometry_msgs/msg/TwistWithCovariance", motion, np.zeros(36)),
        )

    def _imu(self, stamp_ns: int, gyro: NDArray[np.float64], accel: NDArray[np.float64]) -> Any:
        """Without an orientation, which a first covariance of -1 says (REP 145)."""
        model = self._rig.imu
        unknown = np.zeros(9)
        unknown[0] = -1.0
        return self._make(
            "sensor_msgs/msg/Imu",
            self._header(stamp_ns, IMU),
            self._vector(np.array((0.0, 0.0, 0.0, 1.0)), "Quaternion"),
            unknown,
            self._vector(gyro),
            np.eye(3).ravel() * model.gyroscope_noise_density**2 * model.update_rate,
            self._vector(accel),
            np.eye(3).ravel() * model.accelerometer_noise_density**2 * model.update_rate,
        )

    def _camera_info(self, header: Any) -> Any:
        width, height = self._rig.size
        k = np.asarray(self._rig.intrinsics, np.float64)
        return self._make(
            "sensor_msgs/msg/CameraInfo",
            header,
            height,
            width,
            "plumb_bob",
            np.asarray(self._rig.distortion, np.float64),
            k.ravel(),
            np.eye(3).ravel(),
            np.column_stack((k, np.zeros(3))).ravel(),
            0,
            0,
            self._make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False),
        )

    def _image(self, header: Any, pixels: NDArray[Any], encoding: str) -> Any:
        height, width = pixels.shape[:2]
        data = np.ascontiguousarray(pixels).view(np.uint8).ravel()
        return self._make(
            "sensor_msgs/msg/Image", header, height, width, encoding, 0, len(data) // height, data
        )


@contextmanager
def _writer_in_place(folder: Path, zstd: bool) -> Iterator[Any]:
    """An open rosbag2 writer whose finished folder takes the place of `folder`."""
    rosbag2 = require("rosbags.rosbag2")
    with folder_in_place(folder) as temporary:
        # The writer makes its own folder, and names the data file after it.
        made = temporary / folder.name
        writer = rosbag2.Writer(made, version=ROSBAG2_VERSION, storage_plugin=rosbag2.StoragePlugin.MCAP)
        if zstd:
            writer.set_compression(rosbag2.CompressionMode.STORAGE, rosbag2.CompressionFormat.ZSTD)
        writer.set_custom_data("source", "m2h simulation")
        with writer:
            yield writer
        for file in list(made.iterdir()):
            file.rename(temporary / file.name)
        made.rmdir()


def _qos(latched: bool) -> Any:
    """Reliable; kept for late readers if `latched`, as tf2 sends /tf_static."""
    ros = require("rosbags.interfaces")
    forever = ros.QosTime(0, 0)  # what rosbag2 writes for "no limit"
    return ros.Qos(
        ros.QosHistory.KEEP_LAST,
        1 if latched else 10,
        ros.QosReliability.RELIABLE,
        ros.QosDurability.TRANSIENT_LOCAL if latched else ros.QosDurability.VOLATILE,
        forever,
        forever,
        ros.QosLiveliness.AUTOMATIC,
        forever,
        False,
    )


def _base_twists(rig: Rig, trajectory: Trajectory, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 6) linear (m/s) and angular (rad/s) velocity of base_link in its own frame."""
    rotation = rig.base_from_optical[:3, :3]
    lever = inverse(rig.base_from_optical)[:3, 3]
    omega = trajectory.angular_velocity(times)
    world_from_camera = trajectory.poses(times)[:, :3, :3]
    velocity = np.einsum("nji,nj->ni", world_from_camera, trajectory.velocity(times))
    velocity += np.cross(omega, lever)
    return np.concatenate((velocity @ rotation.T, omega @ rotation.T), axis=1)


def _jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not done:
        raise InputError(f"image: {image.shape[1]}x{image.shape[0]} cannot be a JPEG; write raw images")
    return np.asarray(data, np.uint8).ravel()
