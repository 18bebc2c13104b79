"""The demo engine, for whoever names no other."""

from __future__ import annotations

from pathlib import Path

from m2h_runtime.errors import InputError

DEMO_ENGINE = Path("engines") / "m2h-nano-apartments"


def shipped_engine() -> Path:
    """The demo engine's folder, below the working directory or in the checkout.

    Raises:
        InputError: it is in neither.
    """
    for root in (Path.cwd(), Path(__file__).resolve().parents[1]):
        if (root / DEMO_ENGINE).is_dir():
            return root / DEMO_ENGINE
    raise InputError(f"no --engine given and no {DEMO_ENGINE} here; name an engine folder made by m2h-export")
