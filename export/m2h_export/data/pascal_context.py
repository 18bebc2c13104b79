"""PASCAL-Context in the layout of the multi-task benchmarks (`PASCAL_MT`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_export.data.boundaries import semantic_boundaries
from m2h_export.data.errors import (
    DatasetError,
    check_range,
    check_size,
    read_gray,
    read_image,
    read_labels,
    read_lines,
    read_mat,
    read_text,
    require_file,
    require_folder,
    require_split,
)
from m2h_export.data.nyudv2_folder import NYUD_NORMAL_AXES, decode_normals, normal_signs, to_optical_frame
from m2h_export.data.sample import IGNORE, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CLASS_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
HUMAN_PART_NAMES = ("background", "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg")
SALIENCY_NAMES = ("background", "salient")

_PERSON = CLASS_NAMES.index("person")
_PARTS_OF_CLASS = {
    1: "head hair mouth nose lear rear lebrow rebrow leye reye",
    2: "torso neck",
    3: "luarm ruarm",
    4: "llarm rlarm lhand rhand",
    5: "luleg ruleg",
    6: "llleg rlleg lfoot rfoot",
}
_CLASS_OF_PART = {part: number for number, parts in _PARTS_OF_CLASS.items() for part in parts.split()}
_RENAMED = "tvmonitor"  # the one class that NYUD and Context share under different names
_FETCH = "take it from PASCAL_MT"


class PascalContext:
    """PASCAL_MT: 21 classes, boundaries, normals; "human_parts" and "saliency" in `extra`.

    A task whose folder is missing is None, or absent from `extra`. Normals and saliency are distilled: the
    predictions of published networks, not measurements.

    Args:
        root: the folder that holds JPEGImages/ and ImageSets/Context/.
        split: "train" (4998) or "val" (5105).
        normal_axes: convention of normals_distill/, one of `nyudv2_folder.NORMAL_AXES`.

    Raises:
        DatasetError: a folder or a list is missing; on reading, a file is missing or malformed.
    """

    def __init__(self, root: Path, split: str = "train", *, normal_axes: str = NYUD_NORMAL_AXES) -> None:
        require_split(split, ("train", "val"), "pascal_context")
        normal_signs(normal_axes)
        self.root = require_folder(root, "name the folder of PASCAL_MT")
        require_folder(root / "JPEGImages", "this is not PASCAL_MT, which keeps its pictures there")
        listing = root / "ImageSets" / "Context" / f"{split}.txt"
        self._names = read_lines(listing, "PASCAL_MT lists the names of a split there, one a line")
        self._normal_axes = normal_axes
        self._context = root / "pascal-context" / "trainval"
        self._has = {
            task: (root / task).is_dir()
            for task in ("semseg", "human_parts", "sal_distill", "normals_distill", "pascal-context/trainval")
        }
        self._normal_classes = self._read_normal_classes() if self._has["normals_distill"] else ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The 20 classes of PASCAL VOC after background."""
        return CLASS_NAMES

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        name = self._names[index]
        image = read_image(self.root / "JPEGImages" / f"{name}.jpg")
        size = image.shape[:2]
        context = self._label_map(name, size) if self._has["pascal-context/trainval"] else None
        extra = {}
        if self._has["human_parts"]:
            extra["human_parts"] = self._human_parts(name, size)
        if self._has["sal_distill"]:
            extra["saliency"] = self._saliency(name, size)
        return Sample(
            name,
            image,
            semantics=self._semantics(name, size) if self._has["semseg"] else None,
            normals=None if context is None or not self._normal_classes else self._normals(name, context),
            edges=None if context is None else semantic_boundaries(context, ignore=None),
            extra=extra,
        )

    def _read_normal_classes(self) -> tuple[int, ...]:
        """Context classes that also exist in NYUD: only there the distilled normals count."""
        require_folder(self._context, "normals_distill is valid on some Context classes only; " + _FETCH)
        nyud = _read_classes(self.root / "json" / "nyu_classes.json")
        context = _read_classes(self.root / "json" / "context_classes.json")
        shared = (nyud.keys() & context.keys() - {"unknown"}) | ({_RENAMED} & context.keys())
        return tuple(sorted(context[name] for name in shared))

    def _semantics(self, name: str, size: tuple[int, ...]) -> NDArray[np.uint8]:
        folders = [self.root / "semseg" / source for source in ("VOC12", "pascal-context")]
        paths = [folder / f"{name}.png" for folder in folders]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            path = require_file(paths[0], f"it is not in {folders[1]} either; {_FETCH}")
        labels = read_labels(path)
        check_size(path, labels, size)
        check_range(path, labels, len(CLASS_NAMES) - 1)
        return labels

    def _label_map(self, name: str, size: tuple[int, ...]) -> NDArray[np.int64]:
        path = self._context / f"{name}.mat"
        labels = np.asarray(read_mat(path, "LabelMap", _FETCH))
        check_size(path, labels, size)
        if labels.dtype.kind not in "iu":
            raise DatasetError(f"{path}: LabelMap must hold integers, got {labels.dtype}; {_FETCH}")
        return labels.astype(np.int64)

    def _normals(self, name: str, context: NDArray[np.int64]) -> NDArray[np.float32]:
        path = self.root / "normals_distill" / f"{name}.png"
        rgb = read_image(path)
        check_size(path, rgb, context.shape, 3)
        valid = np.isin(context, self._normal_classes)[..., None]
        return np.where(valid, to_optical_frame(decode_normals(rgb), self._normal_axes), 0).astype(np.float32)

    def _saliency(self, name: str, size: tuple[int, ...]) -> NDArray[np.uint8]:
        path = self.root / "sal_distill" / f"{name}.png"
        values = read_gray(path, np.uint8)
        check_size(path, values, size)
        return np.asarray(values > 127, np.uint8)

    def _human_parts(self, name: str, size: tuple[int, ...]) -> NDArray[np.uint8]:
        """Parts of all persons; the whole picture is ignored where no person has parts."""
        path = self.root / "human_parts" / f"{name}.mat"
        annotation = read_mat(path, "anno", _FETCH)
        labels = np.zeros(size, np.uint8)
        try:
            for thing in _as_list(annotation["objects"]):
                if int(thing["class_ind"]) != _PERSON:
                    continue
                for part in _as_list(thing["parts"]):
                    mask = np.asarray(part["mask"], bool)
                    check_size(path, mask, size)
                    labels[mask] = _CLASS_OF_PART[part["part_name"]]
        except (KeyError, TypeError, IndexError) as error:
            raise DatasetError(
                f"{path}: not an annotation of PASCAL parts ({error!r} missing); {_FETCH}"
            ) from error
        return labels if labels.any() else np.full(size, IGNORE, np.uint8)


def _as_list(values: Any) -> list[Any]:
    """A MATLAB struct array as a list; scipy gives a lone struct as a dict and none as an empty array."""
    return [values] if isinstance(values, dict) else list(values)


def _read_classes(path: Path) -> dict[str, int]:
    advice = "the multi-task code bases ship it (db_info or json); it maps class names to ids"
    try:
        content = json.loads(read_text(path, advice))
        return {str(name): int(number) for name, number in content.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DatasetError(f"{path}: not a JSON map from class names to ids; {advice}") from error
