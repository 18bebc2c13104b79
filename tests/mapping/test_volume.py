from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from shapes import CAMERA, FAR, around, box_depth, box_distance, looking, sphere_depth

from m2h_runtime.errors import ContractError
from m2h_runtime.mapping import Mesh, Volume

VOXEL = 0.05


def mapped(depths_and_poses: list, **settings: object) -> Volume:
    volume = Volume(VOXEL, **settings)  # type: ignore[arg-type]
    for depth, pose in depths_and_poses:
        volume.integrate(depth, None, None, CAMERA, pose)
    return volume


@pytest.fixture(scope="module")
def sphere() -> Volume:
    return mapped([(sphere_depth(pose, 0.5), pose) for pose in around(2.0)])


def wall(distance: float, pose: np.ndarray) -> np.ndarray:
    return np.full(CAMERA.size, distance, np.float32)


def border_edges(mesh: Mesh) -> int:
    pairs = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    return sum(count != 2 for count in Counter(map(tuple, pairs.tolist())).values())


def test_a_sphere_lies_within_half_a_voxel_of_where_it_is(sphere: Volume) -> None:
    mesh = sphere.mesh()
    away = np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.5)
    assert away.max() < VOXEL / 2
    assert away.mean() < VOXEL / 8
    assert mesh.areas.sum() == pytest.approx(4 * np.pi * 0.25, rel=0.02)


def test_its_triangles_face_outwards(sphere: Volume) -> None:
    mesh = sphere.mesh()
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    outwards = np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c)
    assert (outwards > 0).mean() > 0.999


def test_views_that_overlap_and_blocks_that_touch_leave_no_seam(sphere: Volume) -> None:
    """The sphere spans eight regions around the origin: closed means that no edge has one side only."""
    assert border_edges(sphere.mesh()) == 0


def test_a_box_lies_within_half_a_voxel_but_for_its_edges() -> None:
    views = []
    for pose in around(2.0):
        depth = box_depth(pose, (-0.4,) * 3, (0.4,) * 3)
        views.append((np.where(depth < FAR, depth, 0).astype(np.float32), pose))
    away = box_distance(mapped(views).mesh().vertices, 0.4)
    assert away.max() < VOXEL
    assert np.percentile(away, 95) < VOXEL / 2
    assert away.mean() < VOXEL / 5


def test_meshing_after_every_image_gives_the_same_as_meshing_once(sphere: Volume) -> None:
    volume = Volume(VOXEL)
    for pose in around(2.0):
        volume.integrate(sphere_depth(pose, 0.5), None, None, CAMERA, pose)
        volume.mesh()
    one, other = (np.sort(v.mesh().vertices.view("f4,f4,f4").ravel()) for v in (volume, sphere))
    np.testing.assert_array_equal(one, other)


def test_a_mesh_without_news_is_not_made_again(sphere: Volume) -> None:
    assert sphere.mesh() is sphere.mesh()


def test_the_label_with_most_votes_wins_and_colours_are_mixed() -> None:
    volume, pose = Volume(VOXEL), np.eye(4)
    depth = wall(1.5, pose)
    for label, gray in ((3, 100), (7, 200), (7, 200)):
        labels, rgb = np.full(CAMERA.size, label, np.uint8), np.full((*CAMERA.size, 3), gray, np.uint8)
        volume.integrate(depth, labels, rgb, CAMERA, pose)
    mesh = volume.mesh()
    assert set(mesh.labels.tolist()) == {7}
    assert abs(float(mesh.colors.mean()) - 500 / 3) < 3


def test_what_moves_makes_no_surface_but_the_way_to_it_is_free() -> None:
    volume, pose = Volume(VOXEL, ignored_labels=[20]), np.eye(4)
    labels = np.full(CAMERA.size, 20, np.uint8)
    volume.integrate(wall(2.0, pose), labels, None, CAMERA, pose)
    assert len(volume.mesh().faces) == 0
    assert len(volume.free.cells()) > 1000
    assert volume.free.cells()[:, 2].max() < 20  # up to 2 m


def test_what_is_too_far_makes_no_surface_but_the_way_is_free_as_far_as_that() -> None:
    volume = mapped([(wall(9.0, np.eye(4)), np.eye(4))], max_depth_m=3.0)
    assert len(volume.mesh().faces) == 0
    assert 27 <= volume.free.cells()[:, 2].max() <= 30


def test_a_thing_that_has_gone_is_carved_away() -> None:
    near, far, pose = wall(1.0, np.eye(4)), wall(2.5, np.eye(4)), np.eye(4)
    volume = mapped([(near, pose)] + [(far, pose)] * 20)
    assert volume.mesh().vertices[:, 2].min() > 2.4


def test_no_ramp_leads_from_a_thing_to_the_wall_behind_it() -> None:
    """As a network draws it: a column of pixels with depths between the two."""
    depth = wall(3.0, np.eye(4))
    depth[:, :64], depth[:, 64] = 1.5, 2.2
    vertices = mapped([(depth, np.eye(4))]).mesh().vertices
    assert not ((vertices[:, 2] > 1.65) & (vertices[:, 2] < 2.85)).any()


def test_slanted_planes_are_no_edges() -> None:
    """A floor that is seen at 15 degrees, as by a robot."""
    pose = looking((0, 0, 0.6), (2.2, 0, 0))
    depth = box_depth(pose, (-50, -50, -1), (50, 50, 0))
    depth = np.where(depth < 6, depth, 0).astype(np.float32)
    mesh = mapped([(depth, pose)]).mesh()
    assert mesh.areas.sum() > 5
    assert np.abs(mesh.vertices[:, 2]).max() < VOXEL / 2


def test_both_sides_of_a_thin_wall_stay_where_they_are() -> None:
    """12 cm, less than the truncation: they must not push each other away."""
    views = []
    for x in (-1.5, 1.5):
        pose = looking((x, 0, 0), (0, 0, 0))
        depth = box_depth(pose, (-0.06, -5, -5), (0.06, 5, 5)).astype(np.float32)
        views += [(depth, pose)] * 3
    x = mapped(views).mesh().vertices[:, 0]
    assert np.abs(np.abs(x) - 0.06).max() < VOXEL / 2
    assert min((x > 0).mean(), (x < 0).mean()) > 0.4


def test_unknown_depth_says_nothing() -> None:
    depth = np.zeros(CAMERA.size, np.float32)
    depth[:40], depth[40:80] = np.nan, np.inf
    volume = mapped([(depth, np.eye(4))])
    assert volume.blocks.count == 0
    assert len(volume.mesh().faces) == 0


def test_blocks_far_apart_and_thousands_of_them_find_their_place() -> None:
    """The store grows several times, and places may be negative."""
    volume = Volume(VOXEL)
    for x in (-4000.0, 0.0, 4000.0):
        for yaw in range(6):
            pose = looking((x, 0, 0), (x + np.cos(yaw), np.sin(yaw), 0))
            volume.integrate(wall(2.0, pose), None, None, CAMERA, pose)
    assert volume.blocks.count > 1000
    assert {round(x / 4000) for x in volume.mesh().vertices[:, 0]} == {-1, 0, 1}


def test_a_camera_of_another_size_is_refused() -> None:
    with pytest.raises(ContractError, match=r"depth 64x48.*camera of 128x96"):
        Volume().integrate(np.ones((48, 64), np.float32), None, None, CAMERA, np.eye(4))


def test_a_pose_that_is_none_is_refused() -> None:
    with pytest.raises(ContractError, match="pose is not finite"):
        Volume().integrate(wall(1.0, np.eye(4)), None, None, CAMERA, np.full((4, 4), np.nan))


def test_a_truncation_within_a_voxel_is_refused() -> None:
    with pytest.raises(ContractError, match="truncation above a voxel"):
        Volume(0.05, 0.04)
