"""Weight files: published `.pt` state dicts and `.safetensors`, read without executing pickled code."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from m2h_export.models import MODELS, build_model
from m2h_runtime.engine.manifest import sha256_of
from m2h_runtime.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from m2h_export.models.cross_task import Mixing

CLASS_KEY = "mlt_head.seg_out.final_conv.weight"
_LFS = b"version https://git-lfs.github.com/spec/"
_WRAPPERS = ("state_dict", "model", "model_state_dict")


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A state dict on the CPU, its file's sha256 and the class count of its semantic head."""

    state: dict[str, Tensor]
    sha256: str
    num_classes: int


def read_checkpoint(path: Path) -> LoadedCheckpoint:
    """Read a weight file of any M2H network.

    Raises:
        CheckpointError: no such file, a git-lfs pointer, truncated, not a state dict, or one that needs code to run.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file; download one, or pass --random-weights")
    with path.open("rb") as stream:
        head = stream.read(64)
    if head.startswith(_LFS):
        raise CheckpointError(
            f"{path}: a git-lfs pointer, not the weights; run: git lfs pull --include {path.name}"
        )
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, head)
    if CLASS_KEY not in state or not state[CLASS_KEY].ndim:
        raise CheckpointError(f"{path}: no {CLASS_KEY} in it, so these are not the weights of an M2H network")
    return LoadedCheckpoint(state, sha256_of(path), int(state[CLASS_KEY].shape[0]))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return _plain_names(load_file(path), path)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: damaged or truncated safetensors file ({error}); get it again"
        ) from error


def _read_torch(path: Path, head: bytes) -> dict[str, Tensor]:
    if head.startswith(b"PK") and not _is_whole_archive(path):
        raise CheckpointError(f"{path}: truncated (the end of the archive is missing); download it again")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "unsupported global" in str(error).lower():  # the name of a class or function to call
            raise CheckpointError(
                f"{path}: needs pickled code to load, which is never run here; "
                "save its state_dict() alone, or as .safetensors"
            ) from error
        raise CheckpointError(f"{path}: not a PyTorch checkpoint, or a damaged one; get it again") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: truncated or damaged PyTorch checkpoint; download it again"
        ) from error
    for name in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: holds a {type(loaded).__name__}, expected a state dict of tensors")
    return _plain_names(loaded, path)


def _is_whole_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # its directory is there, but not a readable one
        return False


def _plain_names(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Without the prefix that data-parallel training leaves on every name."""
    for name, value in state.items():
        if not isinstance(name, str):
            raise CheckpointError(
                f"{path}: has the key {name!r}, expected names; not a state dict of tensors"
            )
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(f"{path}: {name!r} is a {type(value).__name__}, expected a tensor")
    return {name.removeprefix("module."): value for name, value in state.items()}


def check_fit(
    checkpoint: LoadedCheckpoint,
    path: Path,
    model: str,
    num_classes: int | None,
    *,
    mixing: Mixing | None = None,
    ggfm: bool | None = None,
) -> None:
    """Is it a checkpoint of the network called `model`, with `num_classes` (None: whatever it has).

    `mixing` and `ggfm` are those of `build_model`.

    Raises:
        CheckpointError: another class count, or another network; names the network that it fits.
    """
    found = checkpoint.num_classes
    if num_classes is not None and found != num_classes:
        raise CheckpointError(
            f"{path}: its semantic head has {found} classes, not {num_classes}; pass --classes {found}"
        )
    problem = _mismatch(checkpoint, model, mixing, ggfm)
    if problem is None:
        return
    fitting = [name for name in MODELS if name != model and _mismatch(checkpoint, name, mixing, ggfm) is None]
    hint = (
        f"these are the weights of {fitting[0]}: pass --model {fitting[0]}" if fitting else "get another file"
    )
    raise CheckpointError(f"{path}: not the weights of {model} ({problem}); {hint}")


def _mismatch(
    checkpoint: LoadedCheckpoint, model: str, mixing: Mixing | None, ggfm: bool | None
) -> str | None:
    with torch.device("meta"):
        network = build_model(model, checkpoint.num_classes, mixing=mixing, ggfm=ggfm)
    wanted = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    found = {k: tuple(v.shape) for k, v in checkpoint.state.items()}
    if missing := sorted(wanted.keys() - found.keys()):
        return f"{len(missing)} tensors missing, the first is {missing[0]}"
    if extra := sorted(found.keys() - wanted.keys()):
        return f"{len(extra)} tensors too many, the first is {extra[0]}"
    for name, shape in wanted.items():
        if found[name] != shape:
            return f"{name} is {found[name]}, expected {shape}"
    return None
