"""Entries of a calibration file, each checked as it is taken, each error with its file and key."""

from __future__ import annotations

import math
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from m2h_runtime.errors import CalibrationError
from m2h_runtime.files import reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from numpy.typing import NDArray


class Entries:
    """A YAML mapping.

    Args:
        values: its keys and values.
        where: file and keys on the way here, for messages.
    """

    def __init__(self, values: dict[Any, Any], where: str) -> None:
        self._values = values
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return map(str, self._values)

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Raises: CalibrationError: a key is not in `known`; the message names the nearest."""
        for key in self:
            if key not in known:
                nearest = get_close_matches(key, known, 1, 0)[0]
                raise CalibrationError(f"{self.where}: no entry {key!r} is known; the nearest is {nearest!r}")

    def child(self, key: str) -> Entries:
        """The mapping under `key`."""
        value = self._take(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "a mapping", value)
        return Entries(value, f"{self.where}: {key}")

    def text(self, key: str) -> str:
        """The string under `key`."""
        value = self._take(key)
        if not isinstance(value, str):
            raise self._wrong(key, "text", value)
        return value

    def whole(self, key: str) -> int:
        """The positive whole number under `key`."""
        value = self._take(key)
        if not _is_whole(value):
            raise self._wrong(key, "a whole number from 1 up", value)
        return int(value)

    def wholes(self, key: str, count: int) -> tuple[int, ...]:
        """The `count` positive whole numbers under `key`."""
        values = self._take(key)
        if not isinstance(values, list) or len(values) != count or not all(map(_is_whole, values)):
            raise self._wrong(key, f"{count} whole numbers from 1 up", values)
        return tuple(values)

    def number(self, key: str) -> float:
        """The finite number under `key`."""
        value = self._take(key)
        return self._numbers(key, "a finite number", [value], 1)[0]

    def numbers(self, key: str, count: int | None = None) -> tuple[float, ...]:
        """The finite numbers under `key`, `count` of them if given."""
        wanted = "a list of finite numbers" if count is None else f"a list of {count} finite numbers"
        return self._numbers(key, wanted, self._take(key), count)

    def matrix(self, key: str, shape: tuple[int, int]) -> NDArray[np.float64]:
        """The matrix under `key`, rows as lists; float64 of `shape`."""
        rows, wanted = self._take(key), f"{shape[0]} rows of {shape[1]} finite numbers"
        if not isinstance(rows, list) or len(rows) != shape[0]:
            raise self._wrong(key, wanted, rows)
        return np.array([self._numbers(key, wanted, row, shape[1]) for row in rows], np.float64)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Errors about what the values mean together name this place in the file as well."""
        try:
            yield
        except CalibrationError as error:
            if str(error).startswith(self.where):
                raise
            raise CalibrationError(f"{self.where}: {error}") from error

    def _numbers(self, key: str, wanted: str, values: Any, count: int | None) -> tuple[float, ...]:
        try:
            numbers = tuple(map(_number, values)) if isinstance(values, list) else None
        except ValueError:
            numbers = None
        if numbers is None or count not in (None, len(numbers)):
            raise self._wrong(key, wanted, values)
        return numbers

    def _take(self, key: str) -> Any:
        if key not in self._values:
            raise CalibrationError(f"{self.where}: has no entry {key!r}")
        return self._values[key]

    def _wrong(self, key: str, wanted: str, value: Any) -> CalibrationError:
        return CalibrationError(f"{self.where}: {key}: expected {wanted}, got {str(value)[:60]!r}")


def read_entries(path: Path) -> Entries:
    """The top mapping of a YAML file.

    Raises:
        CalibrationError: the file cannot be read or holds no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError(
            f"{path}: cannot be read ({reason(error)}); name a calibration file"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        what = " ".join(str(error).split())
        raise CalibrationError(f"{path}: is not YAML ({what[:120]}); name a calibration file") from error
    if not isinstance(values, dict):
        raise CalibrationError(f"{path}: holds no entries; name a Kalibr camchain or a ROS camera_info file")
    return Entries(values, str(path))


def _number(value: Any) -> float:
    """A finite number; also 1e-05, which other YAML writers mean as one and PyYAML reads as text."""
    number = math.nan if isinstance(value, bool) or not isinstance(value, (int, float, str)) else float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
