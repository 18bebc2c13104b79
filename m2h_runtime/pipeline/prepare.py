"""From the camera's frame to the engine's image: calibration, rectification, size."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from m2h_runtime.calibration.calibration import check_fits
from m2h_runtime.calibration.depth import depth_factor
from m2h_runtime.calibration.fit import Fit
from m2h_runtime.calibration.rectify import Rectifier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from m2h_runtime.calibration.calibration import Calibration
    from m2h_runtime.calibration.camera import CameraModel
    from m2h_runtime.calibration.fit import Policy
    from m2h_runtime.engine.manifest import Manifest
    from m2h_runtime.frame import Frame

log = logging.getLogger("m2h")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A frame that is ready for the engine.

    Attributes:
        source: the frame before rectification, named after its camera.
        frame: rectified, with the camera model of its image if that is known.
        image: uint8 (H, W, 3) RGB at the engine's size.
        fit: how the two images lie on each other.
        depth_factor: what the engine's depth is to be multiplied by.
        engine_camera: intrinsics of `image`, if they are known.
    """

    source: Frame
    frame: Frame
    image: NDArray[np.uint8]
    fit: Fit
    depth_factor: float
    engine_camera: CameraModel | None


class Preparation:
    """Prepares frames; what depends on the camera alone is made once per camera.

    Args:
        manifest: the engine's.
        policy: how images are brought to the engine's size; None: as the manifest says.
        calibration: of the camera; takes the place of what the source says about it.
        rectify: undistort the images; None: if there is a calibration.
        frame_id: name of the camera's optical frame, unless the calibration has one; None: as the source says.
    """

    def __init__(
        self,
        manifest: Manifest,
        policy: Policy | None = None,
        calibration: Calibration | None = None,
        rectify: bool | None = None,
        frame_id: str | None = None,
    ) -> None:
        self.depth_scale = calibration.depth_scale if calibration else 1.0
        self._policy: Policy = policy or manifest.resize
        self._size = manifest.size
        self._training_focal_px = manifest.focal_px
        self._calibration = calibration
        self._rectify = calibration is not None if rectify is None else rectify
        self._frame_id = (calibration.frame_id if calibration else None) or frame_id
        self._made_for: tuple[CameraModel | None, tuple[int, int]] | None = None

    def __call__(self, frame: Frame) -> Prepared:
        """Prepare one frame.

        Raises:
            CalibrationError: the calibration is for images of another size.
        """
        height, width = frame.image.shape[:2]
        if self._made_for != (frame.camera, (height, width)):
            self._make(frame.camera, (height, width))
        if self._frame_id is not None and frame.frame_id != self._frame_id:
            frame = replace(frame, frame_id=self._frame_id)
        source = frame
        if self._rectifier is not None:
            frame = replace(frame, image=self._rectifier.apply(frame.image), camera=self._camera)
        elif frame.camera is not self._camera:
            frame = replace(frame, camera=self._camera)
        image = self._fit.apply(frame.image)
        return Prepared(
            source, frame, image, self._fit, self.depth_scale * self._focal_factor, self._engine_camera
        )

    def _make(self, said: CameraModel | None, size: tuple[int, int]) -> None:
        camera = check_fits(self._calibration, size).camera if self._calibration else said
        distorted = camera is not None and not camera.ideal
        self._rectifier = Rectifier(camera) if camera is not None and distorted and self._rectify else None
        if distorted and self._rectifier is None:
            log.warning(
                "the camera's lens distorts, and its images are used as they are; --rectify straightens them"
            )
        self._camera = self._rectifier.camera if self._rectifier else camera
        self._fit = Fit(self._policy, size, self._size)
        self._engine_camera = self._fit.engine_camera(self._camera) if self._camera else None
        self._focal_factor = (
            depth_factor(1.0, self._training_focal_px, self._engine_camera) if self._engine_camera else 1.0
        )
        self._made_for = (said, size)
