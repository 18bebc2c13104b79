from __future__ import annotations

import array

import cv2
import numpy as np
import pytest
from made_bags import jpeg, png
from tiny_engine import picture

from m2h_runtime.errors import CalibrationError, SourceError
from m2h_runtime.ros.camera_info import camera_info_beside, camera_model
from m2h_runtime.ros.images import decode_compressed, to_rgb

RGB = picture(3)
HEIGHT, WIDTH = RGB.shape[:2]
GRAY = RGB[..., 1].copy()
ALPHA = np.full((HEIGHT, WIDTH, 1), 77, np.uint8)


def plain(encoding: str, pixels: np.ndarray) -> np.ndarray:
    data = np.ascontiguousarray(pixels).tobytes()
    return to_rgb(encoding, HEIGHT, WIDTH, len(data) // HEIGHT, data)


@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [
        ("rgb8", RGB, RGB),
        ("bgr8", RGB[..., ::-1], RGB),
        ("rgba8", np.dstack([RGB, ALPHA]), RGB),
        ("bgra8", np.dstack([RGB[..., ::-1], ALPHA]), RGB),
        ("mono8", GRAY, np.dstack([GRAY] * 3)),
        ("8UC1", GRAY, np.dstack([GRAY] * 3)),
    ],
)
def test_encodings_come_as_the_very_same_rgb(encoding: str, pixels: np.ndarray, expected: np.ndarray) -> None:
    rgb = plain(encoding, pixels)
    assert (rgb.dtype, rgb.flags.c_contiguous) == (np.uint8, True)
    np.testing.assert_array_equal(rgb, expected)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_padding_between_rows_is_left_out(encoding: str) -> None:
    pixels = GRAY[..., None] if encoding == "mono8" else RGB
    rows = np.full((HEIGHT, WIDTH * pixels.shape[2] + 13), 99, np.uint8)
    rows[:, :-13] = pixels.reshape(HEIGHT, -1)
    padded = to_rgb(encoding, HEIGHT, WIDTH, rows.shape[1], rows.tobytes())
    np.testing.assert_array_equal(padded, plain(encoding, pixels))


def test_the_last_row_needs_no_padding() -> None:
    rows = np.zeros((HEIGHT, WIDTH * 3 + 5), np.uint8)
    rows[:, :-5] = RGB.reshape(HEIGHT, -1)
    np.testing.assert_array_equal(to_rgb("rgb8", HEIGHT, WIDTH, rows.shape[1], rows.tobytes()[:-5]), RGB)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda b: array.array("B", b)])
def test_any_buffer_will_do(make: type) -> None:
    np.testing.assert_array_equal(to_rgb("rgb8", HEIGHT, WIDTH, WIDTH * 3, make(RGB.tobytes())), RGB)


@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422", "UYVY"), ("uyvy", "UYVY"), ("yuv422_yuy2", "YUYV"), ("yuyv", "YUYV")],
)
def test_yuv_422_keeps_colours_apart(encoding: str, order: str) -> None:
    """A red and a blue half: swapped U and V, or Y in the wrong place, would show at once."""
    flat = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    flat[:, : WIDTH // 2], flat[:, WIDTH // 2 :] = (200, 30, 40), (20, 60, 210)
    y, v, u = cv2.split(cv2.cvtColor(flat, cv2.COLOR_RGB2YCrCb))
    # ITU-R BT.601 of limited range, as cameras send it.
    luma = np.round(y.astype(float) * 219 / 255 + 16).astype(np.uint8)
    chroma = [np.round((c.astype(float) - 128) * 224 / 255 + 128).astype(np.uint8)[:, ::2] for c in (u, v)]
    packed = np.zeros((HEIGHT, WIDTH, 2), np.uint8)
    first = order.index("Y") % 2
    packed[..., first] = luma
    packed[:, ::2, 1 - first], packed[:, 1::2, 1 - first] = chroma
    np.testing.assert_allclose(plain(encoding, packed).astype(int), flat.astype(int), atol=4)


@pytest.mark.parametrize(
    ("encoding", "rows"),
    [("bayer_rggb8", "RGGB"), ("bayer_bggr8", "BGGR"), ("bayer_gbrg8", "GBRG"), ("bayer_grbg8", "GRBG")],
)
def test_bayer_patterns_are_named_as_ros_names_them(encoding: str, rows: str) -> None:
    colour = {"R": 220, "G": 120, "B": 20}
    mosaic = np.tile(
        np.array([[colour[c] for c in rows[:2]], [colour[c] for c in rows[2:]]], np.uint8), (32, 48)
    )
    np.testing.assert_array_equal(plain(encoding, mosaic)[2:-2, 2:-2], np.full((60, 92, 3), (220, 120, 20)))


@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1", "rgb16", "bayer_rggb16", "", "jpeg"])
def test_other_than_8_bits_is_refused_with_a_list_of_what_will_do(encoding: str) -> None:
    with pytest.raises(SourceError, match=f"image encoding '{encoding}': .*publish one of rgb8, bgr8"):
        to_rgb(encoding, 2, 2, 4, bytes(8))


@pytest.mark.parametrize(
    ("height", "width", "step", "size"),
    [
        (64, 96, 288, 64 * 288 - 1),
        (64, 96, 287, 10**5),
        (0, 96, 288, 0),
        (64, 0, 0, 0),
        (10**6, 10**6, 3 * 10**6, 9),
    ],
)
def test_a_message_with_less_data_than_promised_is_refused(
    height: int, width: int, step: int, size: int
) -> None:
    with pytest.raises(SourceError, match="does not fit"):
        to_rgb("rgb8", height, width, step, bytes(size))


def test_yuv_of_an_odd_width_is_refused() -> None:
    with pytest.raises(SourceError, match="3x2 is no size for yuyv"):
        to_rgb("yuyv", 2, 3, 6, bytes(12))


def test_png_is_exact_and_jpeg_is_close() -> None:
    np.testing.assert_array_equal(decode_compressed(png(RGB)), RGB)
    flat = np.full((48, 64, 3), (200, 40, 90), np.uint8)
    np.testing.assert_allclose(decode_compressed(jpeg(flat)).astype(int), flat.astype(int), atol=3)


def test_the_padding_of_cameras_behind_a_jpeg_is_nothing() -> None:
    assert decode_compressed(jpeg(RGB) + bytes(5000)).shape == RGB.shape


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello" * 50,
        jpeg(RGB)[:-100],
        jpeg(RGB)[:300],
        png(RGB)[:60],
        cv2.imencode(".png", np.zeros((4, 4), np.uint16))[1].tobytes(),
    ],
    ids=["empty", "text", "jpeg-cut-late", "jpeg-cut-early", "png-cut", "png-16-bit"],
)
def test_what_is_no_whole_8_bit_image_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(SourceError, match="compressed image message: ") as error:
        decode_compressed(data)
    assert "\n" not in str(error.value)


# camera_info

K = [500.0, 0, 320, 0, 510.0, 240, 0, 0, 1]


def test_a_camera_info_is_a_camera_model() -> None:
    camera = camera_model(640, 480, "plumb_bob", [0.1, -0.2, 0.001, 0.002, 0.05], K)
    assert camera is not None
    assert (camera.size, camera.fx, camera.fy, camera.cx, camera.cy) == ((480, 640), 500, 510, 320, 240)
    assert camera.distortion == (0.1, -0.2, 0.001, 0.002, 0.05)


def test_zeros_say_that_a_camera_is_not_calibrated() -> None:
    assert camera_model(640, 480, "", [], [0.0] * 9) is None


@pytest.mark.parametrize(
    ("name", "d", "expected"),
    [
        ("", [], ("none", ())),
        ("plumb_bob", [], ("none", ())),
        ("plumb_bob", [0.0] * 5, ("plumb_bob", (0.0,) * 5)),
        ("plumb_bob", [0.0] * 8, ("none", ())),
        ("inverse_brown_conrady", [0.0] * 5, ("none", ())),
        ("fisheye", [0.1, 0, 0, 0], ("equidistant", (0.1, 0.0, 0.0, 0.0))),
        ("rational_polynomial", [0.1] * 8, ("rational_polynomial", (0.1,) * 8)),
    ],
)
def test_lens_models_as_drivers_write_them(
    name: str, d: list[float], expected: tuple[str, tuple[float, ...]]
) -> None:
    camera = camera_model(640, 480, name, d, K)
    assert camera is not None
    assert (camera.distortion_model, camera.distortion) == expected


def test_a_lens_model_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(CalibrationError, match="no lens model 'thin_prism'"):
        camera_model(640, 480, "thin_prism", [0.1], K)


@pytest.mark.parametrize(
    ("image", "info"),
    [
        ("/camera/color/image_raw", "/camera/color/camera_info"),
        ("/camera/color/image_raw/compressed", "/camera/color/camera_info"),
        ("image", "camera_info"),
        ("/image", "/camera_info"),
    ],
)
def test_camera_info_lies_beside_the_image(image: str, info: str) -> None:
    assert camera_info_beside(image) == info
