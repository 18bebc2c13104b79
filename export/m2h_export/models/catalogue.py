"""All networks by name."""

from __future__ import annotations

from dataclasses import fields, replace
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from m2h_export.models.cross_view import CrossView, CrossViewConfig, CrossViewNetwork, M2HCrossView
from m2h_export.models.cvm import CvMConfig
from m2h_export.models.dinov3 import DINOV3_B, DINOV3_L, DINOV3_S
from m2h_export.models.encoders import ConvEncoder, DinoV2Encoder, DinoV3Encoder
from m2h_export.models.m2h import M2H, MODELS
from m2h_export.models.task_heads import TASK_SETS, TaskSet
from m2h_export.models.vit import VIT_B, VIT_L, VIT_NANO, VIT_S
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_export.models.cross_task import Mixing
    from m2h_export.models.encoders import Encoder

Network = M2H | CrossView

CLASSES = {"nyud": 41, "pascal": 21}
"""Of the semantic head, unless another number is asked for."""

WITH_CVM = "+cvm"
"""After the name of an M2H network: the same with a cross-view module."""

NANO_CVM = CvMConfig(
    planes=64, channels=64, cnn=(24, 48, 64), layers=3, expansion=2, adapter=172, upsampled=(24, 16)
)
"""Of the networks that run and train on a CPU."""


def _network(
    name: str, encoder: Callable[[], Encoder], heads: tuple[int, int], cvm: CvMConfig | None = None
) -> CrossViewConfig:
    return CrossViewConfig(name, encoder, heads, cvm or CvMConfig())


_M2H_NANO = MODELS["m2h-nano"]
CVM_MODELS = {
    config.name: config
    for config in (
        _network("cvm-vitl", partial(DinoV3Encoder, DINOV3_L), (128, 64)),
        _network("cvm-vitb", partial(DinoV3Encoder, DINOV3_B), (128, 64)),
        _network("cvm-vits", partial(DinoV3Encoder, DINOV3_S), (96, 64)),
        _network("cvm-vitl-dinov2", partial(DinoV2Encoder, VIT_L), (128, 64)),
        _network("cvm-vitb-dinov2", partial(DinoV2Encoder, VIT_B), (128, 64)),
        _network("cvm-vits-dinov2", partial(DinoV2Encoder, VIT_S), (96, 64)),
        replace(
            _network("cvm-nano", partial(DinoV2Encoder, VIT_NANO), (48, 24), NANO_CVM),
            labels="grid",
            mean=_M2H_NANO.mean,
            std=_M2H_NANO.std,
        ),
        _network("cvm-conv", ConvEncoder, (48, 24), NANO_CVM),
    )
}


def model_names() -> tuple[str, ...]:
    """Every name that `build_model` knows."""
    return (*MODELS, *(name + WITH_CVM for name in MODELS), *CVM_MODELS)


def build_model(
    name: str,
    num_classes: int | None = None,
    *,
    mixing: Mixing | None = None,
    ggfm: bool | None = None,
    tasks: TaskSet | None = None,
    **switches: Any,
) -> Network:
    """A network by name, with fresh weights, in training mode.

    Args:
        name: one of `model_names()`; "m2h" and "m2h-small" load the published state dicts with `strict=True`.
        num_classes: of the semantic head; 41, or 21 for "pascal".
        mixing: "wmca" (as published), or the M2H paper's ablations "mha" and "none".
        ggfm: False leaves out the global gated feature merging, that paper's other ablation.
        tasks: "nyud" or "pascal"; M2H networks have the former only.
        switches: any attribute of `CvMConfig`, for the networks that have a cross-view module.

    Raises:
        InputError: no network of that name, or an option that it has not.
    """
    if name in CVM_MODELS:
        if mixing is not None or ggfm is not None:
            raise InputError(f"{name}: mixing and ggfm are M2H's; leave them out")
        config = CVM_MODELS[name]
        chosen = tasks or config.tasks
        if chosen not in TASK_SETS:
            raise InputError(f"tasks: {chosen!r}, expected one of {', '.join(TASK_SETS)}")
        return CrossViewNetwork(
            replace(
                config,
                cvm=switched(config.cvm, switches),
                tasks=chosen,
                num_classes=CLASSES[chosen] if num_classes is None else num_classes,
            )
        )
    plain = name.removesuffix(WITH_CVM)
    if plain not in MODELS:
        raise InputError(f"no network {name!r}; there are {', '.join(model_names())}")
    if tasks not in (None, "nyud"):
        raise InputError(
            f"{name}: has the tasks of 'nyud' only, not {tasks!r}; take one of the cvm- networks"
        )
    return _m2h(name, plain, num_classes, mixing, ggfm, switches)


def _m2h(
    name: str,
    plain: str,
    num_classes: int | None,
    mixing: Mixing | None,
    ggfm: bool | None,
    switches: dict[str, Any],
) -> Network:
    config = replace(
        MODELS[plain], name=name, num_classes=CLASSES["nyud"] if num_classes is None else num_classes
    )
    if mixing is not None:
        config = replace(config, mixing=mixing)
    if ggfm is not None:
        config = replace(config, ggfm=ggfm)
    if name != plain:
        return M2HCrossView(config, switched(NANO_CVM if config.backbone.stem else CvMConfig(), switches))
    if switches:
        raise InputError(
            f"{name}: {next(iter(switches))} is a switch of the cross-view module; take {name}{WITH_CVM}"
        )
    return M2H(config)


def switched(config: CvMConfig, switches: dict[str, Any]) -> CvMConfig:
    """A module's configuration with some attributes changed.

    Raises:
        InputError: no such attribute, or a value that no network can have.
    """
    known = [field.name for field in fields(CvMConfig)]
    for switch in switches:
        if switch not in known:
            nearest = get_close_matches(switch, known, 1, 0)[0]
            raise InputError(f"no switch {switch!r} of the cross-view module; the nearest is {nearest!r}")
    return replace(config, **switches)
