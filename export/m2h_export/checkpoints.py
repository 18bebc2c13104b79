"""Weight files: published state dicts (`.pt`, `.pth`) and `.safetensors`, read without executing pickled code."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from m2h_export.models import CVM_MODELS, MODELS, build_model
from m2h_export.models.catalogue import WITH_CVM
from m2h_export.models.warping import DepthRange
from m2h_runtime.engine.manifest import sha256_of
from m2h_runtime.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from m2h_export.models import Network
    from m2h_export.models.cross_task import Mixing
    from m2h_export.models.task_heads import TaskSet

CLASS_KEY = "mlt_head.seg_out.final_conv.weight"
CVM_CLASS_KEY = "heads.semantics.linear.weight"
_NEW_IN_CVM = ("cvm.", "join.")
_COMPUTED = ("rope_embed.periods", "bias_mask")
"""Buffers of DINOv3 that a network has by itself; some files leave them out."""
_LFS = b"version https://git-lfs.github.com/spec/"
_WRAPPERS = ("state_dict", "model", "model_state_dict")


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A state dict on the CPU, its file's sha256 and the class count of its semantic head."""

    state: dict[str, Tensor]
    sha256: str
    num_classes: int


def read_checkpoint(path: Path) -> LoadedCheckpoint:
    """Read a weight file of any M2H or cross-view network.

    Raises:
        CheckpointError: no such file, a git-lfs pointer, truncated, not a state dict, or one that needs code to run.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file; download one, or pass --random-weights")
    state = _read_state(path)
    key = CVM_CLASS_KEY if CVM_CLASS_KEY in state else CLASS_KEY
    if key not in state or not state[key].ndim:
        raise CheckpointError(
            f"{path}: no {CLASS_KEY} in it, so these are not the weights of an M2H network"
            f" (nor {CVM_CLASS_KEY}, of a cross-view network)"
        )
    return LoadedCheckpoint(state, sha256_of(path), int(state[key].shape[0]))


def read_facts(path: Path) -> dict[str, Any]:
    """What a training wrote beside its weights: the metadata of a safetensors file, values that are JSON decoded."""
    if path.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        raw = file.metadata() or {}
    return {key: _decoded(value) for key, value in raw.items()}


def build_options(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `build_model` among these facts; None where there are none.

    Not all of them show in the weights: a depth range that is not the default does not.
    """
    switches = dict(facts.get("cvm") or {})
    if "depths" in switches:
        switches["depths"] = DepthRange(*switches["depths"])
    return {**{name: facts.get(name) for name in ("mixing", "ggfm", "tasks")}, **switches}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def load_backbone(network: Network, path: Path) -> None:
    """Load encoder weights: the official ones of DINOv3 or DINOv2, or the encoder of an M2H checkpoint.

    Raises:
        CheckpointError: the file cannot be read, or is not for this network's encoder.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such backbone file; give DINOv3 or DINOv2 weights")
    state = _read_state(path)
    if CLASS_KEY in state:
        state = {
            name.removeprefix("backbone."): value
            for name, value in state.items()
            if name.startswith("backbone.")
        }
    backbone: nn.Module = network.backbone
    own = backbone.state_dict()
    given = {name: value for name, value in own.items() if name.endswith(_COMPUTED)} | state
    if problem := _difference(_shapes(own), _shapes(given)):
        raise CheckpointError(f"{path}: not the weights of {network.config.name}'s backbone ({problem})")
    for name, value in given.items():
        if not value.isfinite().all():
            raise CheckpointError(f"{path}: {name} has values that are not finite; get the file again")
    backbone.load_state_dict(given)


def load_network(network: Network, checkpoint: LoadedCheckpoint) -> bool:
    """Load a checkpoint that `check_fit` let through.

    Returns:
        False if these were M2H's weights and the network's cross-view module keeps its own.
    """
    whole = not _lacks_module(network.config.name, checkpoint.state)
    missing, extra = network.load_state_dict(checkpoint.state, strict=whole)
    if extra or [name for name in missing if not name.startswith(_NEW_IN_CVM)]:
        raise CheckpointError(f"not the weights of {network.config.name}; check them first")
    return whole


def _read_state(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as stream:
        head = stream.read(64)
    if head.startswith(_LFS):
        raise CheckpointError(
            f"{path}: a git-lfs pointer, not the weights; run: git lfs pull --include {path.name}"
        )
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, head)


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
    tasks: TaskSet | None = None,
    **switches: Any,
) -> None:
    """Is it a checkpoint of the network called `model`, with `num_classes` (None: whatever it has).

    `mixing`, `ggfm`, `tasks` and `switches` are those of `build_model`. M2H's weights fit the network that has a
    cross-view module besides.

    Raises:
        CheckpointError: another class count, or another network; names the network that it fits.
    """
    found = checkpoint.num_classes
    if num_classes is not None and found != num_classes:
        raise CheckpointError(
            f"{path}: its semantic head has {found} classes, not {num_classes}; pass --classes {found}"
        )
    options: dict[str, Any] = {"mixing": mixing, "ggfm": ggfm, "tasks": tasks, **switches}
    problem = _mismatch(checkpoint, model, options)
    if problem is None:
        return
    fitting = (
        name
        for name, those in _candidates(checkpoint.state, options)
        if name != model and _mismatch(checkpoint, name, those) is None
    )
    fits = next(fitting, None)
    hint = f"these are the weights of {fits}: pass --model {fits}" if fits else "get another file"
    raise CheckpointError(f"{path}: not the weights of {model} ({problem}); {hint}")


def _candidates(state: dict[str, Tensor], options: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Networks whose weights these could be, by what their names say, each with the options that it takes."""
    m2h = {name: options[name] for name in ("mixing", "ggfm")}
    if CVM_CLASS_KEY in state:
        others = {name: value for name, value in options.items() if name not in m2h}
        return [(name, others) for name in CVM_MODELS]
    if any(name.startswith(_NEW_IN_CVM) for name in state):
        return [(name + WITH_CVM, options | {"tasks": None}) for name in MODELS]
    return [(name, m2h) for name in MODELS]


def _lacks_module(model: str, state: dict[str, Tensor]) -> bool:
    return model.endswith(WITH_CVM) and not any(name.startswith(_NEW_IN_CVM) for name in state)


def _mismatch(checkpoint: LoadedCheckpoint, model: str, options: dict[str, Any]) -> str | None:
    with torch.device("meta"):
        network = build_model(model, checkpoint.num_classes, **options)
    wanted = _shapes(network.state_dict())
    if _lacks_module(model, checkpoint.state):
        wanted = {name: shape for name, shape in wanted.items() if not name.startswith(_NEW_IN_CVM)}
    return _difference(wanted, _shapes(checkpoint.state))


def _shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _difference(wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> str | None:
    if missing := sorted(wanted.keys() - found.keys()):
        return f"{len(missing)} tensors missing, the first is {missing[0]}"
    if extra := sorted(found.keys() - wanted.keys()):
        return f"{len(extra)} tensors too many, the first is {extra[0]}"
    for name, shape in wanted.items():
        if found[name] != shape:
            return f"{name} is {found[name]}, expected {shape}"
    return None
