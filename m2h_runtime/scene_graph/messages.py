"""What a perception published, as a `Sighting`: depth, labels, colours and intrinsics of ROS messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.calibration.fit import stretched
from m2h_runtime.errors import CalibrationError, SourceError
from m2h_runtime.mapping.votes import NO_LABEL
from m2h_runtime.ros.camera_info import camera_model
from m2h_runtime.ros.images import decode_compressed, to_rgb
from m2h_runtime.scene_graph.sightings import Sighting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.label_space import LabelSpace

SAME_FRAME_NS = 1_000_000
"""Depth, labels and image with stamps that are so near belong together."""
_DEPTH = {"32FC1": (np.float32, 1.0), "16UC1": (np.uint16, 0.001), "mono16": (np.uint16, 0.001)}
_LABELS = {"mono8": np.uint8, "8UC1": np.uint8, "16SC1": np.int16, "16UC1": np.uint16, "32SC1": np.int32}


def stamp_of(message: Any) -> int:
    """The header's stamp, integer nanoseconds."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def camera_of(message: Any) -> CameraModel | None:
    """The intrinsics of a sensor_msgs/CameraInfo, of ROS 1 too; None if it is not calibrated or makes no sense."""
    old = hasattr(message, "K")  # ROS 1
    d, k = (message.D, message.K) if old else (message.d, message.k)
    try:
        return camera_model(message.width, message.height, message.distortion_model, d, k)
    except CalibrationError:
        return None


def sighting_from(
    depth: Any,
    labels: Any,
    rgb: Any | None,
    camera: CameraModel,
    world_from_camera: NDArray[np.float64],
    space: LabelSpace,
) -> Sighting:
    """What one image's messages say.

    Args:
        depth: sensor_msgs/Image, metres in 32FC1 or millimetres in 16UC1.
        labels: sensor_msgs/Image of class ids; -1 and 255: no class.
        rgb: sensor_msgs/Image or CompressedImage; None: the labels' colours do.
        camera: of any size; the images are taken for as many pixels of its picture.
        world_from_camera: float64 (4, 4).
        space: of the labels.

    Raises:
        SourceError: an encoding or a size is not what it should be, or a label is beyond the label space.
    """
    metres, ids = depth_of(depth), labels_of(labels)
    if ids.shape != metres.shape:
        raise SourceError(
            f"depth is {metres.shape[1]}x{metres.shape[0]}, labels are {ids.shape[1]}x{ids.shape[0]}; publish both "
            "at one size"
        )
    _check_ids(ids, space)
    image = space.palette[ids] if rgb is None else stretched(rgb_of(rgb), metres.shape)
    camera = camera.resized(metres.shape)
    return Sighting(metres, ids, image, camera, world_from_camera, stamp_of(depth))


def depth_of(message: Any) -> NDArray[np.float32]:
    """float32 (H, W), metres along the optical axis.

    Raises:
        SourceError: the encoding is none of depth, or the data do not fit the size.
    """
    kind, scale = _encoding(message, _DEPTH, "depth")
    return np.asarray(_pixels(message, kind) * np.float32(scale), np.float32)


def labels_of(message: Any) -> NDArray[np.uint8]:
    """uint8 (H, W), class ids; `NO_LABEL` (255) for every id that is below 0 or above 254.

    Raises:
        SourceError: the encoding is none of class ids, or the data do not fit the size.
    """
    ids = _pixels(message, _encoding(message, _LABELS, "labels"))
    if ids.dtype == np.uint8:
        return ids
    return np.where((ids >= 0) & (ids < NO_LABEL), ids, NO_LABEL).astype(np.uint8)


def rgb_of(message: Any) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of a sensor_msgs/Image or CompressedImage.

    Raises:
        SourceError: it is not 8-bit colour or gray, or cannot be decoded.
    """
    if hasattr(message, "encoding"):
        return to_rgb(message.encoding, message.height, message.width, message.step, message.data)
    return decode_compressed(message.data)


def _check_ids(ids: NDArray[np.uint8], space: LabelSpace) -> None:
    known = len(space.classes)
    largest = int(np.where(ids == NO_LABEL, 0, ids).max(initial=0))
    if largest >= known:
        raise SourceError(
            f"labels: id {largest} is not in label space {space.name}, which ends at {known - 1}; name the label "
            "space that is published"
        )


def _encoding(message: Any, known: Mapping[str, Any], what: str) -> Any:
    if message.encoding not in known:
        raise SourceError(
            f"{what}: the image's encoding is {message.encoding!r}; expected one of {', '.join(known)}"
        )
    return known[message.encoding]


def _pixels(message: Any, kind: Any) -> NDArray[Any]:
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    height, width, step = int(message.height), int(message.width), int(message.step)
    if min(height, width) < 1 or step < width * dtype.itemsize or len(message.data) != height * step:
        raise SourceError(
            f"image message: {width}x{height} {message.encoding} with a step of {step} bytes does not fit its "
            f"{len(message.data)} bytes of data; look at the node that publishes it"
        )
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)
    used = np.ascontiguousarray(rows[:, : width * dtype.itemsize])
    return np.asarray(used.view(dtype).reshape(height, width))
