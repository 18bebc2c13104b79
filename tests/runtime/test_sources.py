from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from conftest import VIDEO_FPS, VIDEO_FRAMES, VIDEO_SIZE
from tiny_engine import picture

from m2h_runtime.clocks import epoch_ns
from m2h_runtime.errors import InputError, SourceError
from m2h_runtime.sources import CameraSource, EndOfStream, ImagesSource, PacedSource, Source, VideoSource
from m2h_runtime.sources import camera as camera_module

if TYPE_CHECKING:
    from m2h_runtime.frame import Frame


def read_all(source: Source) -> list[Frame]:
    frames: list[Frame] = []
    try:
        while True:
            frame = source.read(1.0)
            assert frame is not None, "a recording never makes its reader wait"
            frames.append(frame)
    except EndOfStream:
        return frames


# Video


def test_video_gives_every_frame_in_order_with_the_containers_stamps(video: Path) -> None:
    with VideoSource(video) as source:
        frames = read_all(source)
        assert source.fps == VIDEO_FPS
        assert f"{VIDEO_SIZE[1]}x{VIDEO_SIZE[0]}" in source.describe()
    assert [frame.sequence for frame in frames] == list(range(VIDEO_FRAMES))
    assert [frame.stamp_ns for frame in frames] == [i * 40_000_000 for i in range(VIDEO_FRAMES)]
    brightness = [float(frame.image.mean()) for frame in frames]
    assert brightness == pytest.approx([8 * i + 20 for i in range(VIDEO_FRAMES)], abs=5)  # the codec rounds
    assert np.all(np.diff(brightness) > 4)


def test_video_is_rgb(tmp_path: Path) -> None:
    path = tmp_path / "red.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(3):
        writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))  # BGR
    writer.release()
    with VideoSource(path) as source:
        red, green, blue = read_all(source)[0].image.reshape(-1, 3).mean(axis=0)
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100], ids=["empty", "text"])
def test_a_file_that_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"broken\.mp4: no frame"):
        VideoSource(path)


def test_a_video_cut_off_in_its_middle_is_an_error(tmp_path: Path, video: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"cut\.mp4: no frame"):
        VideoSource(path)


def test_a_missing_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nothing\.mp4: no such video"):
        VideoSource(tmp_path / "nothing.mp4")


# Images


def test_images_come_sorted_with_names_and_exact_pixels(photographs: Path) -> None:
    frames = read_all(ImagesSource(str(photographs / "*.png")))
    assert [frame.name for frame in frames] == [f"photo_{i}.png" for i in range(4)]
    assert [frame.stamp_ns for frame in frames] == [0, 100_000_000, 200_000_000, 300_000_000]
    for seed, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, picture(seed))


def test_gray_is_replicated(tmp_path: Path) -> None:
    gray = picture(1)[..., 0]
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    (frame,) = read_all(ImagesSource(str(tmp_path / "*")))
    np.testing.assert_array_equal(frame.image, np.stack([gray] * 3, axis=-1))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    rgb = picture(2)
    bgra = np.dstack([rgb[..., ::-1], np.zeros(rgb.shape[:2], np.uint8)])
    cv2.imwrite(str(tmp_path / "alpha.png"), bgra)
    (frame,) = read_all(ImagesSource(str(tmp_path / "*")))
    np.testing.assert_array_equal(frame.image, rgb)


def test_a_photograph_taken_sideways_comes_upright(tmp_path: Path) -> None:
    """EXIF orientation 6: the camera was turned, the picture has to be turned clockwise."""
    sideways = np.zeros((64, 96, 3), np.uint8)
    sideways[:, :48] = 255  # left half white; upright, that is the upper half
    jpeg = cv2.imencode(".jpg", sideways)[1].tobytes()
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "phone.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    (frame,) = read_all(ImagesSource(str(tmp_path / "*")))
    assert frame.image.shape == (96, 64, 3)
    assert frame.image[:40].mean() > 250
    assert frame.image[56:].mean() < 5


@pytest.mark.parametrize(
    ("name", "image", "said"),
    [
        ("deep.png", np.zeros((5, 7, 3), np.uint16), r"deep\.png: uint16 \(5, 7, 3\)"),
        ("deep_gray.png", np.zeros((5, 7), np.uint16), r"deep_gray\.png: uint16 \(5, 7\)"),
        ("float.tiff", np.zeros((5, 7, 3), np.float32), r"float\.tiff: float32 \(5, 7, 3\)"),
    ],
)
def test_other_than_8_bits_is_refused(tmp_path: Path, name: str, image: np.ndarray, said: str) -> None:
    assert cv2.imwrite(str(tmp_path / name), image)
    with pytest.raises(SourceError, match=said + ".*convert it to 8 bits"):
        ImagesSource(str(tmp_path / "*")).read(1.0)


@pytest.mark.parametrize("content", [b"", b"hello" * 50], ids=["empty", "text"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"notes\.png: not an image"):
        ImagesSource(str(tmp_path / "*.png")).read(1.0)


def test_a_photograph_that_was_cut_off_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.jpg").write_bytes(cv2.imencode(".jpg", picture(0))[1].tobytes()[:-200])
    with pytest.raises(SourceError, match=r"half\.jpg: .* its end is missing"):
        ImagesSource(str(tmp_path / "*.jpg")).read(1.0)


def test_a_pattern_that_fits_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SourceError, match="no image file fits"):
        ImagesSource(str(tmp_path / "*.png"))


# Playing a recording at its own pace


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000

    def clock(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(1e9 * seconds)


def test_a_paced_recording_is_released_when_due_and_stamped_then(video: Path) -> None:
    time = Time()
    stamps_ns = []
    with PacedSource(VideoSource(video), time.clock, time.sleep) as source:
        assert source.live
        for index in range(3):
            frame = source.read(1.0)
            assert frame is not None
            assert frame.taken_ns == time.now_ns == 5_000_000_000 + index * 40_000_000
            assert frame.sequence == index
            stamps_ns.append(frame.stamp_ns)
    assert np.diff(stamps_ns).tolist() == [40_000_000] * 2
    assert stamps_ns[0] == pytest.approx(epoch_ns(5_000_000_000), abs=1e9)


def test_a_paced_frame_that_is_not_due_in_time_comes_later(photographs: Path) -> None:
    time = Time()
    source = PacedSource(ImagesSource(str(photographs / "*.png")), time.clock, time.sleep)  # 100 ms apart
    assert source.read(0.03) is not None
    waits = [source.read(0.03) for _ in range(3)]
    assert waits == [None] * 3
    frame = source.read(0.03)
    assert frame is not None
    assert frame.sequence == 1
    assert time.now_ns == 5_100_000_000


def test_a_paced_recording_never_waits_for_a_late_reader(video: Path) -> None:
    time = Time()
    source = PacedSource(VideoSource(video), time.clock, time.sleep)
    source.read(1.0)
    time.sleep(0.15)  # longer than 0.2 s would be a new beginning
    before_ns = time.now_ns
    for index in range(1, 4):
        frame = source.read(1.0)
        assert frame is not None
        assert frame.taken_ns == 5_000_000_000 + index * 40_000_000  # when it was due, so that its age shows
    assert time.now_ns == before_ns


# Camera: OpenCV's end of it is a stand-in, the file that stands for the device is real


class FakeCapture:
    """cv2.VideoCapture of a camera: BGR images, each stamped by the driver 7 ms before it arrives."""

    def __init__(self, time: Time, images: list[np.ndarray | None], size: tuple[int, int] = (48, 64)) -> None:
        self.time = time
        self.images = images
        self.values = {
            cv2.CAP_PROP_FRAME_HEIGHT: size[0],
            cv2.CAP_PROP_FRAME_WIDTH: size[1],
            cv2.CAP_PROP_FPS: 30.0,
        }
        self.fixed_size = False
        self.asked: list[int] = []
        self.opened = True
        self.released = False
        self.driver_lag_s = 0.007

    def isOpened(self) -> bool:  # noqa: N802
        return self.opened

    def get(self, prop: int) -> float:
        if prop == cv2.CAP_PROP_POS_MSEC:
            return self.time.now_ns / 1e6 - 1e3 * self.driver_lag_s
        return self.values.get(prop, 0.0)

    def set(self, prop: int, value: float) -> bool:
        self.asked.append(prop)
        if not (self.fixed_size and prop in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)):
            self.values[prop] = value
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.time.sleep(0.033)
        image = self.images.pop(0) if self.images else None
        return image is not None, image

    def release(self) -> None:
        self.released = True


@pytest.fixture
def device(tmp_path: Path) -> str:
    path = tmp_path / "video0"
    path.touch()
    return str(path)


def open_camera(
    monkeypatch: pytest.MonkeyPatch, fake: FakeCapture, device: str, **options: Any
) -> CameraSource:
    monkeypatch.setattr(camera_module.cv2, "VideoCapture", lambda *_: fake)
    return CameraSource(device, clock=fake.time.clock, **options)


def test_camera_frames_are_rgb_with_the_drivers_stamp(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    blue_bgr = np.full((48, 64, 3), (255, 0, 0), np.uint8)
    fake = FakeCapture(Time(), [blue_bgr, blue_bgr])
    source = open_camera(monkeypatch, fake, device)
    assert source.live
    for sequence in range(2):
        frame = source.read(0.1)
        assert frame is not None
        assert frame.sequence == sequence
        assert frame.taken_ns == pytest.approx(fake.time.now_ns - 7_000_000, abs=1000)
        assert frame.stamp_ns == pytest.approx(epoch_ns(frame.taken_ns), abs=1e9), (
            "what is published is ROS's time"
        )
        assert frame.image[0, 0].tolist() == [0, 0, 255]


def test_a_driver_stamp_of_another_clock_is_not_used(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    fake = FakeCapture(Time(), [np.zeros((48, 64, 3), np.uint8)])
    fake.driver_lag_s = -1e9
    frame = open_camera(monkeypatch, fake, device).read(0.1)
    assert frame is not None
    assert frame.taken_ns == fake.time.now_ns


def test_a_camera_that_stops_delivering_is_an_error(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    fake = FakeCapture(Time(), [image, None, image])
    source = open_camera(monkeypatch, fake, device)
    assert source.read(0.0) is not None
    assert source.read(0.0) is None, "one failed read is not yet the end"
    assert source.read(0.0) is not None
    last_ns = fake.time.now_ns
    with pytest.raises(SourceError, match="stopped delivering"):
        for _ in range(100):
            assert source.read(0.0) is None
    assert 2.0 < (fake.time.now_ns - last_ns) / 1e9 < 2.1


def test_an_unplugged_camera_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    fake = FakeCapture(Time(), [np.zeros((48, 64, 3), np.uint8), None])
    source = open_camera(monkeypatch, fake, device)
    assert source.read(0.0) is not None
    last_ns = fake.time.now_ns
    Path(device).unlink()
    with pytest.raises(SourceError, match="it is gone"):
        source.read(0.0)
    assert (fake.time.now_ns - last_ns) / 1e9 < 0.1


def test_a_camera_that_comes_back_is_opened_again_with_no_handle_left(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        fake = FakeCapture(Time(), [np.zeros((48, 64, 3), np.uint8)])
        with open_camera(monkeypatch, fake, device) as source:
            assert source.read(0.0) is not None
        assert fake.released
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_camera_is_asked_for_its_pixel_format_before_its_size(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    fake = FakeCapture(Time(), [])
    open_camera(monkeypatch, fake, device, size=(720, 1280), pixel_format="YUYV")
    assert fake.asked.index(cv2.CAP_PROP_FOURCC) < fake.asked.index(cv2.CAP_PROP_FRAME_WIDTH)
    assert fake.values[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"YUYV")


def test_a_camera_without_that_pixel_format_says_what_it_gives(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    fake = FakeCapture(Time(), [])
    fake.set = lambda *_: False  # type: ignore[method-assign]
    fake.values[cv2.CAP_PROP_FOURCC] = cv2.VideoWriter.fourcc(*"MJPG")
    with pytest.raises(
        SourceError, match="asked for the pixel format YUYV, the camera gives MJPG; `v4l2-ctl"
    ):
        open_camera(monkeypatch, fake, device, pixel_format="YUYV")
    assert fake.released


def test_a_pixel_format_is_four_letters(device: str) -> None:
    with pytest.raises(InputError, match="pixel format 'JPEG2': give four letters"):
        CameraSource(device, pixel_format="JPEG2")


def test_a_camera_is_asked_for_size_and_rate(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    fake = FakeCapture(Time(), [])
    source = open_camera(monkeypatch, fake, device, size=(720, 1280), fps=60)
    assert (source.size, source.fps) == ((720, 1280), 60)
    assert source.describe() == f"camera {device}, 1280x720 at 60 FPS"


def test_a_camera_without_that_size_is_closed_again(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    fake = FakeCapture(Time(), [])
    fake.fixed_size = True
    with pytest.raises(SourceError, match="asked for 1280x720, the camera gives 64x48"):
        open_camera(monkeypatch, fake, device, size=(720, 1280))
    assert fake.released


def test_a_device_that_opencv_cannot_open_is_closed_again(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    fake = FakeCapture(Time(), [])
    fake.opened = False
    with pytest.raises(SourceError, match="not a camera, or another program has it"):
        open_camera(monkeypatch, fake, device)
    assert fake.released


def test_a_missing_camera_is_named_by_path() -> None:
    with pytest.raises(SourceError, match="/dev/video93: no such camera"):
        CameraSource("93")


def test_a_device_that_is_no_camera_is_refused_by_the_real_opencv() -> None:
    with pytest.raises(SourceError, match="/dev/null: not a camera"):
        CameraSource("/dev/null")
