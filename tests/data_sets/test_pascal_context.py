from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from m2h_export.data.errors import DatasetError
from m2h_export.data.pascal_context import PascalContext
from m2h_export.data.sample import IGNORE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

H, W = 4, 6
WALL, SKY = 440, 360


def struct(fields: Sequence[str], rows: Sequence[Sequence[Any]]) -> np.ndarray[Any, Any]:
    """A 1 x N MATLAB struct array."""
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for number, row in enumerate(rows):
        for field, value in zip(fields, row, strict=True):
            array[field][0, number] = value
    return array


def write_parts(path: Path, objects: Sequence[tuple[str, int, Sequence[tuple[str, int]]]]) -> None:
    """Objects as (class, number, parts as (name, column that the part fills))."""
    rows = []
    for name, number, parts in objects:
        masks = []
        for part, column in parts:
            mask = np.zeros((H, W), np.uint8)
            mask[:, column] = 1
            masks.append((part, mask))
        stored = struct(("part_name", "mask"), masks) if masks else np.zeros((0, 0))
        rows.append((name, number, np.ones((H, W), np.uint8), stored))
    things = struct(("class", "class_ind", "mask", "parts"), rows)
    savemat(path, {"anno": struct(("imname", "objects"), [(path.stem, things)])})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folders = "JPEGImages ImageSets/Context semseg/VOC12 semseg/pascal-context human_parts sal_distill"
    for folder in f"{folders} normals_distill pascal-context/trainval json".split():
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets" / "Context" / "train.txt").write_text("2008_000001\n2008_000002\n")
    nyu = {"wall": 21, "floor": 11, "unknown": 20, "television": 172}
    context = {"wall": WALL, "sky": SKY, "unknown": 431, "tvmonitor": 427}
    (tmp_path / "json" / "nyu_classes.json").write_text(json.dumps(nyu))
    (tmp_path / "json" / "context_classes.json").write_text(json.dumps(context))
    label_map = np.full((H, W), SKY, np.uint16)
    label_map[:, :2] = WALL
    label_map[:, 5] = 427
    for number, name in enumerate(("2008_000001", "2008_000002")):
        cv2.imwrite(str(tmp_path / "JPEGImages" / f"{name}.jpg"), np.full((H, W, 3), 90, np.uint8))
        source = ("VOC12", "pascal-context")[number]
        labels = np.full((H, W), 15 + number, np.uint8)
        labels[0, 0] = 255
        cv2.imwrite(str(tmp_path / "semseg" / source / f"{name}.png"), labels)
        saliency = np.zeros((H, W), np.uint8)
        saliency[:, :2] = 127, 128
        cv2.imwrite(str(tmp_path / "sal_distill" / f"{name}.png"), saliency)
        rgb = np.full((H, W, 3), (127, 127, 255), np.uint8)
        cv2.imwrite(str(tmp_path / "normals_distill" / f"{name}.png"), rgb[..., ::-1])
        savemat(tmp_path / "pascal-context" / "trainval" / f"{name}.mat", {"LabelMap": label_map})
    parts = tmp_path / "human_parts"
    two = [("person", 15, [("hair", 0), ("lhand", 1)]), ("person", 15, [("torso", 1), ("rfoot", 2)])]
    write_parts(parts / "2008_000001.mat", [*two, ("dog", 12, [("tail", 4)])])
    write_parts(parts / "2008_000002.mat", [("person", 15, []), ("dog", 12, [("head", 4)])])
    return tmp_path


def test_semantics_come_from_either_folder(root: Path) -> None:
    dataset = PascalContext(root)
    first, second = dataset[0].semantics, dataset[1].semantics
    assert first is not None
    assert second is not None
    assert [first[0, 0], first[1, 1], second[1, 1]] == [IGNORE, 15, 16]
    assert (len(dataset.class_names), dataset.class_names[15]) == (21, "person")


def test_parts_of_all_persons_and_of_no_dog(root: Path) -> None:
    parts = PascalContext(root)[0].extra["human_parts"]
    # hair -> head, the second person's torso over the first one's hand, foot -> lower leg
    assert parts[0].tolist() == [1, 2, 6, 0, 0, 0]


def test_a_picture_without_parts_of_a_person_is_ignored_whole(root: Path) -> None:
    assert (PascalContext(root)[1].extra["human_parts"] == IGNORE).all()


def test_a_lone_object_with_a_lone_part(root: Path) -> None:
    write_parts(root / "human_parts" / "2008_000001.mat", [("person", 15, [("rulleg", 0)])])
    with pytest.raises(DatasetError, match=r"2008_000001\.mat: not an annotation of PASCAL parts.*rulleg"):
        PascalContext(root)[0]
    write_parts(root / "human_parts" / "2008_000001.mat", [("person", 15, [("ruleg", 0)])])
    assert PascalContext(root)[0].extra["human_parts"][0].tolist() == [5, 0, 0, 0, 0, 0]


def test_saliency_is_decided_at_one_half(root: Path) -> None:
    assert PascalContext(root)[0].extra["saliency"][0].tolist() == [0, 1, 0, 0, 0, 0]


def test_normals_count_on_classes_that_nyud_has(root: Path) -> None:
    normals = PascalContext(root)[0].normals
    assert normals is not None
    np.testing.assert_allclose(normals[0, :2], [(0, 0, -1)] * 2, atol=0.01)
    assert not normals[:, 2:5].any()
    assert normals[:, 5].any(axis=1).all()  # tvmonitor, which NYUD calls television


def test_boundaries_come_from_the_context_labels(root: Path) -> None:
    edges = PascalContext(root)[0].edges
    assert edges is not None
    assert edges.tolist() == [[0, 1, 0, 0, 1, 0]] * H


def test_absent_tasks_are_left_out(root: Path) -> None:
    for path in (root / "sal_distill").iterdir():
        path.unlink()
    (root / "sal_distill").rmdir()
    assert set(PascalContext(root)[0].extra) == {"human_parts"}


def test_faults_are_named(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"val\.txt: no such file"):
        PascalContext(root, "val")
    dataset = PascalContext(root)
    mat = root / "pascal-context" / "trainval" / "2008_000001.mat"
    savemat(mat, {"Labels": np.zeros((H, W))})
    with pytest.raises(DatasetError, match=r"2008_000001\.mat: has no variable 'LabelMap'"):
        dataset[0]
    mat.write_bytes(b"not matlab")
    with pytest.raises(DatasetError, match=r"2008_000001\.mat: not a MATLAB file that scipy reads"):
        dataset[0]
    savemat(mat, {"LabelMap": np.zeros((H, W + 1), np.uint16)})
    with pytest.raises(DatasetError, match=r"2008_000001\.mat: expected \(4, 6\) like the image"):
        dataset[0]
    (root / "semseg" / "pascal-context" / "2008_000002.png").unlink()
    with pytest.raises(
        DatasetError, match=r"VOC12.2008_000002\.png: no such file; it is not in .*pascal-context"
    ):
        dataset[1]
    (root / "json" / "nyu_classes.json").unlink()
    with pytest.raises(DatasetError, match=r"nyu_classes\.json: no such file"):
        PascalContext(root)
