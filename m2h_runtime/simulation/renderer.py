"""What a camera sees in an apartment: exact depth, labels and normals, and the light that reaches each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m2h_runtime.label_space import load_label_map
from m2h_runtime.simulation.raycast import RayCaster

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.simulation.apartment import Apartment
    from m2h_runtime.simulation.floor_plan import Room
    from m2h_runtime.simulation.light import Light
    from m2h_runtime.simulation.pinhole import Pinhole

_CELL_M = 0.05
_FAINT = 0.004  # light below this share of a lit wall is not worth a shadow ray
_AO_REACH_M = 0.7


@dataclass(frozen=True)
class View:
    """One rendered view.

    Attributes:
        radiance: (H, W, 3) float32, linear RGB, before exposure.
        depth: (H, W) float32, metres along the optical axis; 0 where the ray left the building.
        labels: (H, W) uint8, NYUv2-40 ids (0 unknown).
        objects: (H, W) int32, ids of `Apartment.objects`, 0 for the building.
        normals: (H, W, 3) float32, camera optical frame, facing the camera.
    """

    radiance: NDArray[np.float32]
    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]
    objects: NDArray[np.int32]
    normals: NDArray[np.float32]

    @property
    def labels20(self) -> NDArray[np.uint8]:
        """(H, W) uint8, NYUD20 ids."""
        return load_label_map("nyudv2_40", "nyud20")[self.labels]


def boundaries(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) uint8, 1 where a label differs from its right, lower or lower-right neighbour."""
    out = np.zeros(labels.shape, np.uint8)
    out[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    out[:-1] |= labels[:-1] != labels[1:]
    out[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return out


class Renderer:
    """Renders an apartment. Build once; `render` is a function of its arguments alone."""

    def __init__(self, apartment: Apartment) -> None:
        self.apartment = apartment
        corners = apartment.vertices[apartment.faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        self._normals = (normals / np.maximum(length, 1e-12)).astype(np.float32)
        self._caster = RayCaster(apartment.vertices, apartment.faces)
        self._room_of_cell = _room_raster(apartment)
        self._lights = apartment.lights
        corridor = apartment.rooms[-1].id
        self._lit = [
            np.array(
                [light.room in (room, corridor) or room == corridor for room in range(len(apartment.rooms))]
            )
            for light in self._lights
        ]
        self._doorways = _Doorways(apartment.rooms)
        self._ambient = np.stack([self._ambient_of(room.id) for room in apartment.rooms])

    def _ambient_of(self, room: int) -> NDArray[np.float32]:
        """Light that has bounced about in a room: proportional to what its lamps and windows give, by its size."""
        width, depth = self.apartment.rooms[room].size
        power = sum((light.power for light in self._lights if light.room == room), np.zeros(3))
        corridor = sum(light.power for light in self._lights if light.room == self.apartment.rooms[-1].id)
        spread = (1.6 * power + 0.15 * corridor) / (width * depth + 2.5 * (width + depth))
        return np.asarray(spread, np.float32)

    def render(self, camera: Pinhole, world_from_camera: NDArray[np.float64], seed: int) -> View:
        """The view of a camera at a pose (4, 4); `seed` draws the samples of the soft shadows."""
        rng = np.random.default_rng((seed, 1))
        flat = self.apartment
        size = camera.height, camera.width
        turn = world_from_camera[:3, :3].astype(np.float32)
        eye = world_from_camera[:3, 3].astype(np.float32)
        directions = np.ascontiguousarray(camera.rays @ turn.T)
        face, depth = self._caster.first_hit(np.broadcast_to(eye, directions.shape).copy(), directions)
        missed = face < 0
        if missed.any():
            face, depth = np.where(missed, 0, face), np.where(missed, np.float32(0), depth)
        normal = self._normals[face]
        away = np.einsum("ij,ij->i", normal, directions) > 0
        normal[away] *= -1
        point = np.asarray(eye + directions * depth[:, None], np.float32)
        material = flat.face_material[face]
        cosine = np.abs(np.einsum("ij,ij->i", normal, directions)) / np.linalg.norm(directions, axis=1)
        uv = np.stack(
            [
                np.einsum("ij,ij->i", point, flat.face_u[face]) + flat.face_shift[face, 0],
                np.einsum("ij,ij->i", point, flat.face_v[face]) + flat.face_shift[face, 1],
            ],
            axis=1,
        )
        albedo = flat.atlas.sample(material, uv, depth / camera.fx / np.maximum(cosine, 0.15), rng)
        light, shine = self._light(point, normal, -directions, flat.atlas.gloss[material], size, rng)
        glow = flat.atlas.emission[material][:, None]
        radiance = np.where(glow > 0, albedo * (glow + 0.2 * light), albedo * light + shine)
        radiance[missed] = 0
        labels, objects = flat.face_label[face], flat.face_object[face]
        if missed.any():
            labels, objects = np.where(missed, np.uint8(0), labels), np.where(missed, 0, objects)
            normal[missed] = 0
        return View(
            radiance.reshape(*size, 3),
            depth.reshape(size),
            labels.reshape(size),
            objects.reshape(size),
            (normal @ turn).reshape(*size, 3),
        )

    def _light(
        self,
        point: NDArray[np.float32],
        normal: NDArray[np.float32],
        to_eye: NDArray[np.float32],
        gloss: NDArray[np.float32],
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Irradiance and highlight, (N, 3) each: lamps and windows with one shadow ray per pixel, and ambient."""
        start = point + normal * np.float32(2e-3)
        room = self._room_at(point + normal * np.float32(0.06))
        direct = np.zeros_like(point)
        shine = np.zeros_like(point)
        for light, lit in zip(self._lights, self._lit, strict=True):
            at = np.flatnonzero(lit[room])
            if not len(at):
                continue
            spread = light.extent.astype(np.float32) * (2 * rng.random((len(at), 3), dtype=np.float32) - 1)
            target = light.position.astype(np.float32) + spread
            seen = self._doorways.may_pass(light.room, room[at], start, at, target)
            at, strength, to_light = _reach(light, at[seen], start, normal, target[seen])
            if not len(at):
                continue
            free = ~self._caster.blocked(start[at], to_light, 0.98)
            at, strength, to_light = at[free], strength[free], to_light[free]
            power = light.power.astype(np.float32)
            direct[at] += strength[:, None] * power
            glossy = gloss[at] > 0.08
            if glossy.any():
                here = at[glossy]
                half = _unit(_unit(to_light[glossy]) + _unit(to_eye[here]))
                peak = np.einsum("ij,ij->i", half, normal[here]).clip(0) ** 48
                shine[here] += (1.2 * gloss[here] * peak * strength[glossy])[:, None] * power
        # One shadow ray per pixel leaves grain in the half-shadows; a small blur turns it into a soft edge.
        direct = cv2.GaussianBlur(direct.reshape(*size, 3), (5, 5), 1.1).reshape(-1, 3)
        upward = 0.75 + 0.25 * normal[:, 2:3]
        ambient = self._ambient[room] * upward * self._openness(start, normal, size, rng)[:, None]
        return direct + ambient, shine

    def _openness(
        self,
        start: NDArray[np.float32],
        normal: NDArray[np.float32],
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> NDArray[np.float32]:
        """(N,) 0.35 .. 1: how little stands close by; one cosine-weighted ray for every fourth pixel, blurred."""
        rows, cols = size
        index = (np.arange(0, rows, 2)[:, None] * cols + np.arange(0, cols, 2)[None]).ravel()
        ball = rng.standard_normal((len(index), 3), dtype=np.float32)
        rays = _unit(normal[index] + 0.98 * _unit(ball))
        blocked = self._caster.blocked(start[index], rays, _AO_REACH_M)
        coarse = 1 - blocked.astype(np.float32).reshape((rows + 1) // 2, (cols + 1) // 2)
        coarse = cv2.blur(cv2.blur(coarse, (5, 5)), (5, 5))
        fine = cv2.resize(coarse, (cols, rows), interpolation=cv2.INTER_LINEAR)
        return np.asarray(0.35 + 0.65 * fine.ravel(), np.float32)

    def _room_at(self, point: NDArray[np.float32]) -> NDArray[np.int32]:
        raster = self._room_of_cell
        cell = ((point[:, :2] / _CELL_M) + 0.5).astype(np.int32)
        return raster[
            np.clip(cell[:, 1], 0, raster.shape[0] - 1), np.clip(cell[:, 0], 0, raster.shape[1] - 1)
        ]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.sqrt(np.einsum("ij,ij->i", vectors, vectors) + 1e-12)[:, None], np.float32)


class _Doorways:
    """The way of light between a room and the corridor: through the one hole in the wall between them."""

    def __init__(self, rooms: tuple[Room, ...]) -> None:
        self._corridor = rooms[-1].id
        holes = [
            next((room.wall_at(o.side), o.start, o.end, o.high) for o in room.openings if o.kind != "window")
            for room in rooms
        ]
        self._wall, self._start, self._end, self._high = np.array(holes, np.float32).T

    def may_pass(
        self,
        light_room: int,
        room: NDArray[np.int32],
        start: NDArray[np.float32],
        at: NDArray[np.intp],
        target: NDArray[np.float32],
    ) -> NDArray[np.intp]:
        """Which of the pixels `at` (N,) are not behind a wall for sure: a shadow ray costs ten times this test.

        Args:
            light_room: of the light.
            room: (N,) of the pixels.
            start: (all pixels, 3) world metres.
            at: (N,) indices into `start`.
            target: (N, 3) points of the light.
        """
        other = np.flatnonzero(room != light_room)
        if not len(other):
            return np.arange(len(at))
        gate = room[other] if light_room == self._corridor else light_room
        pixel, lamp = start[at[other]], target[other]
        with np.errstate(divide="ignore", invalid="ignore"):
            along = (self._wall[gate] - pixel[:, 1]) / (lamp[:, 1] - pixel[:, 1])
        x = pixel[:, 0] + along * (lamp[:, 0] - pixel[:, 0])
        z = pixel[:, 2] + along * (lamp[:, 2] - pixel[:, 2])
        margin = np.float32(0.01)
        beside = (x < self._start[gate] - margin) | (x > self._end[gate] + margin)
        walled = (along > 0) & (along < 1) & (beside | (z > self._high[gate] + margin))
        free = np.ones(len(at), bool)
        free[other[walled]] = False
        return np.flatnonzero(free)


def _reach(
    light: Light,
    at: NDArray[np.intp],
    start: NDArray[np.float32],
    normal: NDArray[np.float32],
    target: NDArray[np.float32],
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Which pixels a light could reach, how strongly (inverse square, Lambert), and the way there."""
    way = target - start[at]
    square = np.einsum("ij,ij->i", way, way)
    strength = np.einsum("ij,ij->i", way, normal[at]) / np.sqrt(square) / (square + 0.25)
    if light.direction.any():
        strength *= np.maximum(-(way @ light.direction.astype(np.float32)) / np.sqrt(square), 0)
    keep = strength * light.power.max() > _FAINT
    return at[keep], strength[keep], np.ascontiguousarray(way[keep])


def _room_raster(apartment: Apartment) -> NDArray[np.int32]:
    """Room ids on a grid over the floor; between rooms, the corridor's."""
    corridor = apartment.rooms[-1]
    width = max(room.x1 for room in apartment.rooms) + 0.2
    depth = max(room.y1 for room in apartment.rooms) + 0.2
    raster = np.full((int(depth / _CELL_M), int(width / _CELL_M)), corridor.id, np.int32)
    for room in apartment.rooms:
        cells = [round(v / _CELL_M) for v in (room.x0, room.y0, room.x1, room.y1)]
        raster[cells[1] : cells[3] + 1, cells[0] : cells[2] + 1] = room.id
    return raster
