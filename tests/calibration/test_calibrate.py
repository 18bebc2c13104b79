"""Calibrating with rendered photographs of boards, whose camera is known; and m2h-calibrate as its user meets it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from rendered import CHARUCO, CHESSBOARD, FISHEYE, PINHOLE, photographs

from m2h_runtime.calibration.board import Board
from m2h_runtime.calibration.calibration import load_calibration
from m2h_runtime.calibration.solve import solve
from m2h_runtime.calibration.views import View, choose, see
from m2h_runtime.cli.calibrate import main
from m2h_runtime.errors import CalibrationError

if TYPE_CHECKING:
    from m2h_runtime.calibration.camera import CameraModel

ROOT = Path(__file__).resolve().parents[2]


def views_of(board: Board, images: list[np.ndarray]) -> list[View]:
    seen = (see(board, image, f"{index}") for index, image in enumerate(images))
    return [view for view in seen if view is not None]


@pytest.fixture(scope="module")
def chessboard_views() -> list[View]:
    return views_of(CHESSBOARD, list(photographs(CHESSBOARD, PINHOLE, 24)))


def assert_same_camera(found: CameraModel, true: CameraModel) -> None:
    assert found.size == true.size
    assert found.fx == pytest.approx(true.fx, rel=0.005)
    assert found.fy == pytest.approx(true.fy, rel=0.005)
    assert (found.cx, found.cy) == pytest.approx((true.cx, true.cy), abs=1.5)


def test_a_chessboard_gives_the_true_camera(chessboard_views: list[View]) -> None:
    solution = solve(choose(chessboard_views), CHESSBOARD, PINHOLE.size, "plumb_bob")
    assert_same_camera(solution.camera, PINHOLE)
    assert solution.rms_px < 0.3
    assert not solution.dropped
    for name, value in zip(solution.values, (520, 515, 331, 228, -0.25, 0.09, 0.001, -0.0008), strict=True):
        assert abs(solution.values[name] - value) < 5 * solution.deviations[name]


def test_a_fisheye_gives_the_true_camera() -> None:
    views = views_of(CHARUCO, list(photographs(CHARUCO, FISHEYE, 20)))
    solution = solve(choose(views), CHARUCO, FISHEYE.size, "equidistant")
    assert_same_camera(solution.camera, FISHEYE)
    assert solution.rms_px < 0.3


def test_the_standard_deviations_are_opencvs(chessboard_views: list[View]) -> None:
    solution = solve(chessboard_views, CHESSBOARD, PINHOLE.size, "plumb_bob")
    points = [CHESSBOARD.points[view.corners.ids].astype(np.float32) for view in solution.views]
    pixels = [view.corners.pixels.astype(np.float32) for view in solution.views]
    extended = cv2.calibrateCameraExtended(points, pixels, (640, 480), None, None, flags=cv2.CALIB_FIX_K3)
    assert list(solution.deviations.values()) == pytest.approx(np.ravel(extended[5])[:8], rel=0.02)


def test_a_view_that_contradicts_the_others_is_dropped(chessboard_views: list[View]) -> None:
    bent = chessboard_views[5]
    wave = 3 * np.sin(np.arange(len(bent.corners.ids)))
    wrong = View("bent", bent.corners._replace(pixels=bent.corners.pixels + wave[:, None]), 0.4, bent.pose)
    views = [*chessboard_views[:5], wrong, *chessboard_views[6:]]
    solution = solve(views, CHESSBOARD, PINHOLE.size, "plumb_bob")
    assert [view.name for view, _ in solution.dropped] == ["bent"]
    assert_same_camera(solution.camera, PINHOLE)


def test_views_that_are_the_same_are_taken_once_and_blurred_ones_never(chessboard_views: list[View]) -> None:
    assert len(choose(chessboard_views * 3)) <= len(chessboard_views)
    blurred = [View("blurred", v.corners, v.sharpness / 3, v.pose + 0.2) for v in chessboard_views[:3]]
    assert "blurred" not in {view.name for view in choose([*chessboard_views, *blurred])}
    few = choose(chessboard_views, most=9)
    assert len(few) == 9
    spread = np.ptp([view.pose for view in few], axis=0)
    assert np.all(spread > 0.6 * np.ptp([view.pose for view in chessboard_views], axis=0))


def test_motion_blur_in_one_direction_makes_a_view_less_sharp() -> None:
    image = next(photographs(CHESSBOARD, PINHOLE, 1))
    sharp = see(CHESSBOARD, image, "")
    smeared = see(CHESSBOARD, cv2.blur(image, (7, 1)), "")
    assert sharp is not None
    assert smeared is not None
    assert smeared.sharpness < 0.7 * sharp.sharpness


def test_part_of_a_charuco_board_is_enough_but_a_row_is_not() -> None:
    image = next(photographs(CHARUCO, PINHOLE, 1))
    whole = CHARUCO.find(image)
    assert whole is not None
    columns, rows = CHARUCO.corners
    grid = {int(i): p for i, p in zip(whole.ids, whole.pixels, strict=True)}
    assert len(grid) == columns * rows
    covered = image.copy()
    covered[:, : int(grid[3][0])] = 90
    part = CHARUCO.find(covered)
    assert part is not None
    assert 8 <= len(part.ids) < columns * rows
    for index, pixel in zip(part.ids, part.pixels, strict=True):
        assert pixel == pytest.approx(grid[int(index)], abs=0.5)


def test_too_few_views_are_refused_with_advice(chessboard_views: list[View]) -> None:
    with pytest.raises(
        CalibrationError, match="only 7 usable views of the board, at least 8 are needed; move it"
    ):
        solve(chessboard_views[:7], CHESSBOARD, PINHOLE.size, "plumb_bob")


# The command


def test_images_to_calibration_and_report(
    board_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "front"
    assert main(["--images", f"{board_images}/*.png", "--out", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "camchain.yaml",
        "camera_info.yaml",
        "report.json",
        "report.png",
    ]
    ros, kalibr = load_calibration(out / "camera_info.yaml"), load_calibration(out / "camchain.yaml")
    assert_same_camera(ros.camera, PINHOLE)
    assert ros.name == "front"
    assert kalibr.camera.matrix.tolist() == ros.camera.matrix.tolist()
    assert kalibr.camera.distortion == ros.camera.distortion[:4]
    report = json.loads((out / "report.json").read_text())
    assert report["rms_px"] < 0.3
    assert (report["images"], report["images_with_board"], report["image_size"]) == (24, 24, [480, 640])
    assert {view["name"] for view in report["views"]} <= {f"{i:02d}.png" for i in range(24)}
    assert report["parameters"]["fx"]["value"] == ros.camera.fx
    assert cv2.imread(str(out / "report.png")).shape == (504, 1280, 3)
    told = capsys.readouterr()
    assert f"--calibration {out / 'camera_info.yaml'}" in told.out
    assert [line for line in told.err.splitlines() if "warning" not in line] == []


def test_of_a_video_the_sharp_images_are_used(board_images: Path, tmp_path: Path) -> None:
    """Each photograph for a fifth of a second, all images but one shaken."""
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 15.0, (640, 480))
    for path in sorted(board_images.glob("*.png")):
        image = cv2.imread(str(path))
        for shaken in (True, False, True):
            writer.write(cv2.blur(image, (9, 1)) if shaken else image)
    writer.release()
    assert main(["--video", str(tmp_path / "v.avi"), "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["images"], report["images_with_board"]) == (72, 24)
    assert report["rms_px"] < 0.3
    assert_same_camera(load_calibration(tmp_path / "out" / "camchain.yaml").camera, PINHOLE)


def test_poor_coverage_gives_a_report_and_no_calibration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The board in the same quarter of the picture all the time."""
    small = np.full((480, 640), 90, np.uint8)
    for index, image in enumerate(photographs(CHARUCO, PINHOLE, 12)):
        small[40:280, 40:360] = cv2.resize(image, (320, 240), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(tmp_path / f"{index:02d}.png"), small)
    assert main(["--images", f"{tmp_path}/*.png", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "at least 40% is needed; move it through the whole picture" in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.json", "report.png"]
    assert "at least 40%" in json.loads((tmp_path / "out" / "report.json").read_text())["warnings"][-1]


def test_a_board_that_is_never_tilted_is_warned_about_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, image in enumerate(photographs(CHARUCO, PINHOLE, 16, most_tilt=0.02)):
        cv2.imwrite(str(tmp_path / f"{index:02d}.png"), image)
    main(["--images", f"{tmp_path}/*.png", "--out", str(tmp_path / "out")])
    assert "tilt the board by 20 to 40 degrees" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["charuco", "chessboard"])
def test_a_printed_board_is_found_again_and_says_its_size(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "board.png"
    assert main(["--print-board", str(path), "--board", kind, "--squares", "7x5", "--dpi", "100"]) == 0
    assert "print it at 100 %, 230 x 170 mm" in capsys.readouterr().out
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    corners = Board(kind, (7, 5)).find(image)  # type: ignore[arg-type]
    assert corners is not None
    assert len(corners.ids) == 6 * 4
    steps = np.diff(corners.pixels.reshape(4, 6, 2), axis=1)
    assert np.linalg.norm(steps, axis=-1) == pytest.approx(118, abs=0.5)  # 30 mm at 100 dpi
    resolution = path.read_bytes()[33:54]
    assert resolution[4:8] == b"pHYs"
    assert int.from_bytes(resolution[8:12], "big") == 3937  # pixels per metre
    assert resolution[16] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--images x/*.png", "--out FOLDER is missing"),
        ("--images x/*.png --out {tmp}/new", "no image file fits"),
        ("--video {tmp}/no.mp4 --out {tmp}/new", "no such video file"),
        ("--images x/*.png --out {images}", "is there already; choose another --out"),
        ("--images {images}/*.png --out {tmp}/new --dpi 100", "--dpi goes with --print-board only"),
        ("--images {images}/*.png --out {tmp}/new --squares 9x7", "no charuco 9x7 squares"),
        (
            "--images {images}/*.png --out {tmp}/new --board chessboard --marker-mm 3",
            "go with --board charuco only",
        ),
        ("--images {images}/0[0-4].png --out {tmp}/new", "only 5 usable views"),
        ("--print-board {tmp}/b.png --out {tmp}/new", "--out goes with --video and --images only"),
        ("--print-board {tmp}/b.jpg", "choose a name that ends in .png"),
        ("--print-board {tmp}/b.png --marker-mm 40", "markers of 40 mm do not fit into squares of 30 mm"),
        ("--print-board {tmp}/b.png --squares 20x10", "needs 100 markers, DICT_4X4_50 has 50"),
        (
            "--print-board {tmp}/b.png --dictionary DICT_9X9",
            "no marker dictionary 'DICT_9X9'; there are DICT_",
        ),
        ("--print-board {tmp}/b.png --squares 3x3", "give 4 to 50 on each side"),
        ("--print-board {tmp}/b.png --dpi 5", "a square of 30 mm has 6 pixels"),
    ],
)
def test_a_foreseen_failure_is_one_line_and_leaves_nothing(
    arguments: str, says: str, board_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([part.format(tmp=tmp_path, images=board_images) for part in arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("m2h-calibrate: ")
    assert says in error
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_images_of_two_sizes_are_refused_by_name(
    board_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(board_images / "00.png", tmp_path / "a.png")
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((240, 320), np.uint8))
    assert main(["--images", f"{tmp_path}/*.png", "--out", str(tmp_path / "out")]) == 2
    assert "b.png: is 320x240, the images before are 640x480" in capsys.readouterr().err


def test_ctrl_c_is_one_line_and_leaves_nothing(board_images: Path, tmp_path: Path) -> None:
    for index in range(600):
        (tmp_path / f"{index}.png").symlink_to(board_images / f"{index % 24:02d}.png")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "m2h_runtime.cli.calibrate",
            "--images",
            f"{tmp_path}/*.png",
            "--out",
            str(tmp_path / "o"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert error == "m2h-calibrate: interrupted, nothing was written\n"
    assert not (tmp_path / "o").exists()


def test_the_options_need_nothing_heavy() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('numpy', 'cv2', 'yaml', 'rich')))\n"
        "from m2h_runtime.cli.calibrate import build_parser; build_parser().format_help()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
