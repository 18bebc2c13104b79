from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import h5py
import numpy as np
import pytest

from m2h_export.data.errors import DatasetError
from m2h_export.data.hypersim import Hypersim, depth_from_distance, hypersim_intrinsics, tonemap
from m2h_export.data.sample import IGNORE

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

H, W = 6, 8
HEADER = "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name\n"


def write_hdf5(path: Path, values: NDArray[np.generic]) -> None:
    with h5py.File(path, "w") as file:
        file["dataset"] = values


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two frames of one scene, a third that is not public, a fourth of another split."""
    rows = ["0,True,,train", "2,True,,train", "3,False,CONTENT,", "4,True,,val"]
    lines = "".join(f"ai_001_001,cam_00,{row}\n" for row in rows)
    (tmp_path / "metadata_images_split_scene_v1.csv").write_text(HEADER + lines)
    images = tmp_path / "ai_001_001" / "images"
    preview, geometry = images / "scene_cam_00_final_preview", images / "scene_cam_00_geometry_hdf5"
    preview.mkdir(parents=True)
    geometry.mkdir()
    (images / "scene_cam_00_final_hdf5").mkdir()
    distance = np.full((H, W), 3, np.float16)
    distance[0, 0] = np.nan
    semantic = np.full((H, W), 1, np.int16)
    semantic[:, 4:] = 40
    semantic[0, 0] = -1
    normals = np.zeros((H, W, 3), np.float16)
    normals[..., 2] = 1  # towards the camera: z points backward
    normals[1, 1] = normals[4, 4] = 0, 1, 0  # up
    normals[2, 2] = 0, 0, -1  # a back face
    normals[3, 3] = np.nan
    for number in (0, 2):
        cv2.imwrite(
            str(preview / f"frame.{number:04d}.tonemap.jpg"), np.full((H, W, 3), 40 * number, np.uint8)
        )
        write_hdf5(geometry / f"frame.{number:04d}.depth_meters.hdf5", distance)
        write_hdf5(geometry / f"frame.{number:04d}.semantic.hdf5", semantic)
        write_hdf5(geometry / f"frame.{number:04d}.normal_cam.hdf5", normals)
    return tmp_path


def test_public_frames_of_the_split(root: Path) -> None:
    dataset = Hypersim(root)
    assert [dataset[i].name for i in range(len(dataset))] == [
        "ai_001_001/cam_00/0000",
        "ai_001_001/cam_00/0002",
    ]
    assert dataset[1].image[0, 0].tolist() == [80, 80, 80]


def test_distance_becomes_depth_along_the_axis(root: Path) -> None:
    sample = Hypersim(root)[0]
    assert sample.depth is not None
    assert sample.intrinsics is not None
    assert sample.depth[0, 0] == 0  # not a number in the file
    ray = np.linalg.inv(sample.intrinsics) @ (7, 5, 1)
    assert np.linalg.norm(ray * sample.depth[5, 7]) == pytest.approx(3, abs=1e-5)
    assert sample.depth[5, 7] < sample.depth[3, 4] < 3


def test_depth_of_a_wall_is_the_same_everywhere() -> None:
    rows, columns = np.indices((768, 1024))
    distance = 2 * np.sqrt(1 + ((columns - 511.5) / 886.81) ** 2 + ((rows - 383.5) / 886.81) ** 2)
    np.testing.assert_allclose(depth_from_distance(distance.astype(np.float32)), 2, atol=1e-5)


def test_the_focal_length_follows_the_width() -> None:
    assert hypersim_intrinsics((768, 1024))[0, 0] == 886.81
    assert hypersim_intrinsics((384, 512))[1, 1] == pytest.approx(443.405)


def test_labels_boundaries_and_normals(root: Path) -> None:
    dataset = Hypersim(root)
    sample = dataset[0]
    assert sample.semantics is not None
    assert sample.semantics[0].tolist() == [IGNORE, 0, 0, 0, 39, 39, 39, 39]
    assert (dataset.class_names[0], dataset.class_names[39]) == ("wall", "other prop")
    assert sample.edges is not None
    assert sample.edges[2].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    assert sample.normals is not None
    assert sample.normals[0, 0].tolist() == [0, 0, -1]
    assert sample.normals[2, 2].tolist() == [0, 0, -1]
    assert sample.normals[3, 3].tolist() == [0, 0, 0]
    # Row 1 is above the horizon, where an upward face shows its back; below it shows its front.
    assert sample.normals[1, 1].tolist() == [0, 1, 0]
    assert sample.normals[4, 4].tolist() == [0, -1, 0]


def test_radiance_is_tone_mapped_where_no_preview_exists(root: Path) -> None:
    images = root / "ai_001_001" / "images"
    (images / "scene_cam_00_final_preview" / "frame.0000.tonemap.jpg").unlink()
    write_hdf5(
        images / "scene_cam_00_final_hdf5" / "frame.0000.color.hdf5", np.full((H, W, 3), 7, np.float16)
    )
    assert Hypersim(root)[0].image[0, 0].tolist() == [204, 204, 204]  # 0.8 of 255


def test_tone_mapping_of_darkness_and_of_bad_pixels() -> None:
    radiance = np.ones((4, 4, 3), np.float32)
    radiance[0, 0] = np.inf
    radiance[0, 1] = 1e6
    assert tonemap(radiance)[0].tolist() == [[0] * 3, [255] * 3, [204] * 3, [204] * 3]
    assert not tonemap(np.zeros((2, 2, 3), np.float32)).any()


def test_faults_are_named(root: Path) -> None:
    geometry = root / "ai_001_001" / "images" / "scene_cam_00_geometry_hdf5"
    dataset = Hypersim(root)
    write_hdf5(geometry / "frame.0000.semantic.hdf5", np.full((H, W), 41, np.int16))
    with pytest.raises(DatasetError, match=r"frame\.0000\.semantic\.hdf5: label 41 is outside 0\.\.40"):
        dataset[0]
    (geometry / "frame.0000.depth_meters.hdf5").write_bytes(b"cut")
    write_hdf5(geometry / "frame.0000.semantic.hdf5", np.full((H, W), 40, np.int16))
    with pytest.raises(DatasetError, match=r"frame\.0000\.depth_meters\.hdf5: no readable array 'dataset'"):
        dataset[0]
    write_hdf5(geometry / "frame.0002.normal_cam.hdf5", np.zeros((H, W, 2), np.float16))
    with pytest.raises(DatasetError, match=r"normal_cam\.hdf5: expected \(6, 8, 3\).*got \(6, 8, 2\)"):
        dataset[1]
    with pytest.raises(DatasetError, match="has no frame of the split 'test'"):
        Hypersim(root, "test")


def test_a_missing_scene_is_counted(root: Path) -> None:
    path = root / "metadata_images_split_scene_v1.csv"
    path.write_text(path.read_text() + "ai_009_009,cam_00,0,True,,train\n")
    with pytest.raises(DatasetError, match=r"ai_009_009: no such scene.*1 of 2 of the split"):
        Hypersim(root)


def test_another_csv_is_refused(root: Path) -> None:
    (root / "metadata_images_split_scene_v1.csv").write_text("scene,frame\na,1\n")
    with pytest.raises(DatasetError, match="not the official split file"):
        Hypersim(root)
