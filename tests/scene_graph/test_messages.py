"""Images of a perception as anybody may publish them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.errors import SourceError
from m2h_runtime.label_space import load_label_space
from m2h_runtime.scene_graph.messages import camera_of, depth_of, labels_of, sighting_from

CAMERA = CameraModel(12, 8, 10.0, 10.0, 5.5, 3.5)
SPACE = load_label_space("nyud20")
METRES = np.array([[0.5, 1.0, 0.0], [2.0, 65.0, 3.25]], np.float32)
IDS = np.array([[0, 1, 20], [4, 5, 6]], np.uint8)


def image(pixels: np.ndarray[Any, Any], encoding: str, padding: int = 0, **changes: Any) -> SimpleNamespace:
    """A sensor_msgs/Image; each row is followed by `padding` bytes."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    fields: dict[str, Any] = {
        "header": SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=5)),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "encoding": encoding,
        "is_bigendian": 0,
        "step": data.shape[1],
        "data": data.tobytes(),
    }
    return SimpleNamespace(**(fields | changes))


@pytest.mark.parametrize(
    "message",
    [
        image(METRES, "32FC1"),
        image(METRES, "32FC1", padding=5),
        image(METRES.astype(">f4"), "32FC1", is_bigendian=1),
        image((METRES * 1000).astype(np.uint16), "16UC1"),
    ],
    ids=["metres", "padded", "big-endian", "millimetres"],
)
def test_depth_is_metres(message: SimpleNamespace) -> None:
    depth = depth_of(message)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, METRES, atol=1e-3)


def test_labels_below_zero_and_too_large_are_no_class() -> None:
    signed = np.array([[-1, 0, 20], [254, 255, 300]], np.int16)
    assert labels_of(image(signed, "16SC1")).tolist() == [[255, 0, 20], [254, 255, 255]]
    assert labels_of(image(IDS, "mono8", padding=3)).tolist() == IDS.tolist()


def test_without_a_picture_the_labels_colours_do() -> None:
    depth, labels = image(METRES, "32FC1"), image(np.full_like(IDS, 255), "mono8")
    sighting = sighting_from(depth, labels, None, CAMERA, np.eye(4), SPACE)
    assert not sighting.rgb.any()
    sighting = sighting_from(depth, image(IDS, "mono8"), None, CAMERA, np.eye(4), SPACE)
    assert sighting.rgb[0, 2].tolist() == list(SPACE.colors[20])
    assert (sighting.camera.width, sighting.camera.fx) == (3, 2.5)
    assert sighting.stamp_ns == 3_000_000_005


@pytest.mark.parametrize(
    ("depth", "labels", "text"),
    [
        (image(METRES, "32FC3"), image(IDS, "mono8"), "depth: the image's encoding is '32FC3'"),
        (image(METRES, "32FC1"), image(IDS, "rgb8"), "labels: the image's encoding is 'rgb8'"),
        (image(METRES, "32FC1"), image(IDS[:1], "mono8"), "depth is 3x2, labels are 3x1"),
        (image(METRES, "32FC1", data=b"12"), image(IDS, "mono8"), "does not fit its 2 bytes of data"),
        (image(METRES, "32FC1", step=3), image(IDS, "mono8"), "with a step of 3 bytes does not fit"),
        (image(METRES, "32FC1"), image(IDS + 1, "mono8"), "id 21 is not in label space nyud20"),
    ],
)
def test_what_cannot_be_mapped_is_one_line(
    depth: SimpleNamespace, labels: SimpleNamespace, text: str
) -> None:
    with pytest.raises(SourceError, match=text):
        sighting_from(depth, labels, None, CAMERA, np.eye(4), SPACE)


def test_a_camera_that_is_not_calibrated_is_none() -> None:
    zeros = SimpleNamespace(width=12, height=8, distortion_model="plumb_bob", d=[], k=[0.0] * 9)
    assert camera_of(zeros) is None
    odd = SimpleNamespace(width=12, height=8, distortion_model="spherical", d=[1.0], k=[1.0] * 9)
    assert camera_of(odd) is None
