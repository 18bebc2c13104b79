from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from m2h_export.data.cityscapes import Cityscapes, depth_from_disparity, log_depth
from m2h_export.data.errors import DatasetError
from m2h_export.data.sample import IGNORE

if TYPE_CHECKING:
    from pathlib import Path

H, W = 3, 6
STEM = "aachen_000000_000019"
LABEL_IDS = np.array([[7, 8, 11, 12, 13, 17], [19, 20, 21, 22, 23, 24], [25, 26, 27, 0, 6, 33]], np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folders = {
        package: tmp_path / package / "train" / "aachen"
        for package in ("leftImg8bit", "gtFine", "disparity", "camera")
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
    cv2.imwrite(
        str(folders["leftImg8bit"] / f"{STEM}_leftImg8bit.png"), np.full((H, W, 3), (1, 2, 3), np.uint8)
    )
    cv2.imwrite(str(folders["gtFine"] / f"{STEM}_gtFine_labelIds.png"), LABEL_IDS)
    disparity = np.full((H, W), 1 + 256 * 50, np.uint16)
    disparity[0, :3] = 0, 1, 1 + 256  # invalid, zero, one pixel
    cv2.imwrite(str(folders["disparity"] / f"{STEM}_disparity.png"), disparity)
    camera = {
        "extrinsic": {"baseline": 0.2, "pitch": 0.03},
        "intrinsic": {"fx": 2250.0, "fy": 2260.0, "u0": 1090.0, "v0": 510.0},
    }
    (folders["camera"] / f"{STEM}_camera.json").write_text(json.dumps(camera))
    return tmp_path


def test_label_ids_become_train_ids(root: Path) -> None:
    dataset = Cityscapes(root)
    sample = dataset[0]
    assert sample.name == f"aachen/{STEM}"
    assert sample.image[0, 0].tolist() == [3, 2, 1]
    assert sample.semantics is not None
    assert sample.semantics.tolist() == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10, 11],
        [12, 13, 14, IGNORE, IGNORE, 18],
    ]
    assert len(dataset.class_names) == 19
    assert [dataset.class_names[i] for i in (0, 10, 13, 18)] == ["road", "sky", "car", "bicycle"]


def test_train_ids_are_taken_where_they_exist(root: Path) -> None:
    labels = np.full((H, W), 18, np.uint8)
    labels[0, 0] = 255
    path = root / "gtFine" / "train" / "aachen" / f"{STEM}_gtFine_labelTrainIds.png"
    cv2.imwrite(str(path), labels)
    np.testing.assert_array_equal(Cityscapes(root)[0].semantics, labels)


def test_disparity_becomes_metric_depth(root: Path) -> None:
    sample = Cityscapes(root)[0]
    assert sample.depth is not None
    # 0.2 m * 2250 px / 50 px = 9 m; at one pixel it would be 450 m, beyond the cap.
    assert sample.depth[0].tolist() == [0, 0, 0, 9, 9, 9]
    assert sample.intrinsics is not None
    assert sample.intrinsics.tolist() == [[2250, 0, 1090], [0, 2260, 510], [0, 0, 1]]


def test_the_cap_is_a_choice() -> None:
    stored = np.array([[1 + 256]], np.uint16)
    assert depth_from_disparity(stored, 450.0).tolist() == [[0]]
    assert depth_from_disparity(stored, 450.0, max_depth_m=500).tolist() == [[450]]


def test_log_depth_of_the_unmeasured_is_not_a_number() -> None:
    result = log_depth(np.array([[0, 1, np.e]], np.float32))
    assert np.isnan(result[0, 0])
    np.testing.assert_allclose(result[0, 1:], (0, 1), atol=1e-6)


def test_without_disparity_there_is_no_depth(root: Path) -> None:
    (root / "disparity" / "train" / "aachen" / f"{STEM}_disparity.png").unlink()
    for folder in ("disparity/train/aachen", "disparity/train", "disparity"):
        (root / folder).rmdir()
    assert Cityscapes(root)[0].depth is None


def test_faults_are_named(root: Path) -> None:
    dataset = Cityscapes(root)
    camera = root / "camera" / "train" / "aachen" / f"{STEM}_camera.json"
    camera.write_text('{"extrinsic": {}}')
    with pytest.raises(DatasetError, match=r"_camera\.json: no baseline and intrinsics"):
        dataset[0]
    camera.write_text("{")
    with pytest.raises(DatasetError, match=r"_camera\.json: no baseline and intrinsics"):
        dataset[0]
    cv2.imwrite(
        str(root / "disparity" / "train" / "aachen" / f"{STEM}_disparity.png"), np.zeros((H, W), np.uint8)
    )
    with pytest.raises(DatasetError, match=r"_disparity\.png: expected one channel of uint16"):
        dataset[0]
    labels = root / "gtFine" / "train" / "aachen" / f"{STEM}_gtFine_labelIds.png"
    cv2.imwrite(str(labels), np.full((H, W), 34, np.uint8))
    with pytest.raises(DatasetError, match=r"labelIds\.png: label 34 is outside 0\.\.33"):
        dataset[0]
    labels.unlink()
    with pytest.raises(DatasetError, match=r"labelIds\.png: no such file"):
        dataset[0]
    with pytest.raises(DatasetError, match=r"val: no such folder; unpack leftImg8bit_trainvaltest\.zip"):
        Cityscapes(root, "val")
