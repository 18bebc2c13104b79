"""docs/performance.md and its picture from the result files, so that no number there is typed by hand.

    python benchmarks/report.py

Sections whose result file is missing are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sections import (
    cvm,
    cvm_latency,
    gpu,
    loop,
    mapping,
    measuring,
    odometry,
    parity,
    picture,
    pytorch,
    ros,
    scaling,
    temporal,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
INTRODUCTION = """\
# Performance

Made by `python benchmarks/report.py` from `benchmarks/results/*.json`. Machines are noisy and this one is shared: it
has been seen to change speed by a factor of 1.6 within seconds. So ratios within one run mean something, milliseconds
less. Weights are random (seed 0) unless a section says otherwise: speed and parity, no accuracy. What was tried to get
there, step by step, is in [performance-log.md](performance-log.md).
"""


def page(image: Path) -> str:
    """The whole page; draws the picture at `image`."""
    speed = (pytorch, scaling, cvm_latency, loop, ros, measuring, gpu, parity)
    sections = (*speed, cvm, temporal, odometry, mapping)
    lines = [*picture.draw(image), *(line for part in sections for line in part.section())]
    return f"{INTRODUCTION}\n{chr(10).join(lines).rstrip()}\n"


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=PAGE, help="the page; its picture goes to images/ beside")
    args = parser.parse_args()
    text = page(args.out.parent / "images" / "performance.png")
    args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
