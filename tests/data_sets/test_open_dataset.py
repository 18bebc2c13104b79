from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from m2h_export.data import DATASET_KINDS, open_dataset
from m2h_export.data.sample import DenseDataset
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "gt_sets").mkdir()
    (tmp_path / "gt_sets" / "train.txt").write_text("a\nb\n")
    for name in "ab":
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), np.full((480, 640, 3), 9, np.uint8))
    return tmp_path


def test_a_size_is_applied_to_every_sample(folder: Path) -> None:
    dataset = open_dataset("nyudv2_folder", folder, size=(48, 64))
    assert isinstance(dataset, DenseDataset)
    assert len(dataset) == 2
    assert len(dataset.class_names) == 40
    assert dataset[1].image.shape == (48, 64, 3)
    assert dataset[1].intrinsics is not None
    assert dataset[1].intrinsics[0, 0] == pytest.approx(51.8857901)


def test_without_a_size_samples_keep_theirs(folder: Path) -> None:
    assert open_dataset("nyudv2_folder", folder)[0].image.shape == (480, 640, 3)


def test_an_unknown_kind_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data set kind 'citscape'; the nearest is 'cityscapes'"):
        open_dataset("citscape", tmp_path)


@pytest.mark.parametrize("kind", sorted(set(DATASET_KINDS) - {"apartments"}))
def test_an_absent_folder_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder; name "):
        open_dataset(kind, tmp_path / "nowhere")


@pytest.mark.parametrize("kind", sorted(set(DATASET_KINDS) - {"apartments", "nyuv2_video"}))
def test_an_unknown_split_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no split 'trian'; choose one of train, val"):
        open_dataset(kind, tmp_path, split="trian")


def test_a_size_must_be_positive(folder: Path) -> None:
    with pytest.raises(InputError, match=r"size \(0, 9\)"):
        open_dataset("nyudv2_folder", folder, size=(0, 9))


def test_opening_loads_neither_torch_nor_other_loaders(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from m2h_export.data import open_dataset; "
        f"open_dataset('nyudv2_folder', Path({str(folder)!r}))[0]; "
        "print([name for name in ('torch', 'h5py', 'scipy', 'm2h_export.data.hypersim') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
