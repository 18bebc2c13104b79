"""The network of an experiment, with the weights that it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from m2h_export.checkpoints import check_fit, load_backbone, load_network, read_checkpoint
from m2h_export.models import M2H, M2HCrossView, build_model
from m2h_export.models.task_heads import TASK_SETS
from m2h_export.models.warping import DepthRange
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from m2h_export.models import Network
    from m2h_export.training.experiment import Experiment, ModelSettings


def make_network(experiment: Experiment, classes: int) -> Network:
    """Build the network, reproducibly from the experiment's seed, and load what it starts from.

    Args:
        experiment: its `model` is used.
        classes: of the data set; 0 for one without.

    Raises:
        InputError: no such network, another class count than the data set's, or a task that it does not have.
        CheckpointError: the weights cannot be read or do not fit.
    """
    settings = experiment.model
    wanted = settings.num_classes if settings.num_classes is not None else classes
    if classes and wanted != classes:
        raise InputError(f"model.num_classes: {wanted}, but the data set has {classes}; leave it out")
    if not wanted:
        raise InputError("model.num_classes: missing; the data set has no classes to count")
    torch.manual_seed(experiment.seed)
    network = build_model(settings.name, wanted, **options_of(settings))
    _check_tasks(network, experiment)
    if settings.checkpoint is not None:
        load_weights(network, Path(settings.checkpoint), options_of(settings))
    if settings.backbone is not None:
        load_backbone(network, Path(settings.backbone))
    return network


def options_of(settings: ModelSettings) -> dict[str, Any]:
    """What `build_model` is told besides name and classes."""
    switches = {key: value for key, value in vars(settings.cvm).items() if value is not None}
    if "depths" in switches:
        switches["depths"] = DepthRange(*switches["depths"])
    return {"mixing": settings.mixing, "ggfm": settings.ggfm, "tasks": settings.tasks, **switches}


def tasks_of(network: Network) -> tuple[str, ...]:
    """What a network predicts."""
    return TASK_SETS[getattr(network.config, "tasks", "nyud")]


def _check_tasks(network: Network, experiment: Experiment) -> None:
    tasks = tasks_of(network)
    for task in experiment.tasks:
        if task not in tasks:
            raise InputError(
                f"tasks: {experiment.model.name} has no {task}, it has {', '.join(tasks)}; change tasks or model.tasks"
            )


def load_weights(network: Network, path: Path, options: dict[str, Any]) -> None:
    """Load a whole checkpoint; every name and shape has to fit, but M2H's may start a network with a module besides."""
    checkpoint, config = read_checkpoint(path), network.config
    check_fit(checkpoint, path, config.name, config.num_classes, **options)
    load_network(network, checkpoint)


def freeze(network: Network, *, backbone: bool) -> None:
    """Exclude from training what no loss can reach, and the encoder if asked."""
    unused = [getattr(network.backbone, "mask_token", None)]
    if isinstance(network, (M2H, M2HCrossView)):  # which read the blocks before the last norm
        unused += network.backbone.norm.parameters()
    for parameter in unused:
        if parameter is not None:
            parameter.requires_grad_(False)
    if backbone:
        network.backbone.requires_grad_(False)


def training_mode(network: Network, *, freeze_batch_norm: bool) -> None:
    """Training mode, with batch normalisation on its running statistics if asked."""
    network.train()
    if freeze_batch_norm:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
