"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


def reason(error: OSError) -> str:
    """The operating system's words for an error, without the path that our own message names."""
    return (error.strerror or str(error)).lower()


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file beside `path`, then rename it into place.

    Raises:
        InputError: the folder does not exist or is read-only, or the disk is full; nothing is left behind.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
            temporary = Path(stream.name)
            try:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
                temporary.chmod(0o644)  # tempfile makes it private to its owner
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({reason(error)}); choose another place or free some space"
        ) from error


@contextmanager
def folder_in_place(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well, and vanishes otherwise.

    Raises:
        InputError: the parent folder cannot be made or written, or the disk is full.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({reason(error)}); choose another --out") from error
    try:
        temporary.chmod(0o755)
        yield temporary
        _replace(temporary, folder)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({reason(error)}); free some space or choose another --out"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(new: Path, folder: Path) -> None:
    if folder.exists():
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
        folder.rename(old / "was")
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        new.rename(folder)
