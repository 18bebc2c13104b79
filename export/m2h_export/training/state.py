"""What a training leaves on disk: weights for inference, and states to go on from.

OUT/experiment.yaml     the experiment with all its defaults
OUT/model.safetensors   the latest weights (the averaged ones with `ema`), as `m2h-export --checkpoint` takes them
OUT/state-STEP.pt       everything that the next step depends on
OUT/metrics.jsonl       one line per `log_every` steps
"""

from __future__ import annotations

import io
import json
import pickle
import re
from typing import TYPE_CHECKING, Any

import torch

from m2h_export.models import CrossView, M2HConfig
from m2h_runtime.errors import CheckpointError, InputError
from m2h_runtime.files import reason, write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from m2h_export.models import Network
    from m2h_export.training.experiment import Experiment

WEIGHTS, EXPERIMENT, METRICS = "model.safetensors", "experiment.yaml", "metrics.jsonl"
_STATE = re.compile(r"state-(\d+)\.pt")


def save_weights(
    path: Path, model: Network, class_names: Sequence[str], experiment: Experiment, step: int
) -> None:
    """Write a network as safetensors; its metadata says what it is and how it was made."""
    from safetensors.torch import save

    config = model.config
    metadata = {
        "model": config.name,
        "num_classes": str(config.num_classes),
        "class_names": json.dumps(list(class_names)),
        "step": str(step),
        "experiment": experiment.to_yaml(),
    }
    if isinstance(config, M2HConfig):
        metadata |= {"mixing": config.mixing, "ggfm": json.dumps(config.ggfm)}
    if isinstance(model, CrossView):
        switches = {key: value for key, value in vars(experiment.model.cvm).items() if value is not None}
        metadata |= {"tasks": getattr(config, "tasks", "nyud"), "cvm": json.dumps(switches)}
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomically(path, save(state, metadata))


def save_state(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write the state after `step` steps, then remove all but the last `keep` states."""
    path = folder / f"state-{step:07d}.pt"
    stream = io.BytesIO()
    torch.save(state, stream)
    write_atomically(path, stream.getvalue())
    for old in saved_states(folder)[:-keep]:
        old.unlink()
    return path


def saved_states(folder: Path) -> list[Path]:
    """The state files of a folder, the oldest first."""
    found = [
        (int(match[1]), path) for path in folder.glob("state-*.pt") if (match := _STATE.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found)]


def read_state(path: Path) -> dict[str, Any]:
    """Read a state; only plain values and tensors, no pickled code.

    Raises:
        CheckpointError: damaged, or not a state of ours.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: damaged training state; delete it to go on from the one before"
        ) from error
    if not isinstance(state, dict) or "step" not in state:
        raise CheckpointError(f"{path}: not a training state; choose another --out")
    return state


def cut_metrics(path: Path, step: int) -> None:
    """Drop the lines after `step`: a killed training had gone on beyond its last saved state."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] > step:
                break
        except ValueError:  # the kill cut this line short
            break
        kept.append(line)
    write_atomically(path, b"".join(kept))


def append_metrics(path: Path, values: dict[str, Any]) -> None:
    """Add one line, on disk when this returns."""
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason(error)}); free some space") from error


def prepare_folder(folder: Path, *, resume: bool) -> Path | None:
    """Make the folder of a training and return the state to go on from, None at the beginning.

    Raises:
        InputError: it cannot be made, or holds a training and `resume` is off.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({reason(error)}); choose another --out") from error
    states = saved_states(folder)
    if not resume and (states or (folder / METRICS).exists()):
        raise InputError(f"{folder}: already holds a training; pass --resume, or choose another --out")
    return states[-1] if states else None
