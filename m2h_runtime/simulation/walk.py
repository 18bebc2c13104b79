"""Plan how a camera is carried through an apartment: where it goes, how fast, and where it looks.

The route is a shortest path over a grid whose costs rise near obstacles, smoothed by a B-spline that is refined
until it keeps its distance; the speed follows from the turns; the look follows the way, with glances to where the
view is free. Everything that varies comes from the random generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from m2h_runtime.errors import InputError
from m2h_runtime.simulation.libraries import require
from m2h_runtime.simulation.trajectory import Trajectory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Style = Literal["handheld", "wheeled", "drone"]
Room = tuple[int, tuple[float, float, float, float]]

SAMPLE_HZ = 50.0
REST_S = 1.0  # at the start, so that an estimator can find gravity
SPEED_SMOOTHING_S = 0.3
POSITION_SMOOTHING_S = 0.15
YAW_SMOOTHING_S = 0.2
YAW_RATE = np.deg2rad(75.0)  # of the look itself; what trembles on top stays below 90 degrees/s
LOOK_AHEAD_M = 0.7
LATERAL_ACCELERATION = 0.6  # m/s^2 in turns
ACCELERATION = 0.8  # m/s^2 along the way
CRAWL = 0.12  # m/s, while looking around and in the sharpest turns
MARGIN = 0.03  # metres of the route's clearance that sway and smoothing may use up
NARROW = 0.5  # metres to an obstacle, below which a cell costs more
VIEW_RANGE = 5.0  # metres
MIN_REACH = 0.5  # metres of way without which there is no walk
AREA_PER_GOAL = 8.0  # m^2
LOOK_AROUND_PROBABILITY = 0.6  # at a goal
LOOK_AROUND_M = 0.5  # of way, at a crawl
CONTROL_SPACING_M = 0.4
SPARE_M = 4.0  # of way beyond the end, for smoothing and for looking ahead


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """Where a body fits.

    Attributes:
        occupancy: (rows, cols) bool; True where something stands in the body's height band. Row i covers y from
            origin[1] + i cell, column j covers x from origin[0] + j cell. Beyond the grid all is blocked.
        origin: x and y of the outer corner of cell [0, 0], metres.
        cell: edge of a cell, metres.
        rooms: (id, (x0, y0, x1, y1)) in metres; a room of several rectangles comes several times.

    Raises:
        InputError: the grid is no boolean matrix, or the cell is not in (0, 0.2].
    """

    occupancy: NDArray[np.bool_]
    origin: tuple[float, float]
    cell: float
    rooms: Sequence[Room] = ()

    def __post_init__(self) -> None:
        if self.occupancy.ndim != 2 or self.occupancy.dtype != np.bool_ or not self.occupancy.size:
            raise InputError("free space: the occupancy must be a boolean matrix; give (rows, cols) of bool")
        if not 0 < self.cell <= 0.2:
            raise InputError(f"free space: a cell of {self.cell} m; give at most 0.2, such as 0.05")

    def centres(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """(N, 2) x and y of the centres of (N, 2) cells [row, column]."""
        return np.asarray(np.asarray(self.origin) + (cells[:, ::-1] + 0.5) * self.cell)

    def cells(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """(..., 2) cells [row, column] that (..., 2) points lie in; may be outside of the grid."""
        return np.floor((points - self.origin) / self.cell).astype(np.int64)[..., ::-1]


class Clearance:
    """Distance from points to the nearest obstacle."""

    def __init__(self, free: FreeSpace) -> None:
        self._free = free
        ndimage = require("scipy.ndimage")
        padded = np.pad(free.occupancy, 1, constant_values=True)
        self._half_diagonal = free.cell / 2**0.5
        distance = ndimage.distance_transform_edt(~padded)[1:-1, 1:-1] * free.cell - self._half_diagonal
        self.cells: NDArray[np.float64] = np.maximum(distance, 0.0)
        """(rows, cols) lower bound of the distance from each cell's centre, metres."""
        rim = padded & ndimage.binary_dilation(~padded, np.ones((3, 3)))
        self._tree = require("scipy.spatial").cKDTree(free.centres(np.argwhere(rim) - 1))

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) lower bound of the distance from (N, 2) points to any blocked cell, metres; at most 1 cm below it.

        It is 0 for a point inside of an obstacle.
        """
        distance, _ = self._tree.query(points)
        cells = self._free.cells(points)
        inside = np.all((cells >= 0) & (cells < self._free.occupancy.shape), axis=-1)
        row, column = np.where(inside[:, None], cells, 0).T
        result: NDArray[np.float64] = np.maximum(distance - self._half_diagonal, 0.0)
        return np.where(inside & ~self._free.occupancy[row, column], result, 0.0)


@dataclass(frozen=True, slots=True)
class _Manner:
    """How a style moves; lengths in metres, angles in degrees, speeds in m/s, frequencies in Hz."""

    radius: tuple[float, float]
    speed: tuple[float, float]
    height: tuple[float, float]
    height_varies: float
    pitch: tuple[float, float]
    roll: float
    glance: tuple[float, ...]
    bob: float
    sway: float
    tremor: float
    tremor_band: tuple[float, float]
    angle_tremor: float


MANNERS: dict[str, _Manner] = {
    "handheld": _Manner(
        radius=(0.20, 0.25),
        speed=(0.6, 1.1),
        height=(1.2, 1.65),
        height_varies=0.05,
        pitch=(-25.0, 10.0),
        roll=3.0,
        glance=(0.0, 30.0, 60.0, 90.0),
        bob=0.015,
        sway=0.010,
        tremor=0.003,
        tremor_band=(0.4, 3.0),
        angle_tremor=0.25,
    ),
    "wheeled": _Manner(
        radius=(0.22, 0.28),
        speed=(0.4, 0.7),
        height=(0.35, 1.0),
        height_varies=0.0,
        pitch=(-5.0, 0.0),
        roll=0.3,
        glance=(0.0, 20.0),
        bob=0.0,
        sway=0.0,
        tremor=0.0002,
        tremor_band=(6.0, 12.0),
        angle_tremor=0.04,
    ),
    "drone": _Manner(
        radius=(0.25, 0.30),
        speed=(0.7, 1.4),
        height=(0.8, 1.9),
        height_varies=1.0,
        pitch=(-30.0, 10.0),
        roll=3.0,
        glance=(0.0, 30.0, 60.0, 100.0),
        bob=0.0,
        sway=0.0,
        tremor=0.006,
        tremor_band=(0.2, 1.5),
        angle_tremor=0.2,
    ),
}
STEP_HZ = 1.8
HEADROOM = 0.3  # metres below the ceiling that stay free
SLOW_BAND = (0.04, 0.25)  # Hz, of pitch, roll and height
LOOK_AROUND = (0.0, 40.0, 80.0, 120.0, 160.0)  # degrees to either side


def plan_walk(
    free: FreeSpace, style: Style, duration_s: float, rng: np.random.Generator, ceiling: float = 2.6
) -> Trajectory:
    """A walk of `duration_s` through all rooms that can be reached, as many as there is time for.

    It rests for a second, then goes to the nearest room that it has not seen, until all are seen, and starts over.

    Args:
        free: where a body fits.
        style: "handheld" (1.2 to 1.65 m high, bobbing), "wheeled" (0.35 to 1 m, level) or "drone" (0.8 to 1.9 m).
        duration_s: seconds.
        rng: all that varies.
        ceiling: height of the room, metres.

    Raises:
        InputError: no such style, no time, a ceiling too low, or nowhere to walk.
    """
    if style not in MANNERS:
        raise InputError(f"walk: no style {style!r}; choose one of {', '.join(MANNERS)}")
    if not duration_s > 0:
        raise InputError(f"walk: a duration of {duration_s} s; give a positive one")
    manner = MANNERS[style]
    low, high = manner.height[0], min(manner.height[1], ceiling - HEADROOM)
    if high - low <= 2 * (manner.bob + manner.tremor):
        raise InputError(
            f"walk: {style} needs a ceiling above {low + HEADROOM:.2f} m, this one is at {ceiling:.2f} m; "
            "raise it or choose another style"
        )
    radius, speed = rng.uniform(*manner.radius), rng.uniform(*manner.speed)
    clearance = Clearance(free)
    route, goals = _route(free, clearance, radius, speed * duration_s + SPARE_M, rng)
    curve = smooth_route(route, goals, clearance, radius + MARGIN)
    seed = int(rng.integers(2**63))
    for slower in range(8):  # a slower turn is cut less by the smoothing
        carrier = _Carrier(free, curve, manner, speed, 0.5**slower, np.random.default_rng(seed))
        trajectory = carrier.carry(duration_s, (low, high))
        check = np.arange(0.0, trajectory.duration_s, 0.01)
        if (clearance(trajectory.poses(check)[:, :2, 3]) >= radius).all():
            return trajectory
    raise InputError("walk: no smooth walk keeps its distance here; use a finer grid or remove obstacles")


def _route(
    free: FreeSpace, clearance: Clearance, radius: float, length_m: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A way over the grid of `length_m` or more: (N, 2) points, and the indices of those where it has a goal."""
    # The B-spline through all cells of the way may leave them by one cell.
    fits = clearance.cells >= radius + MARGIN + free.cell
    cells = _largest_region(fits)
    if not len(cells) or np.ptp(cells, axis=0).max() * free.cell < MIN_REACH:
        raise InputError(
            f"walk: no free cell region where a body of radius {radius:.2f} m can move {MIN_REACH} m; "
            "remove obstacles or give a larger place"
        )
    graph = _graph(cells, clearance, free)
    dijkstra = require("scipy.sparse.csgraph").dijkstra
    distance = clearance.cells[cells[:, 0], cells[:, 1]]
    groups = _cells_by_room(free, cells)
    way: list[int] = []
    goals: list[int] = []
    for tour in range(1_000_000):
        stops = _stops(groups, distance, 1 + tour, free.cell, rng)
        before = len(way)
        nodes = way[-1:] + stops
        cost, previous = dijkstra(graph, directed=False, indices=nodes, return_predecessors=True)
        order = _short_order(cost[:, nodes], range(1) if way else range(len(nodes)))
        way = way or [nodes[order[0]]]
        for start, stop in pairwise(order):
            way += _backtrack(previous[start], nodes[stop])
            goals.append(len(way) - 1)
        if len(way) * free.cell >= length_m:
            break
        if (len(way) - before) * free.cell < MIN_REACH:
            groups = [np.arange(len(cells))]  # the rooms leave nowhere to go
    return free.centres(cells[way]), np.array(goals, np.int64)


def _largest_region(fits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N, 2) cells [row, column] of the largest connected region."""
    labels, count = require("scipy.ndimage").label(fits, np.ones((3, 3)))
    if not count:
        return np.zeros((0, 2), np.int64)
    return np.argwhere(labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]))


def _graph(cells: NDArray[np.int64], clearance: Clearance, free: FreeSpace) -> Any:
    """Sparse (N, N) costs of the steps between the eight neighbours: length, up to three times as much if narrow."""
    node = np.full(free.occupancy.shape, -1, np.int64)
    node[tuple(cells.T)] = np.arange(len(cells))
    node = np.pad(node, 1, constant_values=-1)
    dear = 1 + 2 * np.maximum(0.0, 1 - clearance.cells[tuple(cells.T)] / NARROW)
    heads, tails, costs = [], [], []
    for step in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = node[tuple((cells + step + 1).T)]
        head = np.flatnonzero(other >= 0)
        tail = other[head]
        heads.append(head)
        tails.append(tail)
        costs.append(np.hypot(*step) * free.cell * (dear[head] + dear[tail]) / 2)
    entries = (np.concatenate(costs), (np.concatenate(heads), np.concatenate(tails)))
    return require("scipy.sparse").csr_matrix(entries, shape=(len(cells), len(cells)))


def _cells_by_room(free: FreeSpace, cells: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """For each room's rectangle that can be reached the indices of its cells; all cells if there is none."""
    x, y = free.centres(cells).T
    groups = [
        np.flatnonzero((x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)) for _, (x0, y0, x1, y1) in free.rooms
    ]
    return [group for group in groups if len(group)] or [np.arange(len(cells))]


def _stops(
    groups: list[NDArray[np.int64]],
    distance: NDArray[np.float64],
    most: int,
    cell: float,
    rng: np.random.Generator,
) -> list[int]:
    """Up to `most` cells of each room, rather far from obstacles, in random order."""
    stops: list[int] = []
    for group in groups:
        count = int(np.clip(len(group) * cell**2 / AREA_PER_GOAL, 1, most))
        weight = distance[group] ** 2
        stops += rng.choice(group, min(count, len(group)), replace=False, p=weight / weight.sum()).tolist()
    rng.shuffle(stops)
    return stops


def _short_order(cost: NDArray[np.float64], starts: range) -> list[int]:
    """An order of all stops: from each allowed start always to the nearest, and of these the cheapest."""
    orders = []
    for start in starts:
        order, left, total = [start], set(range(len(cost))) - {start}, 0.0
        while left:
            nearest = min(left, key=lambda stop: (cost[order[-1], stop], stop))
            total += cost[order[-1], nearest]
            left.remove(nearest)
            order.append(nearest)
        orders.append((total, order))
    return min(orders)[1]


def _backtrack(previous: NDArray[np.int32], goal: int) -> list[int]:
    """The nodes after the source up to `goal`; none if it is the source."""
    way = [goal]
    while previous[way[-1]] >= 0:
        way.append(int(previous[way[-1]]))
    return way[-2::-1]


@dataclass(frozen=True, slots=True)
class Curve:
    """A smooth route as a fine polyline.

    Attributes:
        s: (N,) way along it, metres, from 0, in steps of about 1 cm.
        points: (N, 2) metres.
        goals: (G,) way at the goals, metres.
    """

    s: NDArray[np.float64]
    points: NDArray[np.float64]
    goals: NDArray[np.float64]

    def at(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2) points at ways `s`; the end beyond it."""
        return np.stack([np.interp(s, self.s, axis) for axis in self.points.T], axis=-1)


def smooth_route(
    route: NDArray[np.float64], goals: NDArray[np.int64], clearance: Clearance, distance: float
) -> Curve:
    """A cubic B-spline near `route` that keeps its distance.

    Its control points are every 0.4 m of the route at first; where the curve comes too close they are doubled.

    Args:
        route: (N, 2) points, N >= 4, each within about a cell of the next.
        goals: indices into `route`.
        clearance: from the obstacles.
        distance: to keep, metres.

    Raises:
        InputError: even the finest curve comes too close.
    """
    spacing = float(np.linalg.norm(np.diff(route, axis=0), axis=1).mean())
    count = max(4, round(len(route) * spacing / CONTROL_SPACING_M))
    control = np.unique(np.linspace(0, len(route) - 1, count).round().astype(np.int64))
    while True:
        parameters, points = _b_spline(route[control])
        close = clearance(points) < distance
        if not close.any():
            break
        first = np.unique(np.minimum(parameters[close].astype(np.int64), len(control) - 4))
        gaps = np.unique(first[:, None] + np.arange(3))
        gaps = gaps[control[gaps + 1] - control[gaps] > 1]
        if not len(gaps):
            raise InputError("walk: the way is too narrow to be smooth; use a finer grid or remove obstacles")
        control = np.sort(np.append(control, (control[gaps] + control[gaps + 1]) // 2))
    s = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1)))
    at_goals = np.interp(goals, control, np.arange(len(control))) - 1
    even = np.linspace(0.0, s[-1], round(s[-1] / 0.01) + 2)
    axes = [np.interp(even, s, axis) for axis in points.T]
    return Curve(even, np.stack(axes, axis=-1), np.interp(at_goals, parameters, s))


def _b_spline(control: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Parameters (M,) and points (M, 2), about 1 cm apart, of the clamped uniform cubic B-spline.

    Control points j to j + 3 make the piece from parameter j to j + 1.
    """
    pieces = len(control) - 3
    knots = np.concatenate(([0.0] * 3, np.arange(pieces + 1), [pieces] * 3))
    gaps = np.linalg.norm(np.diff(control, axis=0), axis=1)
    reach = np.maximum(np.maximum(gaps[:-2], gaps[1:-1]), gaps[2:])
    steps = np.ceil(reach / 0.01).astype(np.int64) + 1
    parameters = np.concatenate([j + np.arange(n) / n for j, n in enumerate(steps)] + [[float(pieces)]])
    return parameters, require("scipy.interpolate").BSpline(knots, control, 3)(parameters)


class _Carrier:
    """Moves a camera along a curve: speeds, sway, height and look; `calm` (0 to 1) slows the turns."""

    def __init__(
        self,
        free: FreeSpace,
        curve: Curve,
        manner: _Manner,
        speed: float,
        calm: float,
        rng: np.random.Generator,
    ) -> None:
        self._free, self._curve, self._manner = free, curve, manner
        self._speed, self._calm, self._rng = speed, calm, rng

    def carry(self, duration_s: float, heights: tuple[float, float]) -> Trajectory:
        """The motion, sampled 50 times a second and then made a spline; `heights` are the limits, metres."""
        manner, rng = self._manner, self._rng
        steps = max(8, round(duration_s * SAMPLE_HZ))
        dt = duration_s / steps
        times = (
            np.arange(steps + round(2.0 / dt), dtype=np.float64) * dt
        )  # longer, so that smoothing sees no end
        way = _smoothed(self._way(times), SPEED_SMOOTHING_S / dt)
        points = _smoothed(self._curve.at(way), POSITION_SMOOTHING_S / dt)
        speed = np.linalg.norm(np.gradient(points, dt, axis=0), axis=1)
        pace = np.clip(_smoothed(speed, SPEED_SMOOTHING_S / dt) / self._speed, 0.0, 1.0)

        ahead = self._curve.at(way + LOOK_AHEAD_M) - self._curve.at(way)
        heading = np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0]))
        target = heading + self._glances(times, points, heading, pace)
        yaw = _smoothed(_followed(target, YAW_RATE * dt), YAW_SMOOTHING_S / dt)

        phase = 2 * np.pi * STEP_HZ * rng.uniform(0.92, 1.08) * times + rng.uniform(0, 2 * np.pi)
        smooth_heading = _smoothed(heading, SPEED_SMOOTHING_S / dt)
        left = np.stack((-np.sin(smooth_heading), np.cos(smooth_heading)), axis=1)
        points = points + left * (manner.sway * pace * np.sin(phase / 2))[:, None]
        z = self._height(times, heights) + manner.bob * pace * np.sin(phase)
        positions = np.column_stack((points, z))
        positions += np.stack([_wander(times, manner.tremor, manner.tremor_band, rng) for _ in range(3)], 1)

        keep = slice(0, steps + 1)
        angles = (yaw + self._tremor(times), *self._tilts(times))
        yaw, pitch, roll = (angle[keep] for angle in angles)
        return Trajectory(np.linspace(0.0, duration_s, steps + 1), positions[keep], yaw, pitch, roll)

    def _way(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Way along the curve at `times`, metres: at rest at first, slow in turns and where it looks around."""
        curve = self._curve
        step = curve.s[1]
        direction = np.unwrap(np.arctan2(*np.gradient(curve.points, axis=0).T[::-1]))
        bend = _smoothed(np.abs(np.gradient(direction, step)), 0.1 / step)
        slow = CRAWL * self._calm
        lateral = LATERAL_ACCELERATION * self._calm
        speed = np.clip(np.sqrt(lateral / np.maximum(bend, 1e-6)), slow, self._speed)
        for goal in curve.goals[self._rng.random(len(curve.goals)) < LOOK_AROUND_PROBABILITY]:
            speed[np.abs(curve.s - goal) < LOOK_AROUND_M / 2] = slow
        speed = _braked(_braked(speed, step)[::-1], step)[::-1]
        passed = np.append(0.0, np.cumsum(2 * step / (speed[1:] + speed[:-1])))
        return np.interp(times - REST_S, passed, curve.s)

    def _glances(
        self,
        times: NDArray[np.float64],
        points: NDArray[np.float64],
        heading: NDArray[np.float64],
        pace: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """(N,) angle of the look to the left of the way, radians, constant for some seconds at a time.

        Each is the one of several that shows most free space, with some chance.
        """
        result = np.zeros(len(times))
        dt, first = times[1], 0
        while first < len(times):
            crawls = pace[min(first + round(0.5 / dt), len(times) - 1)] * self._speed < 2 * CRAWL
            crawls &= times[first] > REST_S
            last = first + round(self._rng.uniform(*((1.0, 2.2) if crawls else (1.8, 4.5))) / dt)
            degrees = np.array(LOOK_AROUND if crawls else self._manner.glance)
            sides = np.deg2rad(np.unique(np.concatenate((degrees, -degrees))))
            at = np.minimum(np.linspace(first, last, 4).astype(np.int64)[1:], len(times) - 1)
            view = free_view(self._free, points[at][:, None], heading[at][:, None] + sides).mean(axis=0)
            likes_ahead = 0.1 if crawls else 0.35
            score = view / VIEW_RANGE - likes_ahead * np.abs(sides) / (np.pi / 2)
            score += self._rng.gumbel(0.0, 0.15, len(sides))
            result[first:last] = sides[int(np.argmax(score))]
            first = last
        return result

    def _height(self, times: NDArray[np.float64], heights: tuple[float, float]) -> NDArray[np.float64]:
        """(N,) metres, without bobbing, but such that bobbing stays within `heights`."""
        spare = self._manner.bob + self._manner.tremor
        low, high = heights[0] + spare, heights[1] - spare
        varies = min(self._manner.height_varies, high - low) / 2
        return self._rng.uniform(low + varies, high - varies) + _wander(times, varies, SLOW_BAND, self._rng)

    def _tilts(self, times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pitch and roll, (N,), radians, within the manner's limits."""
        low, high = np.deg2rad(self._manner.pitch)
        tremor = np.deg2rad(self._manner.angle_tremor)
        half = (high - low) / 2 - tremor
        most = np.deg2rad(self._manner.roll) - tremor
        pitch = (low + high) / 2 + _wander(times, half, SLOW_BAND, self._rng) + self._tremor(times)
        return pitch, _wander(times, most, SLOW_BAND, self._rng) + self._tremor(times)

    def _tremor(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) radians."""
        return _wander(times, np.deg2rad(self._manner.angle_tremor), self._manner.tremor_band, self._rng)


def free_view(free: FreeSpace, points: NDArray[np.float64], yaw: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far one sees from (..., 2) `points` in directions (...), metres, at most `VIEW_RANGE`.

    The mean of five rays over 50 degrees and the shortest of them, so that a near wall at the side counts.
    """
    fan = np.deg2rad(np.linspace(-25.0, 25.0, 5))
    rays = np.asarray(yaw)[..., None] + fan
    reach = np.arange(1, round(VIEW_RANGE / 0.05) + 1) * 0.05
    steps = np.stack((np.cos(rays), np.sin(rays)), axis=-1)[..., None, :] * reach[:, None]
    cells = free.cells(points[..., None, None, :] + steps)
    inside = np.all((cells >= 0) & (cells < free.occupancy.shape), axis=-1)
    row, column = np.moveaxis(np.where(inside[..., None], cells, 0), -1, 0)
    blocked = ~inside | free.occupancy[row, column]
    seen = np.where(blocked.any(axis=-1), reach[blocked.argmax(axis=-1)], VIEW_RANGE)
    return np.asarray((seen.mean(axis=-1) + seen.min(axis=-1)) / 2)


def _smoothed(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Gaussian filter along the first axis; `sigma` in samples."""
    result: NDArray[np.float64] = require("scipy.ndimage").gaussian_filter1d(
        values, sigma, axis=0, mode="nearest"
    )
    return result


def _braked(speed: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Speeds along a way in steps of `step` metres, lowered so that none rises faster than `ACCELERATION`."""
    squares = (speed**2).tolist()
    for i in range(1, len(squares)):
        squares[i] = min(squares[i], squares[i - 1] + 2 * ACCELERATION * step)
    return np.asarray(np.sqrt(squares))


def _followed(target: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """An angle that turns towards `target` the short way round, by `most` radians per sample."""
    angle = float(target[0])
    result = np.empty(len(target))
    for i, wanted in enumerate(target.tolist()):
        turn = (wanted - angle + np.pi) % (2 * np.pi) - np.pi
        angle += min(max(turn, -most), most)
        result[i] = angle
    return result


def _wander(
    times: NDArray[np.float64], most: float, band: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float64]:
    """(N,) smooth noise of four frequencies in `band` (Hz), never beyond `most` to either side."""
    shares = rng.uniform(0.5, 1.0, 4)
    waves = np.sin(2 * np.pi * (np.outer(times, rng.uniform(*band, 4)) + rng.random(4)))
    return np.asarray(waves @ (shares * most / shares.sum()))
