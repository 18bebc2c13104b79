"""The network of an experiment, with the weights that it starts from."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from m2h_export.checkpoints import check_fit, read_checkpoint
from m2h_export.models import build_model
from m2h_runtime.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from torch import Tensor

    from m2h_export.models import M2H
    from m2h_export.training.experiment import Experiment


def make_network(experiment: Experiment, classes: int) -> M2H:
    """Build the network, reproducibly from the experiment's seed, and load what it starts from.

    Args:
        experiment: its `model` is used.
        classes: of the data set.

    Raises:
        InputError: no such network, or another class count than the data set's.
        CheckpointError: the weights cannot be read or do not fit.
    """
    settings = experiment.model
    wanted = settings.num_classes if settings.num_classes is not None else classes
    if wanted != classes:
        raise InputError(f"model.num_classes: {wanted}, but the data set has {classes}; leave it out")
    torch.manual_seed(experiment.seed)
    network = build_model(settings.name, wanted, mixing=settings.mixing, ggfm=settings.ggfm)
    if settings.checkpoint is not None:
        load_weights(network, Path(settings.checkpoint))
    if settings.backbone is not None:
        load_backbone(network, Path(settings.backbone))
    return network


def load_weights(network: M2H, path: Path) -> None:
    """Load a whole checkpoint; every name and shape has to fit."""
    checkpoint, config = read_checkpoint(path), network.config
    check_fit(checkpoint, path, config.name, config.num_classes, mixing=config.mixing, ggfm=config.ggfm)
    network.load_state_dict(checkpoint.state)


def load_backbone(network: M2H, path: Path) -> None:
    """Load official DINOv2 weights (.pth or .safetensors) into the encoder."""
    try:
        network.backbone.load_state_dict(_read_tensors(path))
    except RuntimeError as error:  # torch lists every name that does not fit
        first = str(error).splitlines()[-1].strip()[:200]
        raise CheckpointError(
            f"{path}: not the weights of {network.config.name}'s backbone ({first})"
        ) from error


def freeze(network: M2H, *, backbone: bool) -> None:
    """Exclude from training what no loss can reach, and the encoder if asked."""
    network.backbone.mask_token.requires_grad_(False)
    network.backbone.norm.requires_grad_(False)
    if backbone:
        network.backbone.requires_grad_(False)


def training_mode(network: M2H, *, freeze_batch_norm: bool) -> None:
    """Training mode, with batch normalisation on its running statistics if asked."""
    network.train()
    if freeze_batch_norm:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"{path}: no such backbone file; give DINOv2 weights as model.backbone")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a readable weight file; get it again") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, expected a state dict of tensors")
    return state
