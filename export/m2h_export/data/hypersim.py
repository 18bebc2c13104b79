"""Hypersim: rendered rooms with exact geometry, 1024 x 768, as the official download scripts lay them out."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from m2h_export.data.boundaries import semantic_boundaries
from m2h_export.data.errors import (
    DatasetError,
    check_range,
    check_size,
    read_hdf5,
    read_image,
    read_text,
    require_folder,
    require_split,
)
from m2h_export.data.nyudv2_folder import (
    NUM_CLASSES,
    measured,
    nyud_class_names,
    to_optical_frame,
    without_void,
)
from m2h_export.data.sample import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SPLIT_FILE = "metadata_images_split_scene_v1.csv"
FOCAL_LENGTH_PX = 886.81
"""At a width of 1024 pixels: 60 degrees of horizontal view, square pixels."""
_FULL_WIDTH = 1024
_NORMAL_AXES = "right_up_backward"  # the OpenGL camera
_GAMMA = 2.2
_LUMA = np.array([0.3, 0.59, 0.11], np.float32)
_BRIGHT_PERCENTILE, _BRIGHT_LEVEL = 90, 0.8


class _Frame(NamedTuple):
    scene: str
    camera: str
    number: int


class Hypersim:
    """Frames of the public release: images, depth, 40 NYUD classes, their boundaries, normals.

    Args:
        root: folder with the scenes ai_VVV_NNN and the split file.
        split: "train", "val" or "test", after the official scene split.

    Raises:
        DatasetError: the split file or a scene of it is missing; on reading, a file is missing or malformed.
    """

    def __init__(self, root: Path, split: str = "train") -> None:
        require_split(split, ("train", "val", "test"), "hypersim")
        self.root = require_folder(root, "name the folder with the scenes ai_VVV_NNN")
        self._frames = _read_split(root / SPLIT_FILE, split)
        self._check_scenes()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The 40 classes of NYUDv2."""
        return nyud_class_names()

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        frame = self._frames[index]
        image = self._image(frame)
        size = image.shape[:2]
        intrinsics = hypersim_intrinsics(size)
        semantics = self._semantics(frame, size)
        return Sample(
            f"{frame.scene}/{frame.camera}/{frame.number:04d}",
            image,
            depth=self._depth(frame, size),
            semantics=semantics,
            normals=self._normals(frame, size, intrinsics),
            edges=semantic_boundaries(semantics),
            intrinsics=intrinsics,
        )

    def _check_scenes(self) -> None:
        scenes = list(dict.fromkeys(frame.scene for frame in self._frames))
        missing = [scene for scene in scenes if not (self.root / scene / "images").is_dir()]
        if missing:
            raise DatasetError(
                f"{self.root / missing[0]}: no such scene with an images folder, and so {len(missing)} of "
                f"{len(scenes)} of the split; download them, or take their lines out of {SPLIT_FILE}"
            )

    def _file(self, frame: _Frame, folder: str, what: str) -> Path:
        images = self.root / frame.scene / "images"
        return images / f"scene_{frame.camera}_{folder}" / f"frame.{frame.number:04d}.{what}"

    def _image(self, frame: _Frame) -> NDArray[np.uint8]:
        preview = self._file(frame, "final_preview", "tonemap.jpg")
        radiance = self._file(frame, "final_hdf5", "color.hdf5")
        if preview.is_file() or not radiance.is_file():
            return read_image(preview)
        values = read_hdf5(radiance)
        if values.ndim != 3 or values.shape[2] != 3:
            raise DatasetError(f"{radiance}: expected (H, W, 3), got {values.shape}; fetch the file again")
        return tonemap(values.astype(np.float32))

    def _depth(self, frame: _Frame, size: tuple[int, ...]) -> NDArray[np.float32]:
        path = self._file(frame, "geometry_hdf5", "depth_meters.hdf5")
        distance = read_hdf5(path)
        check_size(path, distance, size)
        return depth_from_distance(distance.astype(np.float32))

    def _semantics(self, frame: _Frame, size: tuple[int, ...]) -> NDArray[np.uint8]:
        path = self._file(frame, "geometry_hdf5", "semantic.hdf5")
        labels = read_hdf5(path)
        check_size(path, labels, size)
        check_range(path, labels, NUM_CLASSES, also=-1)
        return without_void(np.maximum(labels, 0))

    def _normals(
        self, frame: _Frame, size: tuple[int, ...], intrinsics: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        path = self._file(frame, "geometry_hdf5", "normal_cam.hdf5")
        vectors = read_hdf5(path)
        check_size(path, vectors, size, 3)
        return _face_camera(to_optical_frame(vectors.astype(np.float32), _NORMAL_AXES), intrinsics)


def hypersim_intrinsics(size: tuple[int, ...]) -> NDArray[np.float64]:
    """(3, 3) camera matrix at `size` (height, width); pixel centres at integers, principal point in the middle."""
    focal = FOCAL_LENGTH_PX * size[1] / _FULL_WIDTH
    return np.array([[focal, 0.0, (size[1] - 1) / 2], [0.0, focal, (size[0] - 1) / 2], [0.0, 0.0, 1.0]])


def depth_from_distance(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depth along the optical axis from the distance to the camera centre, both (H, W) metres.

    The files named depth_meters hold distances: z = d / |((u - cx) / f, (v - cy) / f, 1)|.
    """
    rays = _rays(distance.shape, hypersim_intrinsics(distance.shape))
    return measured((distance / np.linalg.norm(rays, axis=-1)).astype(np.float32))


def tonemap(radiance: NDArray[np.float32]) -> NDArray[np.uint8]:
    """8-bit RGB from linear radiance (H, W, 3), with the constants of the data set's own preview images.

    Scaled so that the 90th percentile of brightness is shown as 0.8 after gamma 2.2; not finite becomes black.
    """
    clean = np.where(np.isfinite(radiance) & (radiance > 0), radiance, 0)
    bright = float(np.percentile(clean @ _LUMA, _BRIGHT_PERCENTILE))
    scale = _BRIGHT_LEVEL**_GAMMA / bright if bright > 1e-4 else 0.0
    return np.round(255 * np.clip(scale * clean, 0, 1) ** (1 / _GAMMA)).astype(np.uint8)


def _face_camera(normals: NDArray[np.float32], intrinsics: NDArray[np.float64]) -> NDArray[np.float32]:
    """Turn the normals of back faces round; the renderer shows both sides of a surface."""
    away = (normals * _rays(normals.shape, intrinsics)).sum(axis=-1, keepdims=True) > 0
    return np.where(away, -normals, normals).astype(np.float32)


def _rays(shape: tuple[int, ...], intrinsics: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W, 3) rays of the pixels with z = 1."""
    rows, columns = np.indices(shape[:2])
    x = (columns - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (rows - intrinsics[1, 2]) / intrinsics[1, 1]
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def _read_split(path: Path, split: str) -> list[_Frame]:
    advice = "take it from evermotion_dataset/analysis of the Hypersim repository"
    rows: csv.DictReader[Any] = csv.DictReader(io.StringIO(read_text(path, advice)))
    try:
        frames = [
            _Frame(row["scene_name"], row["camera_name"], int(row["frame_id"]))
            for row in rows
            if row["included_in_public_release"] == "True" and row["split_partition_name"] == split
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: not the official split file ({error}); {advice}") from error
    if not frames:
        raise DatasetError(f"{path}: has no frame of the split {split!r}; {advice}")
    return frames
