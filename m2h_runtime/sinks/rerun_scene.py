"""What Rerun shows of a run: pictures, point cloud, camera, figures and health."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from m2h_runtime.ros.messages import colored_points
from m2h_runtime.sinks.render import DepthRange
from m2h_runtime.view import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.calibration.fit import Fit
    from m2h_runtime.label_space import LabelSpace
    from m2h_runtime.pipeline.health import Health, Transition
    from m2h_runtime.sinks.base import Observation

STAMP, FRAME = "stamp", "frame"
"""The timelines: the frame's stamp and its sequence number."""
WORLD, CAMERA, POINTS = "world", "world/camera", "world/camera/points"
PIXELS = "world/camera/image"
"""The pinhole; the pictures lie under it."""
PICTURES = ("rgb", "depth", "semantics", "normals", "edges")
CHANGES, LEVEL = "health/changes", "health/level"
LATENCY, FPS = "figures/latency_ms", "figures/fps"

MOST_POINTS = 10_000
"""A denser cloud is thinned out evenly: this many show a room, and take 160 kB."""
POINT_SIZE = -2.0
"""Rerun takes negative radii for pixels on the screen."""
FRUSTUM_M = 0.4
JPEG_QUALITY = 85
SINCE_EPOCH_NS = 10**18
"""Stamps from here on (2001) are dates; smaller ones count from the start of a recording."""

_LEVELS = ("INFO", "WARN", "ERROR")
_log = logging.getLogger("m2h")


class Scene:
    """Logs observations to a recording. All pictures of a frame have one size, see `shown_size`.

    Depth is in millimetres, 0 where there is none. Points are in the camera's optical frame (x right, y down,
    z forward) and hang on the camera, which stands in the world where the source knows its pose.

    Args:
        library: the module rerun.
        recording: a `rerun.RecordingStream` whose sinks are set.
        health: its level is shown with each frame, its changes as they come.
        clock: monotonic, integer nanoseconds; the clock of `Frame.taken_ns`.
    """

    def __init__(
        self,
        library: Any,
        recording: Any,
        health: Health,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._rerun = library
        self._recording = recording
        self._health = health
        self._clock = clock
        self._stamp_ns: int | None = None
        self._dated = False
        self._range = DepthRange()
        self._logged: dict[str, Any] = {}
        self._ended = False
        recording.send_blueprint(_blueprint(library.blueprint))
        health.listen(self._show_change)

    def show(self, observation: Observation) -> None:
        """Log one observation."""
        frame = observation.frame
        if self._stamp_ns is None:
            self._dated = frame.stamp_ns >= SINCE_EPOCH_NS
        self._stamp_ns = frame.stamp_ns
        self._set_stamp(frame.stamp_ns)
        self._recording.set_time(FRAME, sequence=frame.sequence)
        size, factor = shown_size(observation.fit), observation.depth_factor
        view = View(frame, observation.perception, observation.fit, size, depth_factor=factor)
        self._show_labels(observation.perception.label_space)
        self._show_pose(frame.world_from_camera)
        self._show_pictures(view)
        self._show_points(view)
        self._show_figures(observation)

    def end(self) -> None:
        """Show no more changes of the health, which outlives the recording."""
        self._ended = True

    def _set_stamp(self, stamp_ns: int) -> None:
        """What this thread logs from now on happened then."""
        if self._dated:
            self._recording.set_time(STAMP, timestamp=np.datetime64(stamp_ns, "ns"))
        else:
            self._recording.set_time(STAMP, duration=np.timedelta64(stamp_ns, "ns"))

    def _log(self, path: str, what: Any) -> None:
        self._recording.log(path, what, strict=True)

    def _log_once(self, path: str, key: Any, make: Callable[[], Any]) -> None:
        """Log what holds until it changes: static, so a server keeps it for viewers that come late."""
        if self._logged.get(path) != key:
            self._recording.log(path, make(), static=True, strict=True)
            self._logged[path] = key

    def _show_change(self, change: Transition) -> None:
        """In the thread that reports it, at the stamp of the last frame that was shown."""
        if self._ended:
            return
        if self._stamp_ns is not None:
            self._set_stamp(self._stamp_ns)
        level, text = change.condition.level, change.condition.text
        line = f"{change.part} {level.name.lower()}" + (f": {text}" if text else "")
        self._log(CHANGES, self._rerun.TextLog(line, level=_LEVELS[level]))

    def _show_labels(self, space: LabelSpace) -> None:
        named = [(label, name, space.colors[label]) for label, name in enumerate(space.classes)]
        self._log_once(PIXELS + "/semantics", space, lambda: self._rerun.AnnotationContext(named))

    def _show_pose(self, world_from_camera: NDArray[np.float64] | None) -> None:
        """With poses the world's z is up, as ROS has it; without, the camera is the world."""
        axes = self._rerun.ViewCoordinates
        if world_from_camera is not None:
            self._log_once(WORLD, "posed", lambda: axes.RIGHT_HAND_Z_UP)
            rotation, position = world_from_camera[:3, :3], world_from_camera[:3, 3]
            self._log(CAMERA, self._rerun.Transform3D(translation=position, mat3x3=rotation))
        elif WORLD not in self._logged:
            self._log_once(WORLD, "unposed", lambda: axes.RDF)
        elif self._logged[WORLD] == "posed":
            self._say_once("the source knows the camera's pose no more; Rerun shows it where it was last")

    def _show_pictures(self, view: View) -> None:
        rerun = self._rerun
        pictures = {
            "rgb": self._jpeg(cv2.cvtColor(view.rgb, cv2.COLOR_RGB2BGR)),
            "depth": self._depth(view.depth),
            "semantics": rerun.SegmentationImage(view.semantics),
            "normals": self._jpeg(cv2.cvtColor(view.normals_picture, cv2.COLOR_RGB2BGR)),
            "edges": self._jpeg(view.edges),
        }
        for name, picture in pictures.items():
            self._log(f"{PIXELS}/{name}", picture)

    def _depth(self, depth: NDArray[np.float32]) -> Any:
        far_mm = 1000 * self._range.update(depth)[1]
        _, data = cv2.imencode(".png", millimetres(depth))
        return self._rerun.EncodedDepthImage(
            blob=data.tobytes(),
            media_type="image/png",
            meter=1000.0,
            colormap="turbo",
            depth_range=(0, far_mm),
        )

    def _jpeg(self, image: NDArray[np.uint8]) -> Any:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return self._rerun.EncodedImage(contents=data.tobytes(), media_type="image/jpeg")

    def _show_points(self, view: View) -> None:
        camera, rerun = view.camera, self._rerun
        if camera is None:
            self._say_once(
                "Rerun shows no points, as the camera's intrinsics are unknown; give --calibration"
            )
            return
        self._log_once(
            PIXELS,
            camera,
            lambda: rerun.Pinhole(
                image_from_camera=camera.matrix,
                resolution=(camera.width, camera.height),
                camera_xyz=rerun.ViewCoordinates.RDF,
                image_plane_distance=FRUSTUM_M,
            ),
        )
        points, colors = thinned(colored_points(view), MOST_POINTS)
        self._log(POINTS, rerun.Points3D(points, colors=colors, radii=POINT_SIZE))

    def _show_figures(self, observation: Observation) -> None:
        rerun, frame = self._rerun, observation.frame
        stages = {name: spent_ns / 1e6 for name, spent_ns in observation.perception.latencies_ns.items()}
        if frame.taken_ns is not None:
            stages["age"] = (self._clock() - frame.taken_ns) / 1e6
        names = tuple(stages)
        self._log_once(LATENCY, names, lambda: rerun.SeriesLines(names=names))
        self._log(LATENCY, rerun.Scalars(list(stages.values())))
        self._log(FPS, rerun.Scalars(observation.fps))
        self._log(LEVEL, rerun.Scalars(float(self._health.worst().level)))

    def _say_once(self, text: str) -> None:
        if text not in self._logged:
            self._logged[text] = True
            _log.warning("%s", text)


def shown_size(fit: Fit) -> tuple[int, int]:
    """(H, W) of all pictures: the camera's aspect ratio at the engine's resolution, which loses nothing it said.

    Never larger than the camera's image.
    """
    used, covered = fit.used, fit.covered
    scale = min(1.0, max(covered.height / used.height, covered.width / used.width))
    return max(1, round(fit.camera[0] * scale)), max(1, round(fit.camera[1] * scale))


def millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """`depth` (H, W), metres, rounded to millimetres; 0, no depth, from 65.5 m on."""
    scaled = depth * np.float32(1000) + np.float32(0.5)
    return np.where(scaled < 65536, scaled, 0).astype(np.uint16)


def thinned(points: NDArray[np.float32], most: int) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Positions (N, 3) and colours (N,) as 0xRRGGBBAA of at most `most` of `points`, as `colored_points` gives them."""
    if len(points) > most:
        points = points[np.linspace(0, len(points) - 1, most).astype(np.intp)]
    rgb = np.ascontiguousarray(points[:, 3]).view(np.uint32)
    return np.ascontiguousarray(points[:, :3]), rgb << np.uint32(8) | np.uint32(0xFF)


def _blueprint(blueprint: Any) -> Any:
    """The cloud large, the five pictures and the health beside it, figures below."""
    beside = [blueprint.Spatial2DView(origin=f"{PIXELS}/{name}", name=name) for name in PICTURES]
    beside.append(blueprint.TextLogView(origin=CHANGES, name="health"))
    shown = ["+ world/**", *(f"- {PIXELS}/{name}" for name in PICTURES[1:])]  # the frustum holds the image
    cloud = blueprint.Spatial3DView(origin=WORLD, contents=shown, name="world")
    above = blueprint.Horizontal(cloud, blueprint.Grid(*beside, grid_columns=2), column_shares=[3, 2])
    below = blueprint.Horizontal(
        blueprint.TimeSeriesView(origin=LATENCY, name="latency, ms"),
        blueprint.TimeSeriesView(origin="/", contents=[FPS, LEVEL], name="FPS; health, 0 ok to 2 failed"),
    )
    return blueprint.Blueprint(
        blueprint.Vertical(above, below, row_shares=[3, 1]),
        blueprint.TimePanel(timeline=STAMP, state="collapsed", play_state="following"),
        blueprint.SelectionPanel(state="hidden"),
        blueprint.BlueprintPanel(state="hidden"),
    )
