from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import h5py
import numpy as np
import pytest
from scipy.io import savemat

from m2h_export.data.errors import DatasetError
from m2h_export.data.nyudv2_folder import (
    NORMAL_AXES,
    NyuDv2Folder,
    normal_signs,
    normals_from_depth,
    nyud_intrinsics,
    rank_normal_axes,
    to_optical_frame,
)
from m2h_export.data.nyudv2_mat import NyuDv2Mat
from m2h_export.data.sample import IGNORE, Sample
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

H, W = 4, 6
NAMES = ("book", "wall", "floor")  # stands for the 894


@pytest.fixture
def mat(tmp_path: Path) -> Path:
    """Three 4x6 pictures in the official layout, with 3 object classes."""
    images, depths, labels = official_arrays()
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = images.transpose(0, 3, 2, 1)
        file["depths"] = depths.transpose(0, 2, 1)
        file["labels"] = labels.transpose(0, 2, 1)
        references = file.create_dataset("names", (1, len(NAMES)), dtype=h5py.ref_dtype)
        for number, name in enumerate(NAMES):
            file[f"#refs#/{number}"] = np.array([[ord(letter)] for letter in name], np.uint16)
            references[0, number] = file[f"#refs#/{number}"].ref
    savemat(tmp_path / "classMapping40.mat", {"mapClass": np.array([[23.0, 1.0, 2.0]])})
    savemat(
        tmp_path / "splits.mat", {"trainNdxs": np.array([[1], [3]], np.uint16), "testNdxs": np.array([[2]])}
    )
    return tmp_path


def official_arrays() -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (3, H, W, 3)).astype(np.uint8)
    depths = generator.uniform(1, 9, (3, H, W)).astype(np.float32)
    labels = np.full((3, H, W), 2, np.uint16)
    labels[:, :, 3:] = 3
    labels[:, 0, 0] = 0
    labels[:, 3, 5] = 1
    return images, depths, labels


def test_mat_pictures_are_turned_upright_and_split_from_one(mat: Path) -> None:
    images, depths, _ = official_arrays()
    train, test = NyuDv2Mat(mat, "train"), NyuDv2Mat(mat, "test")
    assert [train[i].name for i in range(len(train))] == ["0001", "0003"]
    assert [test[0].name, len(test), len(NyuDv2Mat(mat, "val"))] == ["0002", 1, 1]
    np.testing.assert_array_equal(train[1].image, images[2])
    np.testing.assert_array_equal(train[1].depth, depths[2])


def test_mat_labels_become_40_classes_and_void(mat: Path) -> None:
    dataset = NyuDv2Mat(mat)
    semantics = dataset[0].semantics
    assert semantics is not None
    assert semantics[0, 0] == IGNORE
    assert semantics[3, 5] == 22
    assert semantics[1].tolist() == [0, 0, 0, 1, 1, 1]
    assert [dataset.class_names[i] for i in (22, 0, 1)] == ["books", "wall", "floor"]
    assert dataset.object_names() == NAMES


def test_mat_boundaries_lie_between_classes(mat: Path) -> None:
    edges = NyuDv2Mat(mat)[0].edges
    assert edges is not None
    assert edges[1].tolist() == [0, 0, 1, 0, 0, 0]
    assert edges[0, 0] == IGNORE


def test_mat_takes_normals_from_a_folder(mat: Path) -> None:
    (mat / "normals").mkdir()
    rgb = np.full((H, W, 3), (0, 127, 127), np.uint8)
    cv2.imwrite(str(mat / "normals" / "0001.png"), rgb[..., ::-1])
    normals = NyuDv2Mat(mat, normals=mat / "normals", normal_axes="left_up_backward")[0].normals
    assert normals is not None
    # Red 0 is -1 along the file's x, which points left.
    np.testing.assert_allclose(normals[0, 0], (1, 0, 0), atol=0.01)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("splits.mat", None, r"splits\.mat: no such file; put the published"),
        ("splits.mat", {"trainNdxs": np.array([[4]])}, r"trainNdxs must hold picture numbers 1\.\.3"),
        ("splits.mat", {"testNdxs": np.array([[1]])}, r"splits\.mat: has no variable 'trainNdxs'"),
        ("classMapping40.mat", None, r"classMapping40\.mat: no such file"),
        (
            "classMapping40.mat",
            {"mapClass": np.array([[1, 2]])},
            r"2 entries in 1\.\.2, expected 3 in 1\.\.40",
        ),
        ("classMapping40.mat", {"mapClass": np.array([[1, 2, 41]])}, r"3 entries in 1\.\.41"),
        ("nyu_depth_v2_labeled.mat", None, r"labeled\.mat: no such file; download it"),
        ("nyu_depth_v2_labeled.mat", {"images": 1}, r"labeled\.mat: not the labelled NYUDv2 file"),
    ],
)
def test_mat_faults_are_named(mat: Path, file: str, content: dict[str, Any] | None, message: str) -> None:
    (mat / file).unlink()
    if content is not None:
        savemat(mat / file, content)
    with pytest.raises(DatasetError, match=message):
        NyuDv2Mat(mat)


def test_mat_of_another_layout_is_refused(mat: Path) -> None:
    with h5py.File(mat / "nyu_depth_v2_labeled.mat", "a") as file:
        del file["depths"]
        file["depths"] = np.zeros((3, W, H - 1), np.float32)
    with pytest.raises(DatasetError, match="images, depths, labels have shapes"):
        NyuDv2Mat(mat)


def test_mat_label_outside_the_mapping_is_refused(mat: Path) -> None:
    with h5py.File(mat / "nyu_depth_v2_labeled.mat", "a") as file:
        file["labels"][2, 0, 0] = 9
    with pytest.raises(DatasetError, match=r"picture 3 has label 9, classMapping40\.mat maps 3"):
        NyuDv2Mat(mat)[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One 4x6 picture in the layout NYUD_MT."""
    for task in ("images", "depth", "normals", "segmentation", "edge", "gt_sets"):
        (tmp_path / task).mkdir()
    (tmp_path / "gt_sets" / "train.txt").write_text("0001\n\n")
    cv2.imwrite(str(tmp_path / "images" / "0001.png"), np.full((H, W, 3), (10, 20, 30), np.uint8))
    depth = np.full((H, W), 2.5, np.float32)
    depth[0, :3] = 0, np.nan, -1
    np.save(tmp_path / "depth" / "0001.npy", depth)
    labels = np.full((H, W), 40, np.uint8)
    labels[0, :3] = 0, 1, 255
    cv2.imwrite(str(tmp_path / "segmentation" / "0001.png"), labels)
    normals = np.full((H, W, 3), (127, 127, 255), np.uint8)
    normals[0, 0] = 127
    cv2.imwrite(str(tmp_path / "normals" / "0001.png"), normals[..., ::-1])
    edges = np.zeros((H, W), np.uint8)
    edges[1] = 255
    cv2.imwrite(str(tmp_path / "edge" / "0001.png"), edges)
    return tmp_path


def test_folder_maps(folder: Path) -> None:
    sample = NyuDv2Folder(folder)[0]
    assert sample.image[0, 0].tolist() == [30, 20, 10]
    assert sample.depth is not None
    assert sample.depth[0].tolist() == [0, 0, 0, 2.5, 2.5, 2.5]
    assert sample.semantics is not None
    assert sample.semantics[0].tolist() == [255, 0, 255, 39, 39, 39]
    assert sample.edges is not None
    assert sample.edges[:, 0].tolist() == [0, 1, 0, 0]
    assert sample.normals is not None
    np.testing.assert_allclose(sample.normals[1, 1], (0, 0, -1), atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(sample.normals, axis=2), 1, atol=1e-6)
    assert sample.intrinsics is None  # no known crop has this size


def test_gray_pixels_of_a_normal_map_can_be_dropped(folder: Path) -> None:
    normals = NyuDv2Folder(folder, shortest_normal=0.1)[0].normals
    assert normals is not None
    assert not normals[0, 0].any()
    assert normals[1:].any(axis=2).all()


def test_edge_files_with_ones_are_read_alike(folder: Path) -> None:
    edges = np.zeros((H, W), np.uint8)
    edges[1] = 1
    cv2.imwrite(str(folder / "edge" / "0001.png"), edges)
    np.testing.assert_array_equal(NyuDv2Folder(folder)[0].edges, edges)


def test_a_task_without_folder_has_no_truth(folder: Path) -> None:
    (folder / "depth" / "0001.npy").unlink()
    (folder / "depth").rmdir()
    sample = NyuDv2Folder(folder)[0]
    assert sample.depth is None
    assert sample.semantics is not None


def test_folder_faults_are_named(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"val\.txt: no such file"):
        NyuDv2Folder(folder, "val")
    (folder / "gt_sets" / "val.txt").write_text("0002\n")
    with pytest.raises(DatasetError, match=r"0002\.png: no such file; also looked for \.jpg"):
        NyuDv2Folder(folder, "val")[0]
    dataset = NyuDv2Folder(folder)
    np.save(folder / "depth" / "0001.npy", np.ones((H, W + 1), np.float32))
    with pytest.raises(DatasetError, match=r"0001\.npy: expected \(4, 6\) like the image, got \(4, 7\)"):
        dataset[0]
    np.save(folder / "depth" / "0001.npy", np.array(["no depth"]))
    with pytest.raises(DatasetError, match=r"0001\.npy: expected numbers"):
        dataset[0]
    np.save(folder / "depth" / "0001.npy", np.ones((H, W), np.float32))
    cv2.imwrite(str(folder / "segmentation" / "0001.png"), np.full((H, W), 41, np.uint8))
    with pytest.raises(DatasetError, match=r"segmentation.0001\.png: label 41 is outside 0\.\.40"):
        dataset[0]


@pytest.mark.parametrize(
    ("axes", "signs"),
    [
        ("right_down_forward", (1, 1, 1)),
        ("right_up_backward", (1, -1, -1)),
        ("left_up_backward", (-1, -1, -1)),
        ("left_down_forward", (-1, 1, 1)),
    ],
)
def test_axis_names(axes: str, signs: tuple[int, int, int]) -> None:
    assert normal_signs(axes).tolist() == list(signs)
    assert to_optical_frame(np.array([[[0.0, 0.0, 2.0]]]), axes).tolist() == [[[0, 0, signs[2]]]]


def test_unknown_axes_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="no normal axes 'upwards'; choose one of right_down_forward"):
        NyuDv2Folder(folder, normal_axes="upwards")


def plane_sample(axes_in_file: str) -> tuple[Sample, NDArray[np.float64]]:
    """A plane n . P = -2 with true normals, and its n."""
    intrinsics = np.array([[60.0, 0.0, 31.5], [0.0, 60.0, 23.5], [0.0, 0.0, 1.0]])
    normal = np.array([0.3, -0.5, -0.8])
    normal /= np.linalg.norm(normal)
    rows, columns = np.indices((48, 64))
    rays = np.stack([(columns - 31.5) / 60, (rows - 23.5) / 60, np.ones((48, 64))], axis=-1)
    depth = (-2 / (rays @ normal)).astype(np.float32)
    in_file = np.broadcast_to(normal * normal_signs(axes_in_file), (48, 64, 3))
    sample = Sample(
        "plane",
        np.zeros((48, 64, 3), np.uint8),
        depth=depth,
        normals=to_optical_frame(in_file, "left_up_backward"),
        intrinsics=intrinsics,
    )
    return sample, normal


def test_normals_of_a_plane_face_the_camera() -> None:
    sample, normal = plane_sample("left_up_backward")
    assert sample.depth is not None
    assert sample.intrinsics is not None
    found = normals_from_depth(sample.depth, sample.intrinsics)
    np.testing.assert_allclose(found[1:-1, 1:-1], np.broadcast_to(normal, (46, 62, 3)), atol=1e-4)
    assert not found[0].any()
    assert not found[:, -1].any()


def test_a_hole_in_the_depth_hides_its_neighbours() -> None:
    sample, _ = plane_sample("left_up_backward")
    assert sample.depth is not None
    assert sample.intrinsics is not None
    depth = sample.depth.copy()
    depth[20, 30] = 0
    found = np.linalg.norm(normals_from_depth(depth, sample.intrinsics), axis=2) > 0
    assert [found[20, 30], found[19, 30], found[20, 31], found[19, 31]] == [False, False, False, True]


@pytest.mark.parametrize("axes", NORMAL_AXES)
def test_the_right_axes_are_found(axes: str) -> None:
    sample, _ = plane_sample(axes)
    ranking = rank_normal_axes(sample, loaded_as="left_up_backward")
    assert ranking[0][0] == axes
    assert ranking[0][1] < 0.1
    assert ranking[1][1] > 20
    assert len(ranking) == 8


def test_the_axes_check_needs_all_maps() -> None:
    with pytest.raises(DatasetError, match="bare: the check of normal axes needs"):
        rank_normal_axes(Sample("bare", np.zeros((2, 2, 3), np.uint8)))


def test_the_camera_of_the_crop_is_shifted() -> None:
    full, crop = nyud_intrinsics((480, 640)), nyud_intrinsics((425, 560))
    assert full is not None
    assert crop is not None
    assert full[:2, 2] - crop[:2, 2] == pytest.approx([40, 45])
    assert nyud_intrinsics((10, 10)) is None
