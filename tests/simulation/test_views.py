"""What is rendered, against geometry worked out in another way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from m2h_runtime.label_space import load_label_map
from m2h_runtime.simulation.episode import Episode, default_camera, looking, survey_view
from m2h_runtime.simulation.renderer import boundaries
from m2h_runtime.simulation.sensor import optical_flow
from m2h_runtime.simulation.trajectory import inverse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.simulation.episode import Shot
    from m2h_runtime.simulation.pinhole import Pinhole

TIMES = (2.0, 5.0)


@pytest.fixture(scope="module")
def shots(episode: Episode) -> list[Shot]:
    return [episode.shot(time) for time in TIMES]


def world_points(camera: Pinhole, shot: Shot) -> NDArray[np.float64]:
    """(H·W, 3), from depth and pose."""
    points = camera.rays * shot.view.depth.reshape(-1, 1)
    pose = shot.world_from_camera
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])


def project(
    camera: Pinhole, points: NDArray[np.float64], pose: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 2) pixels and (N,) depths, by hand."""
    x, y, z = ((points - pose[:3, 3]) @ pose[:3, :3]).T
    return np.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], axis=1), z


def test_a_seed_and_a_time_always_give_the_same_picture(episode: Episode) -> None:
    again = Episode(1, "handheld", 8.0, default_camera(160, 120)).shot(2.0)
    first = episode.shot(2.0)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.view.depth, again.view.depth)
    assert np.array_equal(first.world_from_camera, again.world_from_camera)
    assert not np.array_equal(first.image, episode.shot(2.1).image)


def test_other_seeds_and_styles_walk_and_render() -> None:
    episode = Episode(3, "drone", 4.0, default_camera(64, 48))
    for time in (0.0, 1.7, 4.0):
        shot = episode.shot(time)
        assert shot.image.shape == (48, 64, 3)
        assert shot.image.std() > 5, "there is something to see"
        assert (shot.view.depth > 0).all(), "the building is closed"
        assert (shot.view.labels > 0).all()


def test_depth_and_ids_are_those_of_the_nearest_triangle(episode: Episode, shots: list[Shot]) -> None:
    """Against every triangle, by Cramer's rule (Möller and Trumbore 1997)."""
    apartment, shot = episode.apartment, shots[0]
    a, b, c = np.moveaxis(apartment.vertices[apartment.faces].astype(np.float64), 1, 0)
    pose = shot.world_from_camera
    for pixel in np.random.default_rng(0).integers(0, 160 * 120, 25):
        ray = pose[:3, :3] @ episode.camera.rays[pixel]
        cross = np.cross(ray, c - a)
        det = np.einsum("ij,ij->i", b - a, cross)
        det[np.abs(det) < 1e-12] = np.nan
        offset = pose[:3, 3] - a
        u = np.einsum("ij,ij->i", offset, cross) / det
        turned = np.cross(offset, b - a)
        v, t = turned @ ray / det, np.einsum("ij,ij->i", c - a, turned) / det
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
        nearest = t[hit].min()
        assert shot.view.depth.ravel()[pixel] == pytest.approx(nearest, abs=1e-3)
        faces = hit & (t < nearest + 2e-3)
        assert shot.view.labels.ravel()[pixel] in apartment.face_label[faces]
        assert shot.view.objects.ravel()[pixel] in apartment.face_object[faces]


def test_two_views_agree_on_where_things_are(episode: Episode, shots: list[Shot]) -> None:
    first, second = shots[0], episode.shot(TIMES[0] + 0.4)
    pixels, expected = project(episode.camera, world_points(episode.camera, first), second.world_from_camera)
    u, v = np.round(pixels).astype(int).T
    inside = (expected > 0) & (u >= 0) & (u < 160) & (v >= 0) & (v < 120)
    assert inside.mean() > 0.3
    seen = second.view.depth[v[inside], u[inside]]
    expected = expected[inside]
    assert (np.abs(seen - expected) < 0.03 * expected).mean() > 0.85
    assert (seen > 1.1 * expected).mean() < 0.02, "nothing is seen through; things may hide others only"


def test_normals_are_those_of_the_depth_and_face_the_camera(episode: Episode, shots: list[Shot]) -> None:
    for shot in shots:
        normals = shot.view.normals
        assert np.linalg.norm(normals, axis=2) == pytest.approx(1.0, abs=1e-4)
        rays = episode.camera.rays.reshape(120, 160, 3)
        assert (np.einsum("ijk,ijk->ij", normals, rays) <= 1e-6).all()
        points = rays * shot.view.depth[..., None]
        right, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
        derived = np.cross(down, right)
        derived /= np.linalg.norm(derived, axis=2, keepdims=True)
        inner = normals[1:-1, 1:-1]
        flat = np.all(
            [
                (normals[1 + dy : 119 + dy, 1 + dx : 159 + dx] * inner).sum(axis=2) > 0.9999
                for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))
            ],
            axis=0,
        )
        assert flat.mean() > 0.3
        angle = np.degrees(np.arccos(np.clip((derived * inner).sum(axis=2)[flat], -1, 1)))
        assert np.median(angle) < 1


def test_ids_and_labels_are_those_of_the_boxes(episode: Episode, shots: list[Shot]) -> None:
    objects = episode.apartment.objects
    for shot in shots:
        points = world_points(episode.camera, shot)
        ids, labels = shot.view.objects.ravel(), shot.view.labels.ravel()
        seen = [number for number in np.unique(ids) if number]
        assert len(seen) >= 3
        for number in seen:
            thing = objects[number - 1]
            mine = ids == number
            assert (labels[mine] == thing.label).all()
            assert (points[mine] >= np.array(thing.low) - 0.005).all(), thing
            assert (points[mine] <= np.array(thing.high) + 0.005).all(), thing
        assert set(labels[ids == 0]) <= {1, 2, 22}  # wall, floor, ceiling


def test_labels20_follow_the_table(shots: list[Shot]) -> None:
    view = shots[0].view
    assert np.array_equal(view.labels20, load_label_map("nyudv2_40", "nyud20")[view.labels])
    walls = view.labels == 1
    assert walls.any()
    assert (view.labels20[walls] == 1).all()


def test_boundaries_by_hand() -> None:
    labels = np.array([[1, 1, 2], [1, 1, 2], [3, 1, 2]], np.uint8)
    assert boundaries(labels).tolist() == [[0, 1, 0], [1, 1, 0], [1, 1, 0]]


def test_optical_flow_predicts_where_points_go(episode: Episode) -> None:
    """Over a millisecond, the linear prediction and the projection of the same points agree."""
    time, step = 3.0, 1e-3
    shot = episode.shot(time)
    pose, camera = shot.world_from_camera, episode.camera
    velocity = pose[:3, :3].T @ episode.trajectory.velocity(time)
    flow = optical_flow(
        camera, shot.view.depth, velocity, episode.trajectory.angular_velocity(time), step
    ).reshape(-1, 2)
    later, _ = project(camera, world_points(camera, shot), episode.trajectory.pose(time + step))
    v, u = np.mgrid[0:120, 0:160]
    moved = later - np.stack([u.ravel(), v.ravel()], axis=1)
    assert np.abs(moved).max() > 0.02, "the camera moves"
    assert np.abs(flow - moved).max() < 0.02 * np.abs(moved).max() + 1e-4


def test_survey_poses_stand_on_free_floor(episode: Episode) -> None:
    apartment, free = episode.apartment, episode.free
    for number in range(40):
        rng = np.random.default_rng((1, 11, number))
        pose = looking(survey_view(apartment, free, rng), rng)
        row, column = free.cells(pose[:2, 3])
        assert not free.occupancy[row, column]
        assert pose[:3, :3] @ pose[:3, :3].T == pytest.approx(np.eye(3), abs=1e-9)
        assert np.linalg.det(pose) == pytest.approx(1.0)
        assert inverse(pose) @ pose == pytest.approx(np.eye(4), abs=1e-9)
        assert any(
            room.x0 < pose[0, 3] < room.x1 and room.y0 < pose[1, 3] < room.y1 and pose[2, 3] < room.height
            for room in apartment.rooms
        )
        assert pose[2, 1] < -0.7, "upright: the picture's down is the world's"
    shot = episode.survey_shot(0)
    assert shot.view.objects.any(), "it looks at things"


def test_the_first_survey_shots_show_many_classes(episode: Episode) -> None:
    seen = set()
    for number in range(12):
        seen |= set(np.unique(episode.survey_shot(number).view.labels20).tolist())
    assert len(seen) >= 10


def test_pictures_resemble_their_scene(shots: list[Shot]) -> None:
    """The edges of the picture are where the objects' are, more than elsewhere."""
    for shot in shots:
        gray = cv2.cvtColor(shot.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        gradient = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
        outline = cv2.dilate(boundaries(shot.view.labels), np.ones((3, 3), np.uint8)) > 0
        assert gradient[outline].mean() > 1.5 * gradient[~outline].mean()
