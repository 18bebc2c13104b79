"""NYUDv2 from the official `nyu_depth_v2_labeled.mat` (MATLAB 7.3, which is HDF5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_export.data.boundaries import semantic_boundaries
from m2h_export.data.errors import (
    DatasetError,
    check_size,
    import_h5py,
    read_image,
    read_mat,
    require_file,
    require_folder,
    require_split,
)
from m2h_export.data.nyudv2_folder import (
    NUM_CLASSES,
    NYUD_NORMAL_AXES,
    decode_normals,
    measured,
    nyud_class_names,
    nyud_intrinsics,
    to_optical_frame,
    without_void,
)
from m2h_export.data.sample import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAT_NAME = "nyu_depth_v2_labeled.mat"
MAPPING_NAME = "classMapping40.mat"
SPLIT_NAMES = ("splits.mat", "nyuv2_splits.mat")
_SPLIT_VARIABLES = {"train": "trainNdxs", "val": "testNdxs", "test": "testNdxs"}


class NyuDv2Mat:
    """The 1449 labelled pictures: images, depth, 40 classes, and the boundaries of those classes.

    Args:
        root: folder with the .mat, classMapping40.mat and splits.mat (or nyuv2_splits.mat).
        split: "train" (795), or "val" or "test", which both name the 654 test pictures.
        normals: folder with an 8-bit normal map NNNN.png for each picture, NNNN its number in the .mat from 0001;
            None for no normals.
        normal_axes: convention of those maps, one of `nyudv2_folder.NORMAL_AXES`.

    Raises:
        DatasetError: a file is missing or malformed.
    """

    def __init__(
        self,
        root: Path,
        split: str = "train",
        *,
        normals: Path | None = None,
        normal_axes: str = NYUD_NORMAL_AXES,
    ) -> None:
        require_split(split, tuple(_SPLIT_VARIABLES), "nyudv2")
        require_folder(root, f"name the folder with {MAT_NAME}")
        self._mat = require_file(root / MAT_NAME, "download it from the NYU Depth V2 page")
        self._normals = None if normals is None else require_folder(normals, "name the folder of normal maps")
        self._normal_axes = normal_axes
        self._size, count, names = self._inspect()
        self._class_of = _read_mapping(root / MAPPING_NAME, names)
        self._indices = _read_split(root, split, count)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The 40 classes."""
        return nyud_class_names()

    def object_names(self) -> tuple[str, ...]:
        """Names of the 894 object classes that the .mat is labelled with; label 1 is the first."""
        with import_h5py().File(self._mat, "r") as file:
            references = np.asarray(file["names"]).ravel()
            return tuple("".join(map(chr, np.asarray(file[name]).ravel())) for name in references)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        picture = int(self._indices[index])
        image, depth, labels = self._read(picture)
        if labels.max(initial=0) >= len(self._class_of):
            raise DatasetError(
                f"{self._mat}: picture {picture + 1} has label {int(labels.max())}, {MAPPING_NAME} maps "
                f"{len(self._class_of) - 1}; take both from one source"
            )
        semantics = without_void(self._class_of[labels])
        return Sample(
            f"{picture + 1:04d}",
            image,
            depth=measured(depth),
            semantics=semantics,
            normals=None if self._normals is None else self._read_normals(self._normals, picture),
            edges=semantic_boundaries(semantics),
            intrinsics=nyud_intrinsics(image.shape[:2]),
        )

    def _inspect(self) -> tuple[tuple[int, int], int, int]:
        """(H, W), number of pictures and of object classes; the arrays are stored transposed, (N, ..., W, H)."""
        try:
            with import_h5py().File(self._mat, "r") as file:
                images, depths, labels = (file[name] for name in ("images", "depths", "labels"))
                shapes = images.shape, depths.shape, labels.shape
                dtype, names = images.dtype, file["names"].size
        except (OSError, KeyError, AttributeError) as error:
            raise DatasetError(
                f"{self._mat}: not the labelled NYUDv2 file ({error}); download it again"
            ) from error
        count, width, height = shapes[1] if len(shapes[1]) == 3 else (0, 0, 0)
        wanted = ((count, 3, width, height), (count, width, height), (count, width, height))
        if shapes != wanted or dtype != np.uint8:
            raise DatasetError(
                f"{self._mat}: images, depths, labels have shapes {shapes} ({dtype}), expected (N, 3, W, H) uint8, "
                "(N, W, H), (N, W, H); download it again"
            )
        return (height, width), count, names

    def _read(self, picture: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        # Opened for each picture: an HDF5 handle must not be shared between processes.
        try:
            with import_h5py().File(self._mat, "r") as file:
                image = np.asarray(file["images"][picture])
                depth = np.asarray(file["depths"][picture])
                labels = np.asarray(file["labels"][picture])
        except OSError as error:
            raise DatasetError(
                f"{self._mat}: picture {picture + 1} cannot be read ({error}); download it again"
            ) from error
        return (
            np.ascontiguousarray(image.transpose(2, 1, 0), np.uint8),
            np.ascontiguousarray(depth.T, np.float32),
            np.ascontiguousarray(labels.T, np.int64),
        )

    def _read_normals(self, folder: Path, picture: int) -> NDArray[np.float32]:
        path = folder / f"{picture + 1:04d}.png"
        rgb = read_image(path)
        check_size(path, rgb, self._size, 3)
        return to_optical_frame(decode_normals(rgb), self._normal_axes)


def _read_mapping(path: Path, names: int) -> NDArray[np.uint8]:
    """(1 + classes,) uint8: the class 1..40 of each object label; 0 stays 0."""
    advice = "it is the published mapping of the 894 object classes to 40; put it beside the .mat"
    mapping = _integers(path, read_mat(path, "mapClass", advice))
    if len(mapping) != names or mapping.min(initial=1) < 1 or mapping.max(initial=1) > NUM_CLASSES:
        raise DatasetError(
            f"{path}: mapClass has {len(mapping)} entries in {mapping.min(initial=1)}..{mapping.max(initial=1)}, "
            f"expected {names} in 1..{NUM_CLASSES}; {advice}"
        )
    return np.concatenate([[0], mapping]).astype(np.uint8)


def _read_split(root: Path, split: str, count: int) -> NDArray[np.int64]:
    """0-based picture numbers of `split`; the files count from 1."""
    path = next((root / name for name in SPLIT_NAMES if (root / name).is_file()), root / SPLIT_NAMES[0])
    advice = f"put the published {SPLIT_NAMES[0]} (or {SPLIT_NAMES[1]}) beside the .mat"
    numbers = _integers(path, read_mat(path, _SPLIT_VARIABLES[split], advice))
    if not numbers.size or numbers.min() < 1 or numbers.max() > count:
        raise DatasetError(
            f"{path}: {_SPLIT_VARIABLES[split]} must hold picture numbers 1..{count}; {advice}"
        )
    return numbers - 1


def _integers(path: Path, values: Any) -> NDArray[np.int64]:
    array = np.atleast_1d(np.asarray(values))
    if array.dtype.kind not in "fiu" or not np.array_equal(array, np.round(array)):
        raise DatasetError(f"{path}: expected whole numbers, got {array.dtype}; fetch the file again")
    return array.astype(np.int64).ravel()
