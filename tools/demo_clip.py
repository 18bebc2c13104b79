"""A short clip to try the runtime on: a camera that pans over photographs.

    python tools/demo_clip.py out/clip.mp4

The photographs come with scikit-image. 640 × 480, 30 frames a second, 4 seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import skimage

PHOTOGRAPHS = ("motorcycle_left.png", "coffee.png")
WIDTH, HEIGHT, RATE, SECONDS_EACH = 640, 480, 30, 2


def main() -> int:
    """Write the clip named on the command line."""
    if len(sys.argv) != 2:
        print("usage: python tools/demo_clip.py FILE.mp4", file=sys.stderr)
        return 2
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(out), cv2.VideoWriter_fourcc(*"mp4v"), RATE, (WIDTH, HEIGHT))
    for name in PHOTOGRAPHS:
        picture = cv2.imread(str(Path(skimage.__file__).parent / "data" / name))
        for t in np.linspace(0, 1, RATE * SECONDS_EACH, endpoint=False):
            writer.write(view(picture, t))
    writer.release()
    return 0


def view(picture: np.ndarray, t: float) -> np.ndarray:
    """What the camera sees at time t of 0..1: a window that moves right and closer."""
    height, width = picture.shape[:2]
    scale = min(width / WIDTH, height / HEIGHT) * (0.85 - 0.2 * t)
    w, h = WIDTH * scale, HEIGHT * scale
    x = (width - w) * (0.1 + 0.8 * t)
    y = (height - h) * 0.5
    window = np.float32([[x, y], [x + w, y], [x, y + h]])
    frame = np.float32([[0, 0], [WIDTH, 0], [0, HEIGHT]])
    return cv2.warpAffine(
        picture, cv2.getAffineTransform(window, frame), (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR
    )


if __name__ == "__main__":
    sys.exit(main())
