from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from stand_ins import observation
from tiny_engine import LABELS, picture, twin

from m2h_runtime.engine.manifest import read_manifest
from m2h_runtime.errors import InputError, SinkError
from m2h_runtime.frame import Frame
from m2h_runtime.sinks import ContactSheetSink, VideoFileSink, check_writable
from m2h_runtime.sinks.render import (
    BAR,
    DepthRange,
    depth_picture,
    edges_picture,
    legend,
    normals_picture,
    panel,
    semantics_picture,
    tiles,
)

if TYPE_CHECKING:
    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.sinks import Observation


@pytest.fixture
def manifest(tiny_engine: Path) -> Manifest:
    return read_manifest(tiny_engine)


@pytest.fixture
def random_manifest(manifest: Manifest) -> Manifest:
    return replace(manifest, checkpoint=replace(manifest.checkpoint, random_weights=True))


def numbered(sequence: int, stamp_ns: int | None = None, size: tuple[int, int] = (120, 160)) -> Observation:
    stamp_ns = 40_000_000 * sequence if stamp_ns is None else stamp_ns
    frame = Frame(np.full((*size, 3), 8 * sequence + 20, np.uint8), stamp_ns, sequence)
    return observation(frame, twin(picture(sequence)), 25.0)


def brightness(path: Path) -> list[float]:
    """The RGB tile of every frame of a recorded panel, as its mean."""
    capture = cv2.VideoCapture(str(path))
    values = []
    while (read := capture.read())[0]:
        values.append(float(read[1][BAR + 60 : BAR + 200, 20:300].mean()))
    return values


# Pictures


def test_near_is_light_and_far_is_dark_and_nothing_is_black() -> None:
    depth = np.array([[1.0, 2.0, 4.0, np.nan, np.inf, 0.0, -1.0]], np.float32)
    light = depth_picture(depth, 1.0, 4.0).astype(int).sum(axis=-1)[0]
    assert light[0] > light[1] > light[2] > light[3]
    assert light[3:].tolist() == [0, 0, 0, 0]


def test_depth_colours_step_evenly_in_inverse_depth() -> None:
    inverse = np.linspace(0.25, 1.0, 200, dtype=np.float32)
    levels = cv2.cvtColor(depth_picture(1 / inverse[None], 1.0, 4.0), cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert np.all(np.diff(levels) >= -1)
    assert levels[-1] - levels[0] > 200


def test_the_depth_range_leaves_outliers_out_and_moves_slowly() -> None:
    scene = np.linspace(1, 3, 64 * 96, dtype=np.float32).reshape(64, 96)
    scene[0, 0] = 0.001
    span = DepthRange(inertia=0.9)
    near, far = span.update(scene)
    assert (near, far) == pytest.approx((1.0, 2.9), abs=0.05)
    nearer, _ = span.update(scene / 2)
    assert nearer == pytest.approx(1 / (0.9 / near + 0.1 * 2 / near), rel=1e-3)
    for _ in range(100):
        settled, _ = span.update(scene / 2)
    assert settled == pytest.approx(near / 2, rel=1e-3)


def test_a_depth_map_without_any_number_is_black() -> None:
    nothing = np.full((64, 96), np.nan, np.float32)
    assert not depth_picture(nothing, *DepthRange().update(nothing)).any()


def test_semantics_are_in_the_label_spaces_colours() -> None:
    ids = np.array([[0, 1, 7]], np.uint8)
    shown = semantics_picture(ids, LABELS.palette)
    assert shown[0].tolist() == [list(LABELS.colors[0]), list(LABELS.colors[1]), [0, 0, 0]]


def test_normals_right_up_and_towards_the_camera_are_red_green_blue() -> None:
    normals = np.array([[[1, 0, 0], [0, -1, 0], [0, 0, -1], [np.nan] * 3]], np.float32)
    shown = normals_picture(normals)[0].astype(int)
    for column, strong in enumerate((0, 1, 2)):
        weak = np.delete(shown[column], strong)
        assert shown[column][strong] == 255
        assert np.all(np.abs(weak - 128) <= 1)


def test_edges_are_gray() -> None:
    assert edges_picture(np.array([[0, 99, 255]], np.uint8))[0].tolist() == [[0] * 3, [99] * 3, [255] * 3]


def test_tiles_keep_the_cameras_aspect_and_class_colours_unmixed() -> None:
    made = tiles(numbered(1, size=(90, 160)), DepthRange(), width=320)
    assert {tile.shape for tile in made.values()} == {(180, 320, 3)}
    colors = {tuple(color) for color in made["semantics"].reshape(-1, 3).tolist()}
    assert colors <= set(LABELS.colors)
    assert "m" in list(made)[1]


def test_a_legend_names_the_largest_class_first() -> None:
    ids = np.zeros((64, 96), np.uint8)
    ids[:10] = 1
    shown = legend(ids, LABELS, 120, 160)
    assert tuple(shown[12, 14].tolist()) == LABELS.colors[0]
    assert tuple(shown[30, 14].tolist()) == LABELS.colors[1]
    assert len(np.unique(shown[48, 14])) == 1, "no third row"


def test_random_weights_are_written_across_the_panel(manifest: Manifest, random_manifest: Manifest) -> None:
    seen = numbered(1)
    trained = panel(seen, tiles(seen, DepthRange()), manifest, "numpy")
    random = panel(seen, tiles(seen, DepthRange()), random_manifest, "numpy")
    assert trained.shape == (BAR + 2 * 240, 960, 3)
    assert random.shape == (2 * BAR + 2 * 240, 960, 3)
    red = (random[BAR : 2 * BAR] == (200, 0, 0)).all(axis=-1)
    assert red.mean() > 0.8
    assert not (trained == (200, 0, 0)).all(axis=-1).any()


def test_the_title_shows_the_rate(manifest: Manifest) -> None:
    seen = numbered(1)
    shown = tiles(seen, DepthRange())
    slow = panel(replace(seen, fps=3.0), shown, manifest, "numpy")
    fast = panel(replace(seen, fps=88.0), shown, manifest, "numpy")
    assert (slow[:BAR] != fast[:BAR]).any()
    assert (slow[BAR:] == fast[BAR:]).all()


# The recording


def test_a_recording_has_every_frame_and_appears_when_closed(tmp_path: Path, manifest: Manifest) -> None:
    path = tmp_path / "run.mp4"
    sink = VideoFileSink(path, manifest, "numpy", 25.0)
    for sequence in range(12):
        sink.write(numbered(sequence))
        assert not path.exists()
    sink.close()
    assert [p.name for p in tmp_path.iterdir()] == ["run.mp4"]
    assert brightness(path) == pytest.approx([8 * i + 20 for i in range(12)], abs=6)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == 25.0


def test_a_recording_stands_still_where_frames_were_dropped(tmp_path: Path, manifest: Manifest) -> None:
    sink = VideoFileSink(tmp_path / "run.mp4", manifest, "numpy", 25.0)
    for sequence in (0, 1, 5, 6):  # 2, 3 and 4 were dropped
        sink.write(numbered(sequence))
    sink.close()
    assert brightness(tmp_path / "run.mp4") == pytest.approx([20, 28, 28, 28, 28, 60, 68], abs=6)


def test_a_long_gap_is_one_second(tmp_path: Path, manifest: Manifest) -> None:
    sink = VideoFileSink(tmp_path / "run.mp4", manifest, "numpy", 10.0)
    sink.write(numbered(0, 0))
    sink.write(numbered(1, 3600 * 10**9))
    sink.close()
    assert len(brightness(tmp_path / "run.mp4")) == 11


def test_images_of_several_sizes_fit_one_recording(tmp_path: Path, manifest: Manifest) -> None:
    sink = VideoFileSink(tmp_path / "run.mp4", manifest, "numpy", 25.0)
    sink.write(numbered(0))
    sink.write(numbered(1, size=(200, 100)))
    sink.close()
    assert len(brightness(tmp_path / "run.mp4")) == 2


def test_an_aborted_recording_leaves_what_was_there(tmp_path: Path, manifest: Manifest) -> None:
    path = tmp_path / "run.mp4"
    path.write_bytes(b"the one of yesterday")
    sink = VideoFileSink(path, manifest, "numpy", 25.0)
    sink.write(numbered(0))
    sink.abort()
    assert [p.name for p in tmp_path.iterdir()] == ["run.mp4"]
    assert path.read_bytes() == b"the one of yesterday"


def test_a_recording_without_frames_is_no_file(tmp_path: Path, manifest: Manifest) -> None:
    VideoFileSink(tmp_path / "run.mp4", manifest, "numpy", 25.0).close()
    assert not list(tmp_path.iterdir())


def test_a_cut_off_recording_is_not_put_in_place(tmp_path: Path, manifest: Manifest) -> None:
    """What a full disk does, before OpenCV 5 could tell."""
    sink = VideoFileSink(tmp_path / "run.mp4", manifest, "numpy", 25.0)
    sink.write(numbered(0))
    sink._written += 1  # one that never reached the file
    with pytest.raises(SinkError, match=r"run\.mp4: the recording cannot be written"):
        sink.close()
    sink.abort()
    assert not list(tmp_path.iterdir())


# The contact sheet


@pytest.mark.parametrize(("frames", "shown"), [(1, 1), (4, 4), (6, 6), (7, 6), (1000, 6)])
def test_a_sheet_has_a_row_per_frame(tmp_path: Path, manifest: Manifest, frames: int, shown: int) -> None:
    sink = ContactSheetSink(tmp_path / "sheet.png", manifest, "numpy")
    one = numbered(0)
    for sequence in range(frames):
        sink.write(replace(one, frame=replace(one.frame, sequence=sequence)))
        assert len(sink._kept) <= 12
    sink.close()
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (BAR + shown * 192, 5 * 256, 3)


def test_a_sheets_frames_are_spread_evenly(tmp_path: Path, manifest: Manifest) -> None:
    """Each frame is one brightness, so the sheet tells which it took."""
    sink = ContactSheetSink(tmp_path / "sheet.png", manifest, "numpy")
    for sequence in range(200):
        frame = Frame(np.full((120, 160, 3), sequence, np.uint8), 0, sequence)
        sink.write(observation(frame, twin(picture(0))))
    sink.close()
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    taken = [int(sheet[BAR + 192 * row + 100, 128, 0]) for row in range(6)]
    assert taken[0] == 0
    assert taken[-1] >= 160
    steps = np.diff(taken)
    assert steps.min() > 0
    assert steps.max() <= 2 * steps.min()


def test_a_sheet_shows_the_outputs_in_their_columns(tmp_path: Path, random_manifest: Manifest) -> None:
    sink = ContactSheetSink(tmp_path / "sheet.png", random_manifest, "numpy")
    seen = numbered(3)
    sink.write(seen)
    sink.close()
    sheet = cv2.cvtColor(cv2.imread(str(tmp_path / "sheet.png")), cv2.COLOR_BGR2RGB)
    below_captions = slice(2 * BAR + 24, None)  # title and red bar above
    right = tiles(seen, DepthRange(), 256)
    for column, tile in enumerate(right.values()):
        np.testing.assert_array_equal(sheet[below_captions, 256 * column : 256 * (column + 1)], tile[24:])


# Places that cannot be written


@pytest.mark.parametrize("place", ["missing/run", "file/run", "/proc/run"])
def test_a_place_that_cannot_be_written_is_found_before_the_run(
    tmp_path: Path, place: str, manifest: Manifest
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / place
    with pytest.raises(SinkError, match="cannot be written"):
        check_writable(path)
    with pytest.raises(SinkError, match="cannot be written"):
        VideoFileSink(path.with_suffix(".mp4"), manifest, "numpy", None)
    with pytest.raises(SinkError, match="cannot be written"):
        ContactSheetSink(path.with_suffix(".png"), manifest, "numpy")


def test_checking_a_place_leaves_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("kept")
    check_writable(tmp_path / "old.json")
    check_writable(tmp_path / "new.json")
    assert [p.name for p in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "kept"


@pytest.mark.parametrize("path", ["/dev/null", "/proc"])
def test_a_folder_or_device_is_no_output_file(path: str) -> None:
    with pytest.raises(SinkError, match="is a folder or a device"):
        check_writable(Path(path))


def test_other_file_formats_are_refused(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(InputError, match=r"call it run\.mp4"):
        VideoFileSink(tmp_path / "run.avi", manifest, "numpy", None)
    with pytest.raises(InputError, match=r"call it sheet\.png"):
        ContactSheetSink(tmp_path / "sheet.jpg", manifest, "numpy")
