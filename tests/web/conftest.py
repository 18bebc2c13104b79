"""A dashboard over a real pipeline, in this process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.append(str(Path(__file__).parent))  # for show, at the end: `import conftest` means the one above
from show import Show, show

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def running(tiny_engine: Path, tmp_path: Path) -> Iterator[Show]:
    """A live run with its dashboard on this machine; nobody watches yet."""
    with show(tiny_engine, tmp_path / "recordings") as made:
        yield made
