"""From light to picture: lens blur, motion blur, exposure, white balance, vignetting, noise, tone curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2h_runtime.simulation.pinhole import Pinhole

_TAPS = 5


@dataclass(frozen=True)
class Sensor:
    """One camera's character; drawn once per episode.

    Attributes:
        shutter_s: exposure time, seconds.
        target: linear brightness that the automatic exposure aims at.
        white: (3,) gains of the white balance.
        vignetting: loss of light in the corners, 0..1.
        blur_px: standard deviation of the lens blur on a picture 320 pixels wide.
        read_noise, shot_noise: linear noise at zero, and its growth with the square root of the signal.
        shoulder: how softly highlights roll off.
    """

    shutter_s: float
    target: float
    white: tuple[float, float, float]
    vignetting: float
    blur_px: float
    read_noise: float
    shot_noise: float
    shoulder: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Sensor:
        """A camera between good and cheap."""
        warm = rng.normal(0, 0.07)
        return cls(
            shutter_s=float(rng.uniform(0.004, 0.016)),
            target=float(rng.uniform(0.17, 0.32)),
            white=(float(1 + warm), 1.0, float(1 - warm)),
            vignetting=float(rng.uniform(0.0, 0.3)),
            blur_px=float(rng.uniform(0.35, 0.7)),
            read_noise=float(rng.uniform(0.001, 0.006)),
            shot_noise=float(rng.uniform(0.004, 0.022)),
            shoulder=float(rng.uniform(0.6, 1.0)),
        )

    def expose(
        self,
        radiance: NDArray[np.float32],
        camera: Pinhole,
        rng: np.random.Generator,
        flow_px: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        """A picture (H, W, 3) uint8 RGB of linear radiance (H, W, 3).

        `flow_px` (H, W, 2) is how far the scene moves across the picture while the shutter is open.
        """
        sigma = self.blur_px * camera.width / 320
        light = cv2.GaussianBlur(np.minimum(radiance, 4.0), (0, 0), max(sigma, 0.2))
        if flow_px is not None and float(np.abs(flow_px).max()) > 0.6:
            light = _smear(light, flow_px)
        bright = light.mean(axis=2)
        gain = self.target / max(float(np.exp(np.log(bright + 0.02).mean())), 0.02)
        light = light * np.asarray(self.white, np.float32) * np.float32(gain * rng.uniform(0.9, 1.1))
        light *= self._falloff(camera)
        noise = rng.standard_normal(light.shape, dtype=np.float32)
        light += noise * np.sqrt(self.read_noise**2 + self.shot_noise**2 * np.maximum(light, 0))
        knee = np.float32(self.shoulder)
        light = np.maximum(light, 0)
        toned = np.where(
            light < knee, light, knee + (1.001 - knee) * np.tanh((light - knee) / (1.001 - knee))
        )
        return np.asarray(255 * np.minimum(toned, 1) ** np.float32(1 / 2.2) + 0.5, np.uint8)

    def _falloff(self, camera: Pinhole) -> NDArray[np.float32]:
        x = (np.arange(camera.width) - camera.cx) / camera.width * 2
        y = (np.arange(camera.height) - camera.cy) / camera.width * 2
        radius = (x[None] ** 2 + y[:, None] ** 2) / 1.56
        return np.asarray(1 - self.vignetting * radius, np.float32)[..., None]


def optical_flow(
    camera: Pinhole,
    depth: NDArray[np.float32],
    velocity: NDArray[np.float64],
    rate: NDArray[np.float64],
    duration_s: float,
) -> NDArray[np.float32]:
    """How far a static scene moves in the picture, pixels (H, W, 2).

    Args:
        camera: its geometry; distortion is neglected.
        depth: (H, W) metres.
        velocity: (3,) of the camera in its optical frame, m/s.
        rate: (3,) angular velocity of the camera in its optical frame, rad/s.
        duration_s: over which time.
    """
    size = depth.shape
    rays = camera.rays
    z = np.maximum(depth.ravel(), 0.1)
    x, y = rays[:, 0], rays[:, 1]
    vx, vy, vz = (-velocity).astype(np.float32)
    wx, wy, wz = rate.astype(np.float32)
    # d/dt of the point z·(x, y, 1) in the camera frame is -v - w × p.
    px, py, pz = vx / z - (wy - wz * y), vy / z - (wz * x - wx), vz / z - (wx * y - wy * x)
    flow = np.stack([camera.fx * (px - x * pz), camera.fy * (py - y * pz)], axis=-1) * duration_s
    return np.asarray(flow, np.float32).reshape(*size, 2)


def _smear(light: NDArray[np.float32], flow_px: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, cols = light.shape[:2]
    y, x = np.mgrid[0:rows, 0:cols].astype(np.float32)
    total = np.zeros_like(light)
    for step in np.linspace(-0.5, 0.5, _TAPS, dtype=np.float32):
        total += cv2.remap(
            light,
            x + step * flow_px[..., 0],
            y + step * flow_px[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return np.asarray(total / _TAPS, np.float32)
