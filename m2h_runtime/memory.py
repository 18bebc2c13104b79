"""Keep what every frame needs again."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEEP_BYTES = 512 << 20


def keep_freed_memory() -> bool:
    """Tell the C library not to give freed memory back to the kernel; for processes that stream.

    Images of megabytes are made and freed with every frame. Given back, they come anew as empty pages, and each page
    costs a fault: a third of the time of publishing (docs/performance.md). Kept is what the largest frame needed.

    Returns:
        True if the C library took it; False where it has no such setting (musl).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEEP_BYTES)) and bool(mallopt(M_TRIM_THRESHOLD, KEEP_BYTES))
