"""What all commands parse alike; imports nothing heavy."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as all of ours are."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def count(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, got {text!r}")
    return int(text)


def positive(text: str) -> float:
    """A positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return value


def not_negative(text: str) -> float:
    """A number from 0 up."""
    return 0.0 if text.strip() in ("0", "0.0") else positive(text)


def camera_size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT, as people write a camera's size, to (H, W)."""
    width, _, height = text.lower().partition("x")
    try:
        return count(height), count(width)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, e.g. 1280x720, got {text!r}") from None


def network_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH, as networks have it, to (H, W)."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected HEIGHTxWIDTH in pixels, e.g. 224x224")
    return int(match[1]), int(match[2])


def signs(text: str) -> tuple[int, int, int]:
    """X,Y,Z, each 1 or -1."""
    match = re.fullmatch(r"(-?1),(-?1),(-?1)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected three factors of 1 or -1, e.g. 1,-1,-1")
    return int(match[1]), int(match[2]), int(match[3])


def split_ros_args(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our arguments, and those from --ros-args on (up to `--`, as ROS has it)."""
    ours, theirs = list(argv), []
    while "--ros-args" in ours:
        begin = ours.index("--ros-args")
        end = ours.index("--", begin) + 1 if "--" in ours[begin:] else len(ours)
        theirs += ours[begin:end]
        del ours[begin:end]
    return ours, theirs
