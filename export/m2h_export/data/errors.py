"""The error of the data set loaders, and the checked file readers that raise it.

Every message names the file, says what was wrong with it and what to do.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class DatasetError(InputError):
    """A data set is incomplete, or one of its files is not what its layout says."""


def require_folder(path: Path, advice: str) -> Path:
    """Return `path` if it is a folder.

    Raises:
        DatasetError: it is not; `advice` ends the message.
    """
    if not path.is_dir():
        raise DatasetError(f"{path}: no such folder; {advice}")
    return path


def require_file(path: Path, advice: str) -> Path:
    """Return `path` if it is a file.

    Raises:
        DatasetError: it is not; `advice` ends the message.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; {advice}")
    return path


def require_split(split: str, known: tuple[str, ...], dataset: str) -> str:
    """Return `split` if the data set has it.

    Raises:
        DatasetError: it has not.
    """
    if split not in known:
        raise DatasetError(f"{dataset} has no split {split!r}; choose one of {', '.join(known)}")
    return split


def read_text(path: Path, advice: str) -> str:
    """A UTF-8 text file.

    Raises:
        DatasetError: missing, unreadable or not text.
    """
    require_file(path, advice)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not a readable text file ({error}); {advice}") from error


def read_lines(path: Path, advice: str) -> tuple[str, ...]:
    """The non-empty lines of a text file, without surrounding blanks.

    Raises:
        DatasetError: missing, unreadable or empty.
    """
    lines = tuple(line.strip() for line in read_text(path, advice).splitlines() if line.strip())
    if not lines:
        raise DatasetError(f"{path}: the list is empty; {advice}")
    return lines


def read_image(path: Path) -> NDArray[np.uint8]:
    """An 8-bit picture as (H, W, 3) RGB, in the raster as stored: truth maps know no EXIF orientation.

    Raises:
        DatasetError: missing or not a picture.
    """
    picture = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """A label PNG as (H, W) uint8 ids: gray values, or the palette indices of a palette PNG.

    Raises:
        DatasetError: missing, damaged, or another kind of PNG.
    """
    require_file(path, "every sample of the list needs this file")
    data = path.read_bytes()
    if not data.startswith(_PNG_SIGNATURE) or len(data) < _PNG_HEADER_END:
        raise DatasetError(f"{path}: not a PNG file, or cut short; fetch the file again")
    bit_depth, colour_type = data[24], data[25]
    if colour_type not in (_PNG_GRAY, _PNG_PALETTE) or bit_depth > 8:
        raise DatasetError(
            f"{path}: a label map must be a gray or palette PNG of at most 8 bits, this one has colour type "
            f"{colour_type} and {bit_depth} bits; store class ids, not colours"
        )
    # OpenCV would look the colours up in the palette; without one it shows the indices.
    raster = cv2.imdecode(np.frombuffer(_without_palette(data), np.uint8), cv2.IMREAD_UNCHANGED)
    if raster is None or raster.ndim != 2:
        raise DatasetError(f"{path}: this PNG is damaged; fetch the file again")
    highest = 2**bit_depth - 1  # fewer bits are stretched to 0..255 by the decoder
    return np.asarray(raster.astype(np.int64) * highest // 255, np.uint8)


def read_gray(path: Path, dtype: type[np.uint8 | np.uint16]) -> NDArray[Any]:
    """A single-channel image as (H, W) of `dtype`.

    Raises:
        DatasetError: missing, damaged, or of another dtype or channel count.
    """
    raster = _decode(path, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if raster.ndim != 2 or raster.dtype != dtype:
        raise DatasetError(
            f"{path}: expected one channel of {np.dtype(dtype).name}, got {raster.shape} {raster.dtype.name}; "
            "take the file from the original download"
        )
    return raster


def read_npy(path: Path) -> NDArray[np.float32]:
    """A numeric .npy array as float32, without axes of length 1 at the end.

    Raises:
        DatasetError: missing, damaged or not numeric.
    """
    require_file(path, "every sample of the list needs this file")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{path}: not a readable .npy array ({error}); fetch the file again") from error
    if array.dtype.kind not in "fiu":
        raise DatasetError(f"{path}: expected numbers, got dtype {array.dtype}; fetch the file again")
    return np.asarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array, np.float32)


def read_hdf5(path: Path, name: str = "dataset") -> NDArray[Any]:
    """One array of an HDF5 file.

    Raises:
        DatasetError: h5py is not installed; the file is missing, damaged or without that array.
    """
    require_file(path, "every sample of the list needs this file")
    h5py = import_h5py()
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(file[name])
    except (OSError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: no readable array {name!r} in this HDF5 file ({error}); fetch it again"
        ) from error


def read_mat(path: Path, name: str, advice: str) -> Any:
    """One variable of a MATLAB file up to version 7; structs come as dicts, struct arrays as lists.

    Raises:
        DatasetError: scipy is not installed; the file is missing, damaged or without that variable.
    """
    require_file(path, advice)
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DatasetError(f"{path}: MATLAB files need scipy; pip install scipy") from error
    try:
        content = loadmat(path, simplify_cells=True)
    except Exception as error:  # scipy raises many kinds on damaged files
        raise DatasetError(
            f"{path}: not a MATLAB file that scipy reads ({type(error).__name__}); {advice}"
        ) from error
    if name not in content:
        raise DatasetError(f"{path}: has no variable {name!r}; {advice}")
    return content[name]


def import_h5py() -> Any:
    """The h5py module.

    Raises:
        DatasetError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise DatasetError("this data set is stored as HDF5; pip install h5py") from error
    return h5py


def check_size(path: Path, array: NDArray[Any], size: tuple[int, ...], channels: int | None = None) -> None:
    """Check that a map is as large as its image.

    Raises:
        DatasetError: shape is not `size`, or (*size, channels).
    """
    wanted = (*size[:2],) if channels is None else (*size[:2], channels)
    if array.shape != wanted:
        raise DatasetError(
            f"{path}: expected {wanted} like the image, got {array.shape}; take image and truth from one download"
        )


def check_range(path: Path, labels: NDArray[Any], highest: int, also: int = 255) -> None:
    """Check that integer labels are 0..`highest`, or `also`.

    Raises:
        DatasetError: another value occurs.
    """
    wrong = labels[((labels < 0) | (labels > highest)) & (labels != also)]
    if wrong.size:
        raise DatasetError(
            f"{path}: label {int(wrong[0])} is outside 0..{highest} (and {also} for void); "
            "this is another label space, take the files that the layout names"
        )


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_END = 33
_PNG_GRAY, _PNG_PALETTE = 0, 3


def _decode(path: Path, flags: int) -> NDArray[Any]:
    require_file(path, "every sample of the list needs this file")
    data = np.frombuffer(path.read_bytes(), np.uint8)
    raster = cv2.imdecode(data, flags) if data.size else None
    if raster is None:
        raise DatasetError(f"{path}: not an image that OpenCV reads, or damaged; fetch the file again")
    return np.asarray(raster)


def _without_palette(data: bytes) -> bytes:
    """The same PNG declared gray: the pixels of both kinds are stored alike."""
    header = data[16:25] + bytes([_PNG_GRAY]) + data[26:29]
    parts = [_PNG_SIGNATURE, _png_chunk(b"IHDR", header)]
    at = _PNG_HEADER_END
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind in (b"IDAT", b"IEND"):
            parts.append(data[at : at + 12 + length])
        at += 12 + length
    return b"".join(parts)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
