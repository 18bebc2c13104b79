"""What becomes of depth and labels from frame to frame."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from rooms import (
    CAMERA,
    FPS,
    HUMAN,
    SHELF,
    SPACE,
    WALL,
    Stream,
    noisy,
    perception,
    pose,
    room,
    walk,
    window,
)

from m2h_runtime.calibration.camera import CameraModel
from m2h_runtime.errors import ContractError, InputError
from m2h_runtime.temporal import AlignmentSettings

HERE = pose()


def plane(depth_m: float = 2.0) -> np.ndarray:
    return np.full(CAMERA.size, depth_m, np.float32)


def apart(depth: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.abs(depth / truth - 1)


def test_a_static_camera_sees_the_same_again_exactly() -> None:
    depth, labels = room(HERE)
    stream = Stream()
    for _ in range(5):
        out = stream.step(perception(depth, labels), HERE)
        np.testing.assert_allclose(out.depth, depth, rtol=1e-6)
        np.testing.assert_array_equal(out.semantics, labels)
        np.testing.assert_array_equal(out.confidence, 200)
    assert stream.frames == {"off": 1, "poses": 4}


def test_noise_falls_as_the_weights_say() -> None:
    """The mean of n frames up to the memory; then each new one counts 1 / (memory + 1)."""
    rng, stream, spread = np.random.default_rng(1), Stream(AlignmentSettings(memory=6)), []
    for _ in range(40):
        out = stream.step(perception(noisy(plane(), rng, 0.003)), HERE)
        spread.append(float(out.depth.std()) / 0.006)
    for frames in (2, 3, 6):
        assert spread[frames - 1] ** 2 == pytest.approx(1 / frames, rel=0.15)
    share = 6 / 7
    assert np.mean(np.square(spread[-10:])) == pytest.approx((1 - share) / (1 + share), rel=0.15)
    assert abs(float(out.depth.mean()) - 2) < 1e-4, "no drift"


def test_a_moving_camera_over_true_depth_gives_true_depth() -> None:
    fine = CAMERA.resized((192, 288))
    stream, way = Stream(camera=fine), walk(40)
    for where in way:
        depth, labels = room(where, fine)
        out = stream.step(perception(depth, labels), where)
        wrong = apart(out.depth, depth)
        assert np.median(wrong) < 2e-4
        assert np.quantile(wrong, 0.95) < 2e-3
        assert wrong.max() < 0.025, "the corners of the room are rounded by the interpolation, no more"
        assert (out.semantics == labels).mean() > 0.99
    assert stream.frames == {"off": 1, "poses": len(way) - 1}


def test_a_moving_camera_averages_noise() -> None:
    rng, stream, before, after = np.random.default_rng(2), Stream(), [], []
    for where in walk(30):
        depth, labels = room(where)
        seen = noisy(depth, rng, 0.02)
        out = stream.step(perception(seen, labels), where)
        before.append(np.median(apart(seen, depth)))
        after.append(np.median(apart(out.depth, depth)))
    assert np.mean(after[5:]) < 0.5 * np.mean(before[5:])


def test_a_wall_that_a_box_uncovers_is_not_smeared() -> None:
    """The box moves, and no label says that it does."""
    stream = Stream()
    for step in range(8):
        depth, labels = plane(3.0), np.full(CAMERA.size, WALL)
        box = slice(10 + 6 * step, 30 + 6 * step)
        depth[20:50, box], labels[20:50, box] = 1.5, SHELF
        out = stream.step(perception(depth, labels), HERE)
        np.testing.assert_allclose(out.depth, depth, rtol=1e-6)
        np.testing.assert_array_equal(out.semantics, labels)


def test_a_camera_that_passes_a_box_does_not_smear_it() -> None:
    """The wall behind comes out from beside it pixel by pixel."""
    stream = Stream()
    for step in range(20):
        x = 0.03 * step
        depth, labels = plane(3.0), np.full(CAMERA.size, WALL)
        left, right = (round(70 * (edge - x) / 1.2 + 47.5) for edge in (-0.1, 0.5))
        depth[20:50, left:right], labels[20:50, left:right] = 1.2, SHELF
        out = stream.step(perception(depth, labels), pose(x))
        np.testing.assert_allclose(out.depth, depth, rtol=1e-4)
        np.testing.assert_array_equal(out.semantics, labels)


def test_people_leave_no_ghost_and_are_not_averaged() -> None:
    stream = Stream()
    for step in range(10):
        depth, labels = plane(3.0), np.full(CAMERA.size, WALL)
        person = slice(10 + 4 * step, 30 + 4 * step)
        # So close to the wall and so slow that the gate alone would let the person through.
        depth[10:60, person], labels[10:60, person] = 2.8 + 0.01 * step, HUMAN
        out = stream.step(perception(depth, labels), HERE)
        np.testing.assert_array_equal(out.semantics, labels)
        np.testing.assert_allclose(out.depth, depth, rtol=1e-6)


def test_what_is_moving_is_a_setting() -> None:
    still = Stream(AlignmentSettings(moving=frozenset()))
    for depth_m in (2.8, 2.9):
        out = still.step(perception(plane(depth_m), HUMAN), HERE)
    np.testing.assert_allclose(out.depth, 2.85, rtol=5e-3)


def test_labels_that_flicker_are_outvoted_and_confidence_is_the_mean_probability() -> None:
    rng, stream = np.random.default_rng(3), Stream()
    for _ in range(12):
        wrong = rng.random(CAMERA.size) < 0.2
        labels = np.where(wrong, rng.integers(2, 18, CAMERA.size), WALL)
        out = stream.step(perception(plane(), labels), HERE)
    assert (out.semantics == WALL).mean() > 0.995
    assert 0.7 * 200 < out.confidence.mean() < 0.9 * 200


def test_a_label_without_any_probability_is_still_the_frames() -> None:
    stream = Stream()
    stream.step(perception(plane(3.0), WALL), HERE)
    out = stream.step(perception(plane(1.0), SHELF, confidence=0), HERE)
    np.testing.assert_array_equal(out.semantics, SHELF)


def test_a_label_that_has_changed_wins_soon() -> None:
    stream = Stream()
    for label in [WALL] * 20 + [SHELF] * 8:
        out = stream.step(perception(plane(), label), HERE)
    np.testing.assert_array_equal(out.semantics, SHELF)


def test_edges_and_normals_stay_those_of_the_frame() -> None:
    stream, rng = Stream(), np.random.default_rng(4)
    for _ in range(3):
        seen = replace(perception(plane()), edges=rng.integers(0, 255, CAMERA.size, np.uint8))
        out = stream.step(seen, HERE)
        np.testing.assert_array_equal(out.edges, seen.edges)
        np.testing.assert_array_equal(out.normals, seen.normals)
    assert (out.stamp_ns, out.sequence) == (stream.stamp_ns, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_depth_that_is_none_becomes_0_and_nothing_is_filled(bad: float) -> None:
    stream = Stream()
    for index in range(6):
        depth = plane()
        if index % 2:
            depth[10:20, 10:20] = bad
        out = stream.step(perception(depth), HERE)
        assert np.isfinite(out.depth).all()
        np.testing.assert_array_equal(out.depth[10:20, 10:20], 0 if index % 2 else 2)
        np.testing.assert_allclose(out.depth[30:], 2, rtol=1e-6)


def test_a_frame_without_any_depth_is_survived() -> None:
    stream = Stream()
    for depth_m in (2.0, np.nan, 2.0, 2.0):
        out = stream.step(perception(plane(depth_m)), HERE)
    np.testing.assert_allclose(out.depth, 2, rtol=1e-6)


def test_ramps_between_surfaces_are_masked_if_asked_and_never_become_history() -> None:
    depth = plane(3.0)
    depth[:, :40] = 1.0
    depth[:, 40:43] = np.linspace(1.0, 3.0, 5)[1:-1]
    loose, masked = Stream(), Stream(AlignmentSettings(masked=True))
    for _ in range(3):
        np.testing.assert_allclose(loose.step(perception(depth), HERE).depth, depth, rtol=1e-6)
        out = masked.step(perception(depth), HERE)
    flying = out.depth == 0
    assert flying[:, 40:43].all()
    assert flying.mean() < 0.06
    np.testing.assert_allclose(out.depth[~flying], depth[~flying], rtol=1e-6)
    solid = plane(3.0)  # what was flying counts for nothing
    solid[:, :40] = 1.0
    np.testing.assert_allclose(loose.step(perception(solid), HERE).depth[:, 41:], 3.0, rtol=1e-6)


def test_slanted_floors_are_no_depth_edges() -> None:
    stream = Stream(AlignmentSettings(masked=True))
    depth, labels = room(HERE)
    out = stream.step(perception(depth, labels), HERE)
    assert (out.depth > 0).all()


@pytest.mark.parametrize("size", [(64, 1), (1, 96), (1, 1), (3, 2)])
def test_tiny_pictures_work(size: tuple[int, int]) -> None:
    camera = CameraModel(size[1], size[0], 70.0, 70.0, size[1] / 2, size[0] / 2)
    stream = Stream(camera=camera)
    for where in walk(5):
        out = stream.step(perception(np.full(size, 2.0, np.float32)), where)
        assert out.size == size
        assert np.isfinite(out.depth).all()


def test_metres_of_the_engine_become_the_cameras() -> None:
    """Poses are in metres; where depth is multiplied behind the engine, the way is divided."""
    plain, scaled = Stream(), Stream()
    for where in walk(10):
        depth, labels = room(where)
        out = plain.step(perception(depth, labels), where)
        half = scaled.step(perception(depth / 2, labels), where, depth_factor=2.0)
        np.testing.assert_allclose(2 * half.depth, out.depth, rtol=1e-4)
    assert plain.frames == scaled.frames


def test_what_was_published_is_never_changed_later() -> None:
    stream, way = Stream(), walk(6)
    kept = []
    for where in way:
        out = stream.step(perception(*room(where)), where)
        assert not any(a.flags.writeable for a in (out.depth, out.semantics, out.confidence))
        kept.append((out, out.depth.copy(), out.semantics.copy(), out.confidence.copy()))
    for out, depth, semantics, confidence in kept:
        np.testing.assert_array_equal(out.depth, depth)
        np.testing.assert_array_equal(out.semantics, semantics)
        np.testing.assert_array_equal(out.confidence, confidence)


def test_the_state_does_not_grow() -> None:
    stream, way = Stream(), walk(60)
    tracemalloc.start()
    for index, where in enumerate(way):
        stream.step(perception(*room(where)), where)
        if index == 20:
            before = tracemalloc.get_traced_memory()[0]
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 8 * 96 * 64


def test_only_the_rotation_is_enough_for_a_camera_that_turns_on_the_spot() -> None:
    rng, stream, before, after = np.random.default_rng(5), Stream(), [], []
    turns = [pose(turn=(0.0, 0.03 * i, 0.01 * i)) for i in range(20)]
    for index, where in enumerate(turns):
        depth, labels = room(where)
        imu = window(where[:3, :3].T @ turns[index - 1][:3, :3]) if index else None
        seen = noisy(depth, rng, 0.02)
        out = stream.step(perception(seen, labels), None, imu)
        before.append(np.median(apart(seen, depth)))
        after.append(np.median(apart(out.depth, depth)))
    assert stream.frames == {"off": 1, "rotation only": 19}
    assert np.mean(after[5:]) < 0.75 * np.mean(before[5:])


def test_only_the_rotation_lags_by_no_more_than_its_memory() -> None:
    """A camera that walks ahead without poses: history is farther away by what was walked."""
    stream, way = Stream(), [pose(z=i / FPS) for i in range(15)]
    for index, where in enumerate(way):
        depth, labels = room(where)
        out = stream.step(perception(depth, labels), None, window(np.eye(3)) if index else None)
        assert np.median(np.abs(out.depth - depth)) <= 2 / FPS


def test_a_camera_of_another_size_is_an_error() -> None:
    with pytest.raises(ContractError, match=r"96x64.*48x32.*camera of the engine's image"):
        Stream().step(perception(np.ones((32, 48), np.float32)), HERE)


def test_a_memory_of_less_than_a_frame_is_an_error() -> None:
    with pytest.raises(InputError, match="give 1 or more"):
        AlignmentSettings(memory=0.5)
    with pytest.raises(InputError):
        AlignmentSettings(memory=np.nan)


def test_the_label_space_knows_who_moves() -> None:
    from m2h_runtime.label_space import load_label_space, moving_table

    assert np.flatnonzero(moving_table(SPACE)).tolist() == [19, 20]
    assert np.flatnonzero(moving_table(load_label_space("nyudv2_40"))).tolist() == [31]
    assert not moving_table(load_label_space("scannet20")).any()
