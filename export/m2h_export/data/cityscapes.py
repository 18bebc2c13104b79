"""Cityscapes: street scenes with 19 classes and stereo disparity, in the layout of the official packages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from m2h_export.data.boundaries import semantic_boundaries
from m2h_export.data.errors import (
    DatasetError,
    check_range,
    check_size,
    read_gray,
    read_image,
    read_labels,
    read_text,
    require_folder,
    require_split,
)
from m2h_export.data.sample import IGNORE, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_DEPTH_M = 80.0
_CLASSES = {  # label id: class, in the order of the train ids
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
_TRAIN_ID = np.full(256, IGNORE, np.uint8)
_TRAIN_ID[list(_CLASSES)] = np.arange(len(_CLASSES))
_IMAGE_SUFFIX = "_leftImg8bit.png"
_MAX_LABEL_ID = 33


class Cityscapes:
    """Left pictures with 19 classes and their boundaries, and depth where disparity/ and camera/ exist.

    Args:
        root: folder with leftImg8bit/ and gtFine/, and for depth disparity/ and camera/.
        split: "train", "val" or "test"; the public test labels are empty.
        max_depth_m: stereo depth beyond this counts as not measured.

    Raises:
        DatasetError: a folder is missing; on reading, a file is missing or malformed.
    """

    def __init__(self, root: Path, split: str = "train", *, max_depth_m: float = MAX_DEPTH_M) -> None:
        require_split(split, ("train", "val", "test"), "cityscapes")
        self.root = require_folder(root, "name the folder with leftImg8bit and gtFine")
        images = require_folder(root / "leftImg8bit" / split, "unpack leftImg8bit_trainvaltest.zip there")
        require_folder(root / "gtFine" / split, "unpack gtFine_trainvaltest.zip there")
        self._has_depth = (root / "disparity").is_dir()
        if self._has_depth:
            require_folder(root / "disparity" / split, "unpack disparity_trainvaltest.zip there")
            require_folder(
                root / "camera" / split, "disparity needs camera_trainvaltest.zip, unpack it there"
            )
        self._split = split
        self._max_depth_m = max_depth_m
        self._names = [
            f"{path.parent.name}/{path.name.removesuffix(_IMAGE_SUFFIX)}"
            for path in sorted(images.glob(f"*/*{_IMAGE_SUFFIX}"))
        ]
        if not self._names:
            raise DatasetError(
                f"{images}: no CITY/*{_IMAGE_SUFFIX}; unpack leftImg8bit_trainvaltest.zip there"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The 19 classes, by train id."""
        return tuple(_CLASSES.values())

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        name = self._names[index]
        image = read_image(self._file("leftImg8bit", name, _IMAGE_SUFFIX))
        size = image.shape[:2]
        semantics = self._semantics(name, size)
        depth, intrinsics = self._depth(name, size) if self._has_depth else (None, None)
        return Sample(
            name,
            image,
            depth=depth,
            semantics=semantics,
            edges=semantic_boundaries(semantics),
            intrinsics=intrinsics,
        )

    def _file(self, package: str, name: str, suffix: str) -> Path:
        return self.root / package / self._split / f"{name}{suffix}"

    def _semantics(self, name: str, size: tuple[int, ...]) -> NDArray[np.uint8]:
        path = self._file("gtFine", name, "_gtFine_labelTrainIds.png")
        if path.is_file():
            labels = read_labels(path)
            check_size(path, labels, size)
            check_range(path, labels, len(_CLASSES) - 1)
            return labels
        path = self._file("gtFine", name, "_gtFine_labelIds.png")
        labels = read_labels(path)
        check_size(path, labels, size)
        check_range(path, labels, _MAX_LABEL_ID)
        return _TRAIN_ID[labels]

    def _depth(
        self, name: str, size: tuple[int, ...]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
        path = self._file("disparity", name, "_disparity.png")
        stored = read_gray(path, np.uint16)
        check_size(path, stored, size)
        baseline, intrinsics = _read_camera(self._file("camera", name, "_camera.json"))
        return depth_from_disparity(stored, baseline * intrinsics[0, 0], self._max_depth_m), intrinsics


def depth_from_disparity(
    stored: NDArray[np.uint16], baseline_focal: float, max_depth_m: float = MAX_DEPTH_M
) -> NDArray[np.float32]:
    """Depth in metres from the 16-bit disparity file.

    A stored p > 0 is the disparity (p - 1) / 256 pixels; p = 0 is invalid. Depth = baseline * fx / disparity.

    Args:
        stored: (H, W) as in the file.
        baseline_focal: baseline in metres times focal length in pixels.
        max_depth_m: beyond it, and at disparity 0, depth is 0 (not measured).
    """
    disparity = (stored.astype(np.float64) - 1) / 256
    valid = disparity > 0
    depth = baseline_focal / np.where(valid, disparity, 1)
    return np.where(valid & (depth <= max_depth_m), depth, 0).astype(np.float32)


def log_depth(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Natural logarithm of depth in metres, for networks that predict it; NaN where depth is 0 (not measured)."""
    valid = depth > 0
    return np.where(valid, np.log(np.where(valid, depth, 1)), np.nan).astype(np.float32)


def _read_camera(path: Path) -> tuple[float, NDArray[np.float64]]:
    """Baseline in metres and (3, 3) camera matrix."""
    advice = "take it from camera_trainvaltest.zip"
    text = read_text(path, advice)
    try:
        content = json.loads(text)
        baseline = float(content["extrinsic"]["baseline"])
        fx, fy, u0, v0 = (float(content["intrinsic"][key]) for key in ("fx", "fy", "u0", "v0"))
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: no baseline and intrinsics in it ({error!r}); {advice}") from error
    if not (baseline > 0 and fx > 0 and fy > 0):
        raise DatasetError(f"{path}: baseline {baseline}, fx {fx}, fy {fy} must be positive; {advice}")
    return baseline, np.array([[fx, 0.0, u0], [0.0, fy, v0], [0.0, 0.0, 1.0]])
