"""`m2h-calibrate`: a camera's intrinsics from a recording of a board."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from m2h_runtime.cli.arguments import OneLineParser, count
from m2h_runtime.errors import CalibrationError, InputError, M2HError

if TYPE_CHECKING:
    from m2h_runtime.calibration.board import Board
    from m2h_runtime.calibration.look import Search
    from m2h_runtime.calibration.solve import Solution
    from m2h_runtime.calibration.verdict import Verdict
    from m2h_runtime.sources import Source

DPI = 300
VIDEO_WINDOW_S = 0.2
"""Of a video the sharpest image in each window is looked at; neighbours show the same."""


def build_parser() -> argparse.ArgumentParser:
    """The options. Nothing heavy is imported for them."""
    parser = OneLineParser(
        prog="m2h-calibrate",
        description="Calibrate a camera from a recording of a chessboard or ChArUco board, or make such a board.",
        epilog="example: m2h-calibrate --print-board board.png; "
        "m2h-calibrate --video board.mp4 --out calibration/my_camera",
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--video", metavar="FILE", type=Path, help="recording in which the board is moved")
    task.add_argument("--images", metavar="GLOB", help="images of the board, quoted: 'board/*.png'")
    task.add_argument("--print-board", metavar="FILE.png", type=Path, help="make a board to print")
    board = parser.add_argument_group("board")
    board.add_argument(
        "--board", choices=("charuco", "chessboard"), default="charuco", help="default: charuco"
    )
    board.add_argument(
        "--squares",
        metavar="COLUMNSxROWS",
        type=_squares,
        default=(8, 6),
        help="squares, counted on paper, not inner corners (default 8x6)",
    )
    board.add_argument(
        "--square-mm", metavar="MM", type=float, default=30.0, help="side of a square (default 30)"
    )
    board.add_argument("--marker-mm", metavar="MM", type=float, help="charuco: side of a marker (default 22)")
    board.add_argument("--dictionary", metavar="NAME", help="charuco: of the markers (default DICT_4X4_50)")
    board.add_argument("--dpi", metavar="N", type=count, help=f"of --print-board (default {DPI})")
    parser.add_argument(
        "--model",
        choices=("plumb_bob", "equidistant"),
        default="plumb_bob",
        help="lens: plumb_bob (default), or equidistant above some 100 degrees of view",
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="new folder for calibration and report")
    return parser


def _squares(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text.lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected COLUMNSxROWS, e.g. 8x6, got {text!r}")
    return int(match[1]), int(match[2])


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code: 0, 2 for foreseen failures, 130 after Ctrl-C."""
    try:
        return run(build_parser().parse_args(argv))
    except M2HError as error:
        sys.stderr.write(f"m2h-calibrate: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("m2h-calibrate: interrupted, nothing was written\n")
        return 128 + signal.SIGINT


def run(args: argparse.Namespace) -> int:
    """Make a board, or calibrate and write calibration and report.

    Raises:
        M2HError: anything foreseen.
    """
    check_options(args)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    board = board_of(args)
    if args.print_board is not None:
        width, height = board.print_to(args.print_board, args.dpi or DPI)
        sys.stdout.write(
            f"{args.print_board}: {board.describe()}; print it at 100 %, {width:.0f} x {height:.0f} mm\n"
        )
        return 0
    return calibrate(args, board)


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that would be ignored, and an output that is there.

    Raises:
        InputError: names the option.
    """
    if args.print_board is None:
        if args.dpi is not None:
            raise InputError("--dpi goes with --print-board only")
        if args.out is None:
            raise InputError("--out FOLDER is missing: where shall the calibration go?")
        if args.out.exists() and not (args.out.is_dir() and not any(args.out.iterdir())):
            raise InputError(f"{args.out}: is there already; choose another --out")
    elif args.out is not None:
        raise InputError("--out goes with --video and --images only")
    elif args.print_board.suffix != ".png":
        raise InputError(f"{args.print_board}: the board is a PNG; choose a name that ends in .png")
    if args.board == "chessboard" and (args.marker_mm is not None or args.dictionary is not None):
        raise InputError("--marker-mm and --dictionary go with --board charuco only")


def board_of(args: argparse.Namespace) -> Board:
    """The board that the options describe.

    Raises:
        InputError: there is no such board.
    """
    from m2h_runtime.calibration.board import Board

    if args.board == "chessboard":
        return Board("chessboard", args.squares, args.square_mm)
    marker_mm = 22.0 if args.marker_mm is None else args.marker_mm
    return Board("charuco", args.squares, args.square_mm, marker_mm, args.dictionary or "DICT_4X4_50")


def calibrate(args: argparse.Namespace, board: Board) -> int:
    """Look, choose, solve, judge, write.

    Raises:
        M2HError: anything foreseen; where a result is too poor to use, its report was written before.
    """
    from m2h_runtime.calibration.solve import solve
    from m2h_runtime.calibration.verdict import judge
    from m2h_runtime.calibration.views import choose
    from m2h_runtime.files import folder_in_place

    search = look_through(args, board)
    solution = solve(choose(search.views), board, search.size, args.model)
    verdict = judge(solution)
    with folder_in_place(args.out) as folder:
        write_report(folder, args.out.name, solution, verdict, board, search)
        if not verdict.fatal:
            write_calibration(folder, args.out.name, solution)
    if verdict.fatal:
        raise CalibrationError(f"{verdict.fatal} (no calibration was written; see {args.out / 'report.png'})")
    tell(solution, verdict, search, args.out)
    return 0


def look_through(args: argparse.Namespace, board: Board) -> Search:
    """Find the board in the recording, with a progress line on a terminal.

    Raises:
        CalibrationError: the board is nowhere.
        SourceError: the recording cannot be read.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from m2h_runtime.calibration.look import look

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        open_source(args) as source,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("looking for the board", total=None)
        search = look(
            source,
            board,
            0.0 if args.video is None else VIDEO_WINDOW_S,
            lambda s: progress.update(task, description=f"{s.images} images, board in {len(s.views)}"),
        )
    if not search.views:
        raise CalibrationError(
            f"no {board.describe()} in {search.images} images; --squares counts squares, not inner corners "
            f"({board.corners[0]}x{board.corners[1]} of them); is the whole board lit, sharp and described right?"
        )
    return search


def open_source(args: argparse.Namespace) -> Source:
    """The recording.

    Raises:
        SourceError: it cannot be opened.
    """
    from m2h_runtime.sources import ImagesSource, VideoSource

    return VideoSource(args.video) if args.video is not None else ImagesSource(args.images)


def write_calibration(folder: Path, name: str, solution: Solution) -> None:
    """camera_info.yaml for ROS and camchain.yaml for Kalibr, which adds the IMU to it."""
    from m2h_runtime.calibration.calibration import Calibration
    from m2h_runtime.calibration.camera_info import save_camera_info
    from m2h_runtime.calibration.kalibr import save_kalibr

    calibration = Calibration(solution.camera, name=name)
    save_camera_info(folder / "camera_info.yaml", calibration)
    save_kalibr(folder / "camchain.yaml", calibration)


def write_report(
    folder: Path, name: str, solution: Solution, verdict: Verdict, board: Board, search: Search
) -> None:
    """report.png and report.json."""
    import cv2

    from m2h_runtime.calibration.report import figures, picture
    from m2h_runtime.files import write_atomically

    camera = solution.camera
    title = f"{name}: {camera.width}x{camera.height} {camera.distortion_model}   {board.describe()}"
    bgr = cv2.cvtColor(picture(solution, verdict, title), cv2.COLOR_RGB2BGR)
    write_atomically(folder / "report.png", cv2.imencode(".png", bgr)[1].tobytes())
    text = json.dumps(figures(solution, verdict, board, search), indent=2)
    write_atomically(folder / "report.json", f"{text}\n".encode())


def tell(solution: Solution, verdict: Verdict, search: Search, folder: Path) -> None:
    """The result for a person: figures to stdout, warnings to stderr."""
    lines = [
        f"views: {len(solution.views)} used, {len(solution.dropped)} dropped as outliers, "
        f"of {len(search.views)} with the board in {search.images} images",
        f"error: {solution.rms_px:.3f} px rms; coverage {verdict.coverage:.0%}, tilted {verdict.tilted:.0%}",
        *(
            f"{name}: {value:.5g} +- {solution.deviations[name]:.2g}"
            for name, value in solution.values.items()
        ),
        f"written: {folder}; use it with --calibration {folder / 'camera_info.yaml'}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    for warning in verdict.warnings:
        sys.stderr.write(f"m2h-calibrate: warning: {warning}\n")


if __name__ == "__main__":
    sys.exit(main())
