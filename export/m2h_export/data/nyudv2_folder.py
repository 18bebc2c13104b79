"""NYUDv2 in the layout of the multi-task benchmarks (`NYUD_MT`): one file per picture and task.

Also what the loaders share about NYUD: class names, the colour camera, normal maps and their axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_export.data.errors import (
    DatasetError,
    check_range,
    check_size,
    read_gray,
    read_image,
    read_labels,
    read_lines,
    read_npy,
    require_file,
    require_folder,
    require_split,
)
from m2h_export.data.sample import IGNORE, Sample
from m2h_runtime.errors import InputError
from m2h_runtime.label_space import load_label_space

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NUM_CLASSES = 40

FULL_SIZE = (480, 640)
CROPPED_SIZE = (425, 560)
"""The crop of the labelled region that the multi-task files use."""
_CROP_OFFSET = (45, 40)  # rows, columns of the crop's first pixel in the full frame

_DIRECTIONS = (
    {"right": 1.0, "left": -1.0},
    {"down": 1.0, "up": -1.0},
    {"forward": 1.0, "backward": -1.0},
)
NORMAL_AXES = tuple(f"{x}_{y}_{z}" for x in _DIRECTIONS[0] for y in _DIRECTIONS[1] for z in _DIRECTIONS[2])
"""Names of the sign conventions of a normal map: where its x, its y and its z point, seen from the camera."""
NYUD_NORMAL_AXES = "left_up_backward"
"""Red left, green up, blue towards the camera. That holds for the common NYUD normal files (users' reports on code
trained with them); it was not checked on the files of `NYUD_MT`, so check it with `rank_normal_axes`."""

_MIN_DEPTH_M, _MAX_DEPTH_M = 1e-3, 10.0


class NyuDv2Folder:
    """NYUD_MT: images/, and where the folders exist depth/, normals/, segmentation/, edge/; gt_sets/SPLIT.txt.

    Args:
        root: the folder that holds images/ and gt_sets/.
        split: "train" or "val" (the 654 test pictures).
        normal_axes: convention of normals/, one of `NORMAL_AXES`.
        shortest_normal: decoded vectors shorter than this become unknown. 0 keeps all, as the published evaluations
            do; 0.1 drops gray pixels, which hold no direction.

    Raises:
        DatasetError: a folder or the list is missing; on reading, a file is missing or malformed.
    """

    def __init__(
        self,
        root: Path,
        split: str = "train",
        *,
        normal_axes: str = NYUD_NORMAL_AXES,
        shortest_normal: float = 0.0,
    ) -> None:
        require_split(split, ("train", "val"), "nyudv2_folder")
        normal_signs(normal_axes)
        self.root = require_folder(root, "name the folder of NYUD_MT")
        self._images = require_folder(root / "images", "this is not NYUD_MT, which keeps its pictures there")
        listing = root / "gt_sets" / f"{split}.txt"
        self._names = read_lines(listing, "NYUD_MT lists the names of a split there, one a line")
        self._normal_axes = normal_axes
        self._shortest_normal = shortest_normal
        tasks = ("depth", "normals", "segmentation", "edge")
        self._folders = {task: root / task for task in tasks if (root / task).is_dir()}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The 40 classes."""
        return nyud_class_names()

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        name = self._names[index]
        image = read_image(first_file(self._images, name, (".png", ".jpg")))
        size = image.shape[:2]
        return Sample(
            name,
            image,
            depth=self._depth(name, size) if "depth" in self._folders else None,
            semantics=self._semantics(name, size) if "segmentation" in self._folders else None,
            normals=self._normals(name, size) if "normals" in self._folders else None,
            edges=self._edges(name, size) if "edge" in self._folders else None,
            intrinsics=nyud_intrinsics(size),
        )

    def _depth(self, name: str, size: tuple[int, ...]) -> NDArray[np.float32]:
        path = self._folders["depth"] / f"{name}.npy"
        depth = read_npy(path)
        check_size(path, depth, size)
        return measured(depth)

    def _semantics(self, name: str, size: tuple[int, ...]) -> NDArray[np.uint8]:
        path = self._folders["segmentation"] / f"{name}.png"
        labels = read_labels(path)
        check_size(path, labels, size)
        check_range(path, labels, NUM_CLASSES)
        return without_void(labels)

    def _normals(self, name: str, size: tuple[int, ...]) -> NDArray[np.float32]:
        path = first_file(self._folders["normals"], name, (".png", ".npy"))
        vectors = read_npy(path) if path.suffix == ".npy" else decode_normals(read_image(path))
        check_size(path, vectors, size, 3)
        return to_optical_frame(vectors, self._normal_axes, self._shortest_normal)

    def _edges(self, name: str, size: tuple[int, ...]) -> NDArray[np.uint8]:
        path = first_file(self._folders["edge"], name, (".png", ".npy"))
        values = read_npy(path) if path.suffix == ".npy" else read_gray(path, np.uint8)
        check_size(path, values, size)
        # Both 0/1 and 0/255 files exist.
        return np.asarray(values > (127 if values.max() > 1 else 0), np.uint8)


def nyud_class_names() -> tuple[str, ...]:
    """The 40 class names of NYUDv2, without void."""
    return load_label_space("nyudv2_40").classes[1:]


def nyud_intrinsics(size: tuple[int, ...]) -> NDArray[np.float64] | None:
    """(3, 3) camera matrix of the NYUDv2 colour camera at the full or the cropped size; None at another.

    Values of the NYUDv2 toolbox; pixel centres at integers.
    """
    if tuple(size) not in (FULL_SIZE, CROPPED_SIZE):
        return None
    top, left = (0, 0) if tuple(size) == FULL_SIZE else _CROP_OFFSET
    return np.array(
        [[518.857901, 0.0, 325.582449 - left], [0.0, 519.469611, 253.736166 - top], [0.0, 0.0, 1.0]]
    )


def without_void(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Labels 0 = void, 1..40 (255 also void) as 0..39 and `IGNORE`; uint8, any shape."""
    return np.where((labels == 0) | (labels == IGNORE), IGNORE, labels.astype(np.int64) - 1).astype(np.uint8)


def measured(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depth with 0 wherever it is not a positive finite number."""
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0.0).astype(np.float32)


def first_file(folder: Path, name: str, suffixes: tuple[str, ...]) -> Path:
    """The first of `name` + suffix that exists in `folder`.

    Raises:
        DatasetError: none does.
    """
    for suffix in suffixes:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    return require_file(folder / f"{name}{suffixes[0]}", f"also looked for {', '.join(suffixes[1:])}")


def decode_normals(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """8-bit normal map u as the vectors 2 u / 255 - 1; (H, W, 3) float32, in the file's axes, not normalised."""
    return rgb.astype(np.float32) * np.float32(2 / 255) - np.float32(1)


def normal_signs(axes: str) -> NDArray[np.float32]:
    """(3,) float32 signs that turn vectors in `axes` into the optical frame (x right, y down, z forward).

    Raises:
        InputError: `axes` is none of `NORMAL_AXES`.
    """
    if axes not in NORMAL_AXES:
        raise InputError(f"no normal axes {axes!r}; choose one of {', '.join(NORMAL_AXES)}")
    words = axes.split("_")
    return np.array([signs[word] for signs, word in zip(_DIRECTIONS, words, strict=True)], np.float32)


def to_optical_frame(
    vectors: NDArray[np.floating[Any]], axes: str, shortest: float = 0.0
) -> NDArray[np.float32]:
    """Unit normals (H, W, 3) float32 in the optical frame; zero where not finite, zero or shorter than `shortest`."""
    turned = np.where(np.isfinite(vectors), vectors, 0).astype(np.float32) * normal_signs(axes)
    length = np.linalg.norm(turned, axis=-1, keepdims=True)
    known = (length > 0) & (length >= shortest) & np.isfinite(vectors).all(axis=-1, keepdims=True)
    return np.where(known, turned / np.where(known, length, 1), 0).astype(np.float32)


def normals_from_depth(depth: NDArray[np.float32], intrinsics: NDArray[np.float64]) -> NDArray[np.float32]:
    """Normals of the back-projected depth by central differences, facing the camera.

    Method "tblr" of the cross-task consistency: tangents P(u+1,v) - P(u-1,v) and P(u,v+1) - P(u,v-1), normal their
    cross product, negated.

    Args:
        depth: (H, W) metres, 0 where unmeasured.
        intrinsics: (3, 3), pixel centres at integers.

    Returns:
        (H, W, 3) float32 unit vectors in the optical frame; zero where a pixel or one of its four neighbours is
        outside (0.001, 10) m, and on the outermost pixels.
    """
    rows, columns = np.indices(depth.shape)
    x = (columns - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (rows - intrinsics[1, 2]) / intrinsics[1, 1]
    points = depth[..., None] * np.stack([x, y, np.ones_like(x)], axis=-1)
    across = points[1:-1, 2:] - points[1:-1, :-2]
    along = points[2:, 1:-1] - points[:-2, 1:-1]
    normal = -np.cross(across, along)
    valid = (depth > _MIN_DEPTH_M) & (depth < _MAX_DEPTH_M)
    valid = valid[1:-1, 1:-1] & valid[1:-1, 2:] & valid[1:-1, :-2] & valid[2:, 1:-1] & valid[:-2, 1:-1]
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    valid &= length[..., 0] > 0
    result = np.zeros((*depth.shape, 3), np.float32)
    result[1:-1, 1:-1][valid] = (normal / np.where(length > 0, length, 1))[valid]
    return result


def rank_normal_axes(sample: Sample, loaded_as: str = NYUD_NORMAL_AXES) -> list[tuple[str, float]]:
    """Compare a sample's normals with those of its depth, under every sign convention.

    Args:
        sample: has depth, normals and intrinsics.
        loaded_as: the convention it was loaded with.

    Returns:
        (axes, median angle in degrees) for all of `NORMAL_AXES`, best first. On a room with walls, floor and
        furniture the right convention is clearly below the next.

    Raises:
        DatasetError: the sample lacks a map, or no pixel has both normals.
    """
    if sample.depth is None or sample.normals is None or sample.intrinsics is None:
        raise DatasetError(f"{sample.name}: the check of normal axes needs depth, normals and intrinsics")
    from_depth = normals_from_depth(sample.depth, sample.intrinsics)
    both = from_depth.any(axis=-1) & sample.normals.any(axis=-1)
    if not both.any():
        raise DatasetError(f"{sample.name}: no pixel has depth and normals; check another sample")
    in_file = sample.normals[both] * normal_signs(loaded_as)
    angles = {
        axes: float(np.median(_angles_deg(from_depth[both], in_file * normal_signs(axes))))
        for axes in NORMAL_AXES
    }
    return sorted(angles.items(), key=lambda entry: entry[1])


def _angles_deg(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Angles between unit vectors (N, 3), degrees, stable near 0 and 180."""
    difference = np.linalg.norm(first - second, axis=-1)
    total = np.linalg.norm(first + second, axis=-1)
    return np.asarray(np.degrees(2 * np.arctan2(difference, total)), np.float64)
