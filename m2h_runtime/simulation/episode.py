"""One walk of one camera through one apartment: any frame of it, at any time, from two seeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import yaml

from m2h_runtime.errors import InputError
from m2h_runtime.simulation.apartment import build_apartment
from m2h_runtime.simulation.free_space import free_space
from m2h_runtime.simulation.pinhole import Pinhole
from m2h_runtime.simulation.renderer import Renderer, View
from m2h_runtime.simulation.sensor import Sensor, optical_flow
from m2h_runtime.simulation.walk import Style, plan_walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.simulation.apartment import Apartment
    from m2h_runtime.simulation.floor_plan import Room
    from m2h_runtime.simulation.trajectory import Trajectory
    from m2h_runtime.simulation.walk import FreeSpace

VIEW_DEG = 70.0
"""Horizontal field of view of the simulated camera, unless another is asked for."""

STEP_ASIDE_M = (0.15, 0.6)
"""How far a still's neighbours are taken from beside it."""

STYLES: tuple[Style, ...] = ("handheld", "wheeled", "drone")
Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Shot:
    """A frame of an episode with its truth.

    Attributes:
        time_s: since the walk began.
        image: (H, W, 3) uint8 RGB, with the sensor's blur, noise and exposure.
        view: depth, labels, objects and normals at the middle of the exposure.
        world_from_camera: (4, 4) pose of the optical frame.
    """

    time_s: float
    image: NDArray[np.uint8]
    view: View
    world_from_camera: NDArray[np.float64]


class Episode:
    """A camera's walk through the apartment of `seed`.

    Args:
        seed: of the apartment, and with `style` of walk and sensor.
        style: how the camera is carried.
        duration_s: of the walk, seconds.
        camera: its geometry.

    Raises:
        InputError: the libraries of the extra `simulation` are missing, or the walk cannot be planned.
    """

    def __init__(self, seed: int, style: Style, duration_s: float, camera: Pinhole) -> None:
        self.seed, self.style, self.duration_s, self.camera = seed, style, duration_s, camera
        self.apartment = build_apartment(seed)
        rng = np.random.default_rng((seed, STYLES.index(style)))
        self.sensor = Sensor.draw(rng)
        self.free = free_space(self.apartment)
        self.trajectory: Trajectory = plan_walk(self.free, style, duration_s, rng, self.apartment.ceiling)

    @cached_property
    def renderer(self) -> Renderer:
        """Made when the first frame is asked for."""
        return Renderer(self.apartment)

    def shot(self, time_s: float) -> Shot:
        """The frame at a time within the walk; a function of the seeds and the time alone."""
        pose = self.trajectory.pose(time_s)
        velocity = pose[:3, :3].T @ self.trajectory.velocity(time_s)
        rate = self.trajectory.angular_velocity(time_s)
        return self._shot(time_s, pose, velocity, rate, round(time_s * 1e6))

    def survey_shot(self, number: int, place: int = 0) -> Shot:
        """A still of one thing from somewhere in its room: things are drawn evenly over their classes.

        Walks see much wall and corridor; a training set needs the rest too. `place` above 0 is the same thing from
        other places, each a step beside the first.
        """
        rng = np.random.default_rng((self.seed, 11, number))
        view = survey_view(self.apartment, self.free, rng)
        if place:
            rng = np.random.default_rng((self.seed, 11, number, place))
            view = beside(view, self.free, rng)
        pose = looking(view, rng)
        sway = rng.normal(0, (0.15, 0.15, 0.15)), rng.normal(0, (0.2, 0.3, 0.1))
        return self._shot(number + 0.1 * place, pose, *sway, 1_000_000_007 + number + 1_000_003 * place)

    def _shot(
        self,
        time_s: float,
        pose: NDArray[np.float64],
        velocity: NDArray[np.float64],
        rate: NDArray[np.float64],
        number: int,
    ) -> Shot:
        view = self.renderer.render(self.camera, pose, number)
        flow = optical_flow(self.camera, view.depth, velocity, rate, self.sensor.shutter_s)
        rng = np.random.default_rng((self.seed, STYLES.index(self.style), number))
        return Shot(time_s, self.sensor.expose(view.radiance, self.camera, rng, flow), view, pose)


@dataclass(frozen=True)
class SurveyView:
    """Where a still is taken from, and what it shows.

    Attributes:
        eye, target: (3,) metres.
        room: that both are in.
    """

    eye: NDArray[np.float64]
    target: NDArray[np.float64]
    room: Room


def survey_view(apartment: Apartment, free: FreeSpace, rng: np.random.Generator) -> SurveyView:
    """Some object, seen from free floor in the same room."""
    labels = sorted({thing.label for thing in apartment.objects})
    label = labels[int(rng.integers(len(labels)))]
    things = [thing for thing in apartment.objects if thing.label == label]
    thing = things[int(rng.integers(len(things)))]
    target = (np.array(thing.low) + np.array(thing.high)) / 2 + rng.normal(0, 0.25, 3)
    room = apartment.rooms[thing.room]
    eye = np.array([*_standpoint(free, room, target[:2], rng), rng.uniform(0.4, min(1.8, room.height - 0.4))])
    return SurveyView(eye, target, room)


def beside(view: SurveyView, free: FreeSpace, rng: np.random.Generator) -> SurveyView:
    """The same from `STEP_ASIDE_M` beside, somewhat higher or lower, or from the same place where none is free."""
    points = _free_points(free)
    away = np.linalg.norm(points - view.eye[:2], axis=1)
    points = points[_inside(points, view.room) & (away >= STEP_ASIDE_M[0]) & (away <= STEP_ASIDE_M[1])]
    if not len(points):
        return view
    height = np.clip(view.eye[2] + rng.uniform(-0.15, 0.15), 0.4, view.room.height - 0.4)
    eye = np.array([*points[int(rng.integers(len(points)))], height])
    return SurveyView(eye, view.target + rng.normal(0, 0.1, 3), view.room)


def looking(view: SurveyView, rng: np.random.Generator) -> NDArray[np.float64]:
    """(4, 4) pose, world from camera, of a camera at the eye that looks at the target, at most 35 degrees steep."""
    eye, forward = view.eye, view.target - view.eye
    steepest = np.tan(np.radians(35)) * np.hypot(forward[0], forward[1])
    forward[2] = np.clip(forward[2], -steepest, steepest)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    roll = rng.normal(0, np.radians(2.5))
    down = np.cross(forward, right)
    pose = np.eye(4)
    pose[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
    pose[:3, 1] = np.cos(roll) * down - np.sin(roll) * right
    pose[:3, 2], pose[:3, 3] = forward, eye
    return pose


def _standpoint(
    free: FreeSpace, room: Room, target: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """(2,) x and y of a free cell of the room, at least 0.7 m from the target if there is one."""
    points = _free_points(free)
    inside = _inside(points, room)
    far = np.linalg.norm(points - target, axis=1) > 0.7
    for chosen in (inside & far, far, np.ones(len(points), bool)):
        if chosen.any():
            return np.asarray(points[chosen][int(rng.integers(int(chosen.sum())))])
    raise InputError(f"apartment: no free floor in {room.kind}; take another seed")


def _free_points(free: FreeSpace) -> NDArray[np.float64]:
    """(N, 2) x and y of cells with free floor around them."""
    blocked = cv2.dilate(free.occupancy.astype(np.uint8), np.ones((7, 7), np.uint8))
    return free.centres(np.argwhere(blocked == 0))


def _inside(points: NDArray[np.float64], room: Room) -> NDArray[np.bool_]:
    return np.asarray((points > (room.x0, room.y0)).all(axis=1) & (points < (room.x1, room.y1)).all(axis=1))


def reserved_seeds() -> dict[str, tuple[int, ...]]:
    """The apartments kept for judging, by split."""
    text = (resources.files("m2h_runtime.simulation") / "reserved_seeds.yaml").read_text(encoding="utf-8")
    return {split: tuple(seeds) for split, seeds in yaml.safe_load(text).items()}


def seeds_of(split: Split, count: int | None = None, first: int = 0) -> tuple[int, ...]:
    """Apartment seeds of a split: those reserved for it, or for "train" `count` others from `first` on.

    Raises:
        InputError: more are asked for than a reserved split has.
    """
    reserved = reserved_seeds()
    if split != "train":
        if count is not None and count > len(reserved[split]):
            raise InputError(
                f"split {split}: has {len(reserved[split])} apartments, not {count}; ask for fewer"
            )
        return reserved[split][:count]
    kept = {seed for seeds in reserved.values() for seed in seeds}
    seeds = [s for s in range(first, first + (count or 1) + len(kept)) if s not in kept]
    return tuple(seeds[: count or 1])


def style_of(seed: int) -> Style:
    """How an apartment's camera is carried where nobody says: half of them by hand."""
    return ("handheld", "wheeled", "handheld", "drone")[seed % 4]


def default_camera(width: int, height: int) -> Pinhole:
    """An ideal lens of `VIEW_DEG`."""
    return Pinhole.of_view(width, height, VIEW_DEG)
