from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from m2h_export.data.errors import DatasetError, read_image, read_labels

if TYPE_CHECKING:
    from pathlib import Path


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def palette_png(path: Path, rows: list[bytes], width: int, bits: int, palette: bytes) -> None:
    header = struct.pack(">IIBBBBB", width, len(rows), bits, 3, 0, 0, 0)
    raster = zlib.compress(b"".join(b"\0" + row for row in rows))
    content = chunk(b"IHDR", header) + chunk(b"PLTE", palette) + chunk(b"IDAT", raster) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_indices_of_a_palette_png_with_repeated_colours(tmp_path: Path) -> None:
    path = tmp_path / "voc.png"
    palette = bytes([0, 0, 0, 128, 0, 0, 0, 128, 0]) + bytes(3 * 253)  # unused entries are all black
    palette_png(path, [bytes([0, 1, 2]), bytes([2, 15, 255])], 3, 8, palette)
    assert read_labels(path).tolist() == [[0, 1, 2], [2, 15, 255]]


def test_indices_of_a_four_bit_palette_png(tmp_path: Path) -> None:
    path = tmp_path / "few.png"
    palette_png(path, [bytes([0x01, 0xF0])], 3, 4, bytes(48))
    assert read_labels(path).tolist() == [[0, 1, 15]]


def test_gray_labels_and_what_is_refused(tmp_path: Path) -> None:
    labels = np.array([[0, 40, 255]], np.uint8)
    cv2.imwrite(str(tmp_path / "gray.png"), labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "gray.png"), labels)
    cv2.imwrite(str(tmp_path / "colour.png"), np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"colour\.png.*colour type 2"):
        read_labels(tmp_path / "colour.png")
    cv2.imwrite(str(tmp_path / "deep.png"), np.zeros((2, 2), np.uint16))
    with pytest.raises(DatasetError, match=r"deep\.png.*16 bits"):
        read_labels(tmp_path / "deep.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "gray.png").read_bytes()[:20])
    with pytest.raises(DatasetError, match=r"cut\.png.*cut short"):
        read_labels(tmp_path / "cut.png")


def test_pictures_come_as_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), np.full((1, 1, 3), (0, 0, 200), np.uint8))
    assert read_image(tmp_path / "red.png").tolist() == [[[200, 0, 0]]]
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(DatasetError, match=r"text\.png"):
        read_image(tmp_path / "text.png")
