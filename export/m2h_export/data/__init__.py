"""Data sets, opened by name; each loader is imported when it is asked for."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_export.data.sample import DenseDataset

_LOADERS = {
    "apartments": ("m2h_export.data.apartments", "Apartments"),
    "cityscapes": ("m2h_export.data.cityscapes", "Cityscapes"),
    "hypersim": ("m2h_export.data.hypersim", "Hypersim"),
    "nyudv2": ("m2h_export.data.nyudv2_mat", "NyuDv2Mat"),
    "nyudv2_folder": ("m2h_export.data.nyudv2_folder", "NyuDv2Folder"),
    "nyuv2_video": ("m2h_export.data.nyuv2_video", "NyuV2Video"),
    "pascal_context": ("m2h_export.data.pascal_context", "PascalContext"),
}

DATASET_KINDS = tuple(_LOADERS)
"""What `open_dataset` knows."""


def open_dataset(
    kind: str, root: Path, *, split: str = "train", size: tuple[int, int] | None = None
) -> DenseDataset:
    """Open the data set of `kind` in the folder `root`.

    Args:
        kind: one of `DATASET_KINDS`; docs/data-sets.md shows each folder layout.
        root: folder of the data set.
        split: "train", "val", and "test" where the data set has one.
        size: (height, width) of every sample; None leaves each at its own.

    Raises:
        InputError: no such kind, split or size.
        DatasetError: a folder or a list of the layout is missing.
    """
    if kind not in _LOADERS:
        nearest = get_close_matches(kind, DATASET_KINDS, 1, 0.0)[0]
        raise InputError(
            f"no data set kind {kind!r}; the nearest is {nearest!r}, all are {', '.join(DATASET_KINDS)}"
        )
    module, name = _LOADERS[kind]
    dataset: DenseDataset = getattr(import_module(module), name)(root, split)
    if size is None:
        return dataset
    if min(size) < 1:
        raise InputError(f"size {size}: height and width must be at least 1; give e.g. (224, 224)")
    from m2h_export.data.resize import ResizedDataset, ResizedPosedDataset
    from m2h_export.data.views import PosedDataset

    return (ResizedPosedDataset if isinstance(dataset, PosedDataset) else ResizedDataset)(dataset, size)
