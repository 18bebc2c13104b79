"""Makes `rooms` importable from the tests beside it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # at the end: `import conftest` means the one above
