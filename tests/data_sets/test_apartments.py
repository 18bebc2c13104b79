"""The loader of simulated apartments, on a few real frames."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import yaml

from m2h_export.data import open_dataset
from m2h_export.data.errors import DatasetError
from m2h_export.data.sample import IGNORE, DenseDataset
from m2h_runtime.cli.sim import main as m2h_sim
from m2h_runtime.simulation.episode import Episode, default_camera

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (48, 64)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("apartments")
    arguments = ["--apartments", "1", "--frames", "2", "--survey", "2", "--duration", "20"]
    assert m2h_sim([*arguments, "--size", "64x48", "--workers", "1", "--out", str(out)]) == 0
    return out


@pytest.fixture
def root(rendered: Path, tmp_path: Path) -> Path:
    return shutil.copytree(rendered, tmp_path / "apartments")


def episode_of(root: Path) -> Path:
    (episode,) = (root / "train").iterdir()
    return episode


def test_a_sample_is_what_was_rendered(root: Path) -> None:
    data = open_dataset("apartments", root)
    assert isinstance(data, DenseDataset)
    assert len(data) == 4
    assert data.class_names[:3] == ("unknown", "wall", "floor")
    sample = data[2]
    shot = Episode(0, "handheld", 20.0, default_camera(64, 48)).survey_shot(0)
    np.testing.assert_array_equal(sample.image, shot.image)
    np.testing.assert_allclose(sample.depth, shot.view.depth, atol=6e-4)
    np.testing.assert_allclose(sample.normals, shot.view.normals, atol=4e-5)
    known = shot.view.labels > 0
    np.testing.assert_array_equal(sample.semantics[known], shot.view.labels20[known])
    assert set(np.unique(sample.semantics[~known])) <= {IGNORE}
    np.testing.assert_allclose(sample.world_from_camera, shot.world_from_camera, atol=1e-6)
    assert sample.intrinsics[0, 0] == pytest.approx(default_camera(64, 48).fx)
    assert sample.edges.max() == 1


def test_a_reserved_apartment_is_refused_in_training(root: Path) -> None:
    file = episode_of(root) / "episode.yaml"
    settings = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**settings, "seed": 9003}))
    with pytest.raises(DatasetError, match=r"apartment 9003 is reserved for judging and cannot be in train"):
        open_dataset("apartments", root)


def test_no_such_split_tells_the_command(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"val: no such folder; make it: m2h-sim --split val"):
        open_dataset("apartments", root, split="val")


def test_an_empty_split_tells_the_command(root: Path) -> None:
    (root / "test").mkdir()
    with pytest.raises(DatasetError, match=r"test: no episodes; make some"):
        open_dataset("apartments", root, split="test")


@pytest.mark.parametrize("name", ["rgb", "depth", "labels", "normals"])
def test_a_missing_picture_is_named(root: Path, name: str) -> None:
    (episode_of(root) / name / "000001.png").unlink()
    data = open_dataset("apartments", root)
    assert data[0].image.shape == (*SIZE, 3)
    with pytest.raises(DatasetError, match=rf"{name}/000001\.png: missing or no picture"):
        data[1]


def test_a_picture_of_another_kind_is_named(root: Path) -> None:
    cv2.imwrite(str(episode_of(root) / "depth" / "000000.png"), np.zeros(SIZE, np.uint8))
    with pytest.raises(
        DatasetError, match=r"depth/000000\.png: expected uint16 with 1 channels .* got uint8"
    ):
        open_dataset("apartments", root)[0]


@pytest.mark.parametrize("damage", ["", "seed: 1", "]["])
def test_a_damaged_description_is_named(root: Path, damage: str) -> None:
    (episode_of(root) / "episode.yaml").write_text(damage)
    with pytest.raises(DatasetError, match=r"episode\.yaml: damaged"):
        open_dataset("apartments", root)
