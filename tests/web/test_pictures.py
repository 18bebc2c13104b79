"""What is sent, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from show import unpacked
from stand_ins import Clock
from tiny_engine import SIZE, picture, twin

from m2h_runtime.calibration.fit import Fit
from m2h_runtime.frame import Frame
from m2h_runtime.sinks import Observation
from m2h_runtime.sinks.render import DepthRange
from m2h_runtime.web.pace import BUDGET, CEILING_HZ, Pace
from m2h_runtime.web.pictures import PANES, depth_levels, encoded, shown_view
from m2h_runtime.web.viewers import reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.calibration.fit import Policy


def observed(size: tuple[int, int] = SIZE, policy: Policy = "stretch", factor: float = 1.0) -> Observation:
    frame = Frame(picture(3, size), 2**60 + 1, 7)
    fit = Fit(policy, size, SIZE)
    return Observation(frame, twin(fit.apply(frame.image)).stamped(frame), 0.0, fit, factor, frame)


def sent(seen: Observation, panes: tuple[str, ...] = PANES) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    header = unpacked(encoded(seen, shown_view(seen), panes, DepthRange()).packed(panes))
    return header, {
        name: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        for name, data in header["data"].items()
    }


def test_labels_lose_nothing_and_the_rest_little() -> None:
    seen = observed()
    header, pictures = sent(seen)
    assert np.array_equal(pictures["semantics"], seen.perception.semantics)
    assert np.abs(pictures["rgb"][..., ::-1].astype(int) - seen.frame.image).mean() < 6
    assert np.abs(pictures["edges"].astype(int) - seen.perception.edges).mean() < 4
    assert header["stamp_ns"] == str(2**60 + 1), "JavaScript's numbers end at 2**53"
    shares = np.bincount(seen.perception.semantics.ravel()) / seen.perception.semantics.size
    assert [label for label, _ in header["labels"]] == np.argsort(-shares, kind="stable").tolist()
    assert sum(share for _, share in header["labels"]) == pytest.approx(1, abs=1e-3)


def test_depth_is_sent_as_inverse_depth_between_near_and_far() -> None:
    seen = observed(factor=2.0)
    header, pictures = sent(seen)
    near_m, far_m = header["near_m"], header["far_m"]
    inverse = 1 / far_m + (pictures["depth"].astype(float) - 8) / 247 * (1 / near_m - 1 / far_m)
    depth = 2.0 * seen.perception.depth
    inside = (depth > near_m) & (depth < far_m)
    assert inside.mean() > 0.9
    assert np.median(np.abs(1 / inverse - depth)[inside] / depth[inside]) < 0.01


def test_levels_of_depth_end_at_near_and_far_and_zero_is_no_depth() -> None:
    depth = np.array([[0, 1e-9, 0.5, 1, 2, 4, 8, 1e30]], np.float32)
    assert depth_levels(depth, 1.0, 4.0).tolist() == [[0, 0, 255, 255, 90, 8, 8, 8]]


def test_only_what_is_shown_is_made() -> None:
    header, pictures = sent(observed(), ("semantics",))
    assert set(pictures) == {"semantics"}
    assert "near_m" not in header


@pytest.mark.parametrize("policy", ["stretch", "letterbox", "crop"])
def test_all_views_lie_on_the_camera_image(policy: Policy) -> None:
    """Stretched to the camera's aspect, which a browser does, a point is the same place in each."""
    seen = observed((90, 240), policy)
    _, pictures = sent(seen)
    if policy != "stretch":
        for name, shown in pictures.items():
            assert shown.shape[1] / shown.shape[0] == pytest.approx(240 / 90, rel=0.03), name
    edges = cv2.resize(pictures["edges"], (240, 90)).astype(float)
    blue = seen.frame.image[..., 2].astype(float)  # what the tiny engine's edges are
    middle = slice(60, 180)
    assert np.abs(edges - blue)[:, middle].mean() < 12


def test_large_images_are_sent_small() -> None:
    header, pictures = sent(observed((960, 1280)))
    assert pictures["rgb"].shape == (480, 640, 3)
    assert header["size"] == [960, 1280]


def test_a_reading_is_the_value_itself() -> None:
    seen = observed(factor=3.0)
    view = shown_view(seen)
    for across, down, at in ((0.0, 0.0, (0, 0)), (1.0, 1.0, (-1, -1)), (0.5, 0.25, (16, 48))):
        said = reading(view, across, down)
        assert said["depth_m"] == pytest.approx(3 * seen.perception.depth[at], abs=1e-3)
        assert said["label"] == seen.perception.semantics[at]
        assert said["confidence"] == pytest.approx(seen.perception.confidence[at] / 255, abs=1e-3)
        assert said["normal"] == pytest.approx(seen.perception.normals[at].tolist(), abs=1e-3)


def test_cheap_pictures_come_at_the_ceiling_and_dear_ones_within_the_budget() -> None:
    for cost_ms, hz in ((0.1, CEILING_HZ), (20.0, BUDGET * 4 / 0.020)):
        clock = Clock()
        pace = Pace(4, clock)
        updates, began_ns = 0, clock()
        while clock() - began_ns < 20e9:
            if pace.due:
                updates += 1
                pace.spent(clock(), round(cost_ms * 1e6))
            clock.forward(1)
        assert updates / 20 == pytest.approx(hz, rel=0.05)
