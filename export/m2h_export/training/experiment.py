"""An experiment: one YAML file, read into frozen settings; a wrong key or value is one clear line."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from m2h_export.data.views import ViewSettings
from m2h_runtime.errors import InputError
from m2h_runtime.files import reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Task = Literal["depth", "semantics", "normals", "edges", "human_parts", "saliency"]
TASKS: tuple[Task, ...] = ("depth", "semantics", "normals", "edges")
"""Those of M2H, and the default; PASCAL-Context has two more and no depth."""
Precision = Literal["fp32", "bf16", "fp16"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class CvMSettings:
    """Switches of the cross-view module, those of `CvMConfig`; None takes the network's own."""

    spatial: Literal["cnn", "encoder", "encoder-lora", "encoder-adapter"] | None = None
    interaction: Literal["cross-view", "self-attention"] | None = None
    cost_volume: bool | None = None
    cross_view_features: bool | None = None
    planes: int | None = None
    depths: tuple[float, float] | None = None


@dataclass(frozen=True)
class ModelSettings:
    """The network and where its weights start.

    Attributes:
        name: as `build_model` calls it.
        num_classes: of the semantic head; None takes the data set's.
        mixing, ggfm, tasks: those of `build_model`; None takes the network's own.
        cvm: the cross-view module of the networks that have one.
        checkpoint: weights of the whole network to start from, all names and shapes as they must be.
        backbone: DINOv2 weights for the encoder alone.
        freeze_backbone: train the head only.
        freeze_batch_norm: keep the running statistics of `checkpoint`; for batches too small to have good ones.
    """

    name: str
    num_classes: int | None = None
    mixing: Literal["wmca", "mha", "none"] | None = None
    ggfm: bool | None = None
    tasks: Literal["nyud", "pascal"] | None = None
    cvm: CvMSettings = field(default_factory=CvMSettings)
    checkpoint: str | None = None
    backbone: str | None = None
    freeze_backbone: bool = False
    freeze_batch_norm: bool = False


@dataclass(frozen=True)
class MoreData:
    """A further data set whose samples are mixed in: same classes, or none.

    Attributes:
        kind, root, split: as in `DataSettings`.
    """

    kind: str
    root: str
    split: str = "train"


@dataclass(frozen=True)
class DataSettings:
    """The training samples.

    Attributes:
        kind: of data set, as `open_dataset` calls it.
        size: (height, width) of the pictures that the network gets.
        cap_m: depths beyond are not counted, metres.
        root: folder of the data set.
        split: as the data set calls it.
        workers: processes that read ahead; 0 reads in the trainer's own.
        views: how many views of a scene are trained together, and which; a sample without a neighbour is repeated.
        also: further data sets, all shuffled together.
    """

    kind: str
    size: tuple[int, int]
    cap_m: float
    root: str | None = None
    split: str = "train"
    workers: int = 0
    views: ViewSettings = field(default_factory=ViewSettings)
    also: tuple[MoreData, ...] = ()

    def __post_init__(self) -> None:
        _require(min(self.size) >= 16, f"data.size: {list(self.size)} is too small; give at least 16 pixels")
        _require(self.cap_m > 0, f"data.cap_m: {self.cap_m} is no depth; give metres above 0")
        _require(self.workers >= 0, f"data.workers: {self.workers} must be 0 or more")


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes of a training picture; 0 (zoom: 1) turns one off.

    Attributes:
        flip: probability of a horizontal flip.
        jitter: probability that each of the colour changes happens.
        brightness, contrast, saturation: largest relative change.
        gamma: largest |ln γ|.
        hue_deg: largest turn of the hue, degrees.
        max_zoom: a random crop, this many times smaller at most, enlarged to the full size.
    """

    flip: float = 0.5
    jitter: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    gamma: float = 0.2
    saturation: float = 0.3
    hue_deg: float = 10.0
    max_zoom: float = 1.0

    def __post_init__(self) -> None:
        _require(self.max_zoom >= 1, f"augment.max_zoom: {self.max_zoom} must be 1 or more")
        for name in ("flip", "jitter", "brightness", "contrast", "saturation"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"augment.{name}: {value} must be in 0..1")


@dataclass(frozen=True)
class TaskWeights:
    """A constant factor per task, on top of the dynamic weights."""

    depth: float = 1.0
    semantics: float = 1.0
    normals: float = 1.0
    edges: float = 1.0
    human_parts: float = 1.0
    saliency: float = 1.0


@dataclass(frozen=True)
class LossSettings:
    """The losses of M2H's section III-B, or those of CvM; the defaults are the papers', or ours where they give none.

    Attributes:
        kind: m2h, or cvm: cross-entropy and L1 (`cvm_losses`), of which only `edge_positive_share` is a setting.
        scene: indoor is eq. 15a, outdoor eq. 15b.
        lambda_grad: of the depth gradients; the paper: 0.5 to 2.
        grid: where losses are taken: at the size of the picture, or on the heads' own grid, for which the truth is
            thinned out; that is cheaper where a head is coarser than the picture, and sees every pixel in turn.
        huber_delta_m: where the Huber loss turns linear, metres (ours).
        si_lambda: of the scale-invariant loss (that of arXiv 1406.2283).
        semantics, semantics_fine_tuning: α of cross-entropy and β of Dice (eq. 14).
        edge_positive_weight: of edge pixels in the cross-entropy.
        edge_positive_share: the same of kind cvm, where the other pixels have 1 minus it.
        matching_weight: of the loss on the cost volume itself (ours); 0 leaves it out, as the papers do.
        consistency_weight: of both cross-task losses, in fine-tuning stages.
        balance: dynamic weight averaging or equal weights.
        dwa_temperature: T of eq. 18.
        dwa_period: steps that a mean loss is taken over; None is an epoch.
        weights: constant factors.
    """

    kind: Literal["m2h", "cvm"] = "m2h"
    scene: Literal["indoor", "outdoor"] = "indoor"
    grid: Literal["picture", "head"] = "picture"
    lambda_grad: float = 1.0
    huber_delta_m: float = 1.0
    si_lambda: float = 0.5
    semantics: tuple[float, float] = (0.5, 0.75)
    semantics_fine_tuning: tuple[float, float] = (0.75, 1.0)
    edge_positive_weight: float = 1.0
    edge_positive_share: float = 0.95
    matching_weight: float = 0.0
    consistency_weight: float = 0.1
    balance: Literal["dwa", "equal"] = "dwa"
    dwa_temperature: float = 2.0
    dwa_period: int | None = None
    weights: TaskWeights = TaskWeights()

    def __post_init__(self) -> None:
        for name in ("huber_delta_m", "dwa_temperature"):
            _require(getattr(self, name) > 0, f"loss.{name}: {getattr(self, name)} must be above 0")
        period = self.dwa_period
        _require(period is None or period > 0, f"loss.dwa_period: {period} must be above 0")
        share = self.edge_positive_share
        _require(0 < share < 1, f"loss.edge_positive_share: {share} must be between 0 and 1")


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW with linear warm-up and polynomial decay (section IV-B of the paper).

    Attributes:
        backbone_lr_factor: learning rate of the encoder relative to `lr`.
        warmup_steps: over which the rate rises to `lr`.
        power: of the decay (1 - step / steps)^power.
        grad_clip: largest norm of the whole gradient; 0 is no limit.
    """

    lr: float = 5e-4
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    backbone_lr_factor: float = 1.0
    warmup_steps: int = 0
    power: float = 0.9
    grad_clip: float = 0.0

    def __post_init__(self) -> None:
        _require(self.lr > 0, f"optimiser.lr: {self.lr} must be above 0")


@dataclass(frozen=True)
class Stage:
    """A part of the training: its steps, its picture size (None: that of `data`), and the fine-tuning losses."""

    steps: int
    size: tuple[int, int] | None = None
    fine_tuning: bool = False

    def __post_init__(self) -> None:
        _require(self.steps > 0, f"stages.steps: {self.steps} must be above 0")


@dataclass(frozen=True)
class DistillationSettings:
    """A larger network that the student also learns from.

    Attributes:
        teacher: its weight file.
        model: its name, as `build_model` calls it.
        temperature: of the semantic logits.
        weights: of the four distillation losses; 0 leaves one out.
    """

    teacher: str
    model: str = "m2h"
    temperature: float = 2.0
    weights: TaskWeights = TaskWeights()

    def __post_init__(self) -> None:
        _require(self.temperature > 0, f"distillation.temperature: {self.temperature} must be above 0")


@dataclass(frozen=True)
class Experiment:
    """Everything that decides what a training computes.

    Attributes:
        tasks: that have a loss; the network always computes all that it has.
        steps: optimiser steps; with `stages` it may be left out.
        batch: pictures per process and micro-batch; with several views, sets of views.
        accumulate: micro-batches per step.
        ema: decay of the averaged weights, which are then the ones saved for inference; 0 is off.
        log_every, save_every, panels_every: steps between; 0 is never.
        keep: saved states that stay on disk.
    """

    name: str
    model: ModelSettings
    data: DataSettings
    steps: int | None = None
    seed: int = 0
    tasks: tuple[Task, ...] = TASKS
    batch: int = 4
    accumulate: int = 1
    precision: Precision = "fp32"
    ema: float = 0.0
    stages: tuple[Stage, ...] = ()
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    distillation: DistillationSettings | None = None
    log_every: int = 20
    save_every: int = 500
    panels_every: int = 0
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "log_every", "keep"):
            _require(getattr(self, name) > 0, f"{name}: {getattr(self, name)} must be above 0")
        _require(0 <= self.ema < 1, f"ema: {self.ema} must be 0 (off) or a decay below 1")
        _require(bool(self.tasks), f"tasks: none given; name some of {', '.join(TASKS)}")
        _require(len(set(self.tasks)) == len(self.tasks), "tasks: one is named twice; name each once")
        if self.steps is None:
            _require(bool(self.stages), "steps: missing; give steps, or stages with steps of their own")
        else:
            _require(self.steps > 0, f"steps: {self.steps} must be above 0")
            total = sum(stage.steps for stage in self.stages)
            _require(
                not self.stages or total == self.steps,
                f"steps: {self.steps}, but the stages have {total} together; leave one of them out",
            )

    @property
    def plan(self) -> tuple[Stage, ...]:
        """The stages; one over all steps where the file names none."""
        return self.stages or (Stage(self.total_steps),)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all stages together."""
        return self.steps if self.steps is not None else sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> Stage:
        """The stage of a step, counted from 0."""
        for stage in self.plan:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.plan[-1]

    def size_at(self, step: int) -> tuple[int, int]:
        """(height, width) of the pictures of a step, counted from 0."""
        return self.stage_at(step).size or self.data.size

    def with_steps(self, steps: int) -> Experiment:
        """The same training of another length; stages keep their shares, each at least one step."""
        if not self.stages:
            return dataclasses.replace(self, steps=steps)
        _require(steps >= len(self.stages), f"steps: {steps} are too few for {len(self.stages)} stages")
        shares = [max(1, steps * stage.steps // self.total_steps) for stage in self.stages]
        shares[-1] = max(1, steps - sum(shares[:-1]))
        shares[shares.index(max(shares))] -= sum(shares) - steps
        stages = tuple(
            dataclasses.replace(stage, steps=share) for stage, share in zip(self.stages, shares, strict=True)
        )
        return dataclasses.replace(self, steps=None, stages=stages)

    def to_yaml(self) -> str:
        """The whole experiment with all its defaults, as `read_experiment` reads it."""
        return yaml.safe_dump(_plain(dataclasses.asdict(self)), sort_keys=False, allow_unicode=True)


def read_experiment(path: Path, changes: Sequence[str] = ()) -> Experiment:
    """Read a YAML file.

    Args:
        path: the file.
        changes: "key=value" each, the key dotted ("optimiser.lr=1e-4"), the value as YAML; they win over the file.

    Raises:
        InputError: no such file, not YAML, an unknown key (the nearest known one is named) or a wrong value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({reason(error)}); give an experiment's YAML file"
        ) from error
    return parse_experiment(text, str(path), changes)


def parse_experiment(text: str, where: str, changes: Sequence[str] = ()) -> Experiment:
    """As `read_experiment`, from the file's text; `where` is what errors call it."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML ({' '.join(str(error).split())}); correct it") from error
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected keys with values, such as name, model and data")
    for change in changes:
        _apply(values, change)
    try:
        experiment: Experiment = _read_dataclass(Experiment, values, "")
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return experiment


def changed_keys(old: Experiment, new: Experiment) -> list[str]:
    """Dotted names of the keys in which two experiments differ."""
    a, b = _flat(dataclasses.asdict(old)), _flat(dataclasses.asdict(new))
    return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InputError(message)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (tuple, list)) else value


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat.update(_flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {prefix + key: inner})
    return flat


def _apply(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise InputError(f"--set {change}: expected KEY=VALUE, e.g. --set optimiser.lr=1e-4")
    *parents, last = key.split(".")
    target = values
    for parent in parents:
        if target.get(parent) is None:
            target[parent] = {}
        target = target[parent]
        if not isinstance(target, dict):
            raise InputError(f"--set {change}: {parent} has no keys of its own; see the experiment's file")
    try:
        target[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {change}: the value is not YAML; quote it") from error


def _read_dataclass(cls: type[_T], values: Any, prefix: str) -> _T:
    if not isinstance(values, dict):
        raise InputError(f"{prefix.rstrip('.')}: expected keys with values, got {values!r}")
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)[0]
            raise InputError(f"{prefix}{key}: no such key; the nearest is {prefix}{near}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise InputError(f"{prefix}{name}: missing; add it")
    return cls(**{key: _read_value(hints[key], value, prefix + key) for key, value in values.items()})


def _read_value(kind: Any, value: Any, key: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = next(arg for arg in args if arg is not type(None))
        return None if value is None else _read_value(inner, value, key)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, f"{key}.")  # type: ignore[arg-type]
    if origin is Literal:
        if value not in args:
            raise InputError(f"{key}: {value!r} is none of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        return _read_tuple(args, value, key)
    return _read_scalar(kind, value, key)


def _read_tuple(args: tuple[Any, ...], value: Any, key: str) -> tuple[Any, ...]:
    repeated = args[-1] is Ellipsis
    if not isinstance(value, list) or not (repeated or len(value) == len(args)):
        raise InputError(f"{key}: expected a list{'' if repeated else f' of {len(args)}'}, got {value!r}")
    return tuple(
        _read_value(args[0] if repeated else args[i], item, f"{key}[{i}]") for i, item in enumerate(value)
    )


def _read_scalar(kind: type, value: Any, key: str) -> Any:
    if kind is float and not isinstance(value, bool):
        try:
            number = float(value)  # YAML 1.1 takes 5e-4 for a string
        except (TypeError, ValueError):
            number = math.nan
        if math.isfinite(number):
            return number
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    raise InputError(f"{key}: expected {names[kind]}, got {value!r}")
