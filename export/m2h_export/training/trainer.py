"""The training loop."""

from __future__ import annotations

import math
import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from m2h_export.models.cross_view import CrossView
from m2h_export.training import state as files
from m2h_export.training.batches import CAMERAS, POSES, MicroBatches, load_batches, thinned
from m2h_export.training.cvm_losses import CvMLoss, matching_loss
from m2h_export.training.distillation import Distillation, load_teacher
from m2h_export.training.distributed import World
from m2h_export.training.dwa import DynamicWeightAverage
from m2h_export.training.experiment import changed_keys, parse_experiment
from m2h_export.training.losses import M2HLoss
from m2h_export.training.network import freeze, make_network, tasks_of, training_mode
from m2h_export.training.optimisation import (
    AveragedModel,
    learning_rate,
    make_optimiser,
    set_learning_rate,
)
from m2h_export.training.progress import TrainingProgress
from m2h_runtime.errors import CheckpointError, InputError, M2HError
from m2h_runtime.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from m2h_export.data.sample import DenseDataset
    from m2h_export.models import Network
    from m2h_export.training.batches import Batch
    from m2h_export.training.experiment import Experiment

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CONSISTENCY = ("depth_normals", "edges_semantics")


class TrainingError(M2HError):
    """A training cannot go on: a loss is no longer a number."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: after how many steps, and by which signal if one stopped it (0: it finished)."""

    step: int
    signal: int = 0


class _Trained(nn.Module):
    """The network with the trained tasks' outputs alone, so that DDP waits for no gradient that never comes.

    Pictures come as (B·V, 3, H, W), and so do outputs go, whether the network looks at V views together or at one at
    a time.
    """

    def __init__(self, network: Network, tasks: tuple[str, ...], *, coarse: bool) -> None:
        super().__init__()
        self.network, self.tasks, self.coarse = network, tasks, coarse

    def forward(
        self, image: Tensor, poses: Tensor | None = None, cameras: Tensor | None = None
    ) -> dict[str, Tensor]:
        if poses is not None and cameras is not None and isinstance(self.network, CrossView):
            run = self.network.predict_views if self.coarse else self.network.forward_views
            seen = run(image.view(*poses.shape[:2], *image.shape[1:]), poses, cameras)
            outputs = {task: x.flatten(0, 1) for task, x in seen.items()}
        else:
            outputs = self.network.predict(image) if self.coarse else self.network(image)
        return {task: outputs[task] for task in self.tasks}


class Trainer:
    """Trains one network as an experiment says.

    Args:
        experiment: the settings.
        samples: the training data.
        out: folder for everything that is written (see state.py).
        world: this process among the others; None is alone on the CPU.
        resume: go on from the last state in `out`.
        network: instead of the one that the experiment names.
        on_panels: called on rank 0 every `panels_every` steps, with the number of steps done and the network that
            would be saved, in evaluation mode and without gradients.
        quiet: say nothing.

    Raises:
        InputError: the folder holds a training and `resume` is off; the precision needs another device.
        CheckpointError: weights or state cannot be read or do not fit.
    """

    def __init__(
        self,
        experiment: Experiment,
        samples: DenseDataset,
        out: Path,
        *,
        world: World | None = None,
        resume: bool = False,
        network: Network | None = None,
        on_panels: Callable[[int, Network], None] | None = None,
        quiet: bool = False,
    ) -> None:
        self.experiment, self.out, self.on_panels = experiment, out, on_panels
        self.world = world or World(torch.device("cpu"))
        self.class_names = samples.class_names
        device = self.world.device
        if experiment.precision == "fp16" and device.type != "cuda":
            raise InputError("precision fp16 needs --device cuda; take bf16 or fp32")
        saved = files.prepare_folder(out, resume=resume)
        self.world.barrier()  # nobody writes before all have looked
        self.progress = TrainingProgress(experiment.total_steps, out, quiet=quiet or self.world.rank > 0)
        network = network if network is not None else make_network(experiment, len(self.class_names))
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        freeze(self.network, backbone=experiment.model.freeze_backbone)
        self.averaged = AveragedModel(self.network, experiment.ema) if experiment.ema else None
        self.optimiser = make_optimiser(self.network, experiment.optimiser)
        self.scaler = torch.amp.GradScaler(device.type, enabled=experiment.precision == "fp16")
        loss = CvMLoss if experiment.loss.kind == "cvm" else M2HLoss
        self.loss = loss(experiment.loss, experiment.tasks, experiment.data.cap_m)
        self.balance = DynamicWeightAverage(experiment.tasks, experiment.loss.dwa_temperature)
        self._costs = _cost_volumes(self.network, experiment) if experiment.loss.matching_weight else None
        self.distillation: Distillation | None = None
        if (d := experiment.distillation) is not None:
            teacher = load_teacher(d, self.network.config.num_classes).to(device)
            self.distillation = Distillation(d, teacher, experiment.tasks)
        self.micro_batches = MicroBatches(samples, experiment, self.world)
        per_step = experiment.batch * experiment.accumulate * self.world.size
        self._period = experiment.loss.dwa_period or math.ceil(len(samples) / per_step)
        self._logged: dict[str, float] = {}  # sums since the last log line
        self._logged_steps = 0
        self._signal = 0
        self.step = 0
        if saved is not None:
            self._load(saved)
        self._module = self._parallel()

    def run(self) -> Outcome:
        """Train to the last step, or until Ctrl-C or SIGTERM; both leave a state to go on from.

        Raises:
            TrainingError: a loss is no longer a finite number.
        """
        e = self.experiment
        if self.world.rank == 0:
            write_atomically(self.out / files.EXPERIMENT, e.to_yaml().encode())
            files.cut_metrics(self.out / files.METRICS, self.step)
        training_mode(self.network, freeze_batch_norm=e.model.freeze_batch_norm)
        batches = load_batches(
            self.micro_batches, self.step, e.total_steps, pin=self.world.device.type == "cuda"
        )
        self.progress.start(self.step)
        stopped, last_log = 0, (time.monotonic(), self.step)
        try:
            with self._listening():
                while self.step < e.total_steps and not stopped:
                    rate = learning_rate(e.optimiser, self.step, e.total_steps)
                    losses, stopped = self._train_step(batches, rate)
                    self.step += 1
                    self._count(losses)
                    if self.step % e.log_every == 0:
                        now = (time.monotonic(), self.step)
                        self._log(rate, (now[1] - last_log[1]) / (now[0] - last_log[0]))
                        last_log = now
                    if self._due(e.save_every) or stopped or self.step == e.total_steps:
                        self.save()
                    if self.on_panels is not None and self.world.rank == 0 and self._due(e.panels_every):
                        self._panels(self.on_panels)
                    self.progress.advance(self.step)
        finally:
            self.progress.stop()
        return Outcome(self.step, stopped)

    @property
    def inference_network(self) -> Network:
        """The averaged network if there is one, else the trained one."""
        return self.averaged.model if self.averaged is not None else self.network  # type: ignore[return-value]

    def save(self) -> None:
        """Write weights and state of this step, on rank 0."""
        if self.world.rank == 0:
            files.save_weights(
                self.out / files.WEIGHTS, self.inference_network, self.class_names, self.experiment, self.step
            )
            files.save_state(self.out, self.step, self._state(), self.experiment.keep)
        self.world.barrier()

    def _train_step(self, batches: Iterator[Batch], rate: float) -> tuple[dict[str, float], int]:
        """One optimiser step; its losses over all processes, and the signal that any of them got."""
        e = self.experiment
        set_learning_rate(self.optimiser, rate)
        total: dict[str, Tensor] = {}
        for micro in range(e.accumulate):
            with self._unsynchronised() if micro < e.accumulate - 1 else nullcontext():
                losses = self._losses(next(batches))
                weighted = torch.stack([self._weight(name) * loss for name, loss in losses.items()])
                self.scaler.scale(weighted.sum() / e.accumulate).backward()  # type: ignore[no-untyped-call]
            for name, loss in losses.items():
                total[name] = total.get(name, 0) + loss.detach() / e.accumulate
        names = list(total)
        sums = torch.stack([*total.values(), torch.full_like(total[names[0]], self._signal)])
        *values, got = self.world.mean(sums).tolist()
        means = dict(zip(names, values, strict=True))
        self._check(means)
        self._update()
        return means, round(got * self.world.size) and (self._signal or signal.SIGTERM)

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        """Every loss of a micro-batch, unweighted, by name."""
        e, device = self.experiment, self.world.device
        truth = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        picture = truth["image"].float() / 255
        fine_tuning = e.stage_at(self.step).fine_tuning
        with self._autocast():
            geometry = (truth.get(POSES), truth.get(CAMERAS))
            outputs = self._module(_normalised(picture, self.network), *geometry)
            if self._costs is not None:
                matching = self._matching(self._costs.pop(), truth)
            truth = thinned(truth, outputs[e.tasks[0]].shape[-2:], self.step)
            losses = self.loss.of_tasks(outputs, truth, fine_tuning=fine_tuning)
            if fine_tuning and e.loss.consistency_weight:
                losses |= self.loss.of_consistency(outputs)
            if self.distillation is not None:
                found = self.distillation.losses(outputs, _normalised(picture, self.distillation.teacher))
                losses |= {f"distilled_{task}": loss for task, loss in found.items()}
        return losses if self._costs is None else {**losses, "matching": matching}

    def _matching(self, costs: Tensor, truth: Batch) -> Tensor:
        """The loss of the cost volumes (B·V, L, h, w) of a micro-batch."""
        poses = truth[POSES]
        moved = (poses != torch.eye(4, device=poses.device)).flatten(3).any(3).any(2).flatten()
        with torch.autocast(costs.device.type, enabled=False):
            return matching_loss(costs, truth["depth"], self.network.cvm.depths, moved)

    def _weight(self, name: str) -> float:
        """The factor of a loss in the objective."""
        if name in _CONSISTENCY:
            return self.experiment.loss.consistency_weight
        if name == "matching":
            return self.experiment.loss.matching_weight
        if self.distillation is not None and name.startswith("distilled_"):
            return float(getattr(self.distillation.settings.weights, name.removeprefix("distilled_")))
        return self.balance.weights[name] * float(getattr(self.experiment.loss.weights, name))

    def _check(self, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"step {self.step + 1}: the loss of {name} is {value}; lower optimiser.lr or set "
                    f"optimiser.grad_clip, then go on from the last state in {self.out} with --resume"
                )

    def _update(self) -> None:
        clip = self.experiment.optimiser.grad_clip
        if clip:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(
                [p for group in self.optimiser.param_groups for p in group["params"]], clip
            )
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self.averaged is not None:
            self.averaged.update(self.network, self.step)

    def _count(self, losses: dict[str, float]) -> None:
        """Add a step to the means of the log and of the dynamic weights."""
        for name, value in losses.items():
            self._logged[name] = self._logged.get(name, 0.0) + value
        self._logged_steps += 1
        if self.experiment.loss.balance == "dwa":
            self.balance.add(losses)
            if self.step % self._period == 0:
                self.balance.end_period()

    def _log(self, rate: float, steps_per_s: float) -> None:
        e, steps = self.experiment, self._logged_steps
        values = {
            "step": self.step,
            "lr": rate,
            "losses": {name: total / steps for name, total in self._logged.items()},
            "weights": dict(self.balance.weights),
            "samples_per_s": round(steps_per_s * e.batch * e.accumulate * self.world.size, 2),
        }
        self._logged, self._logged_steps = {}, 0
        if self.world.rank == 0:
            files.append_metrics(self.out / files.METRICS, values)
            self.progress.log(values)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _panels(self, on_panels: Callable[[int, Network], None]) -> None:
        network = self.inference_network.eval()
        with torch.no_grad():
            on_panels(self.step, network)
        training_mode(self.network, freeze_batch_norm=self.experiment.model.freeze_batch_norm)

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = _AUTOCAST.get(self.experiment.precision)
        return nullcontext() if dtype is None else torch.autocast(self.world.device.type, dtype)

    def _parallel(self) -> nn.Module:
        module = _Trained(self.network, self.experiment.tasks, coarse=self.experiment.loss.grid == "head")
        if self.world.size == 1:
            return module
        devices = [self.world.device] if self.world.device.type == "cuda" else None
        # A head without a loss gets no gradient, and nobody must wait for it.
        partial = set(self.experiment.tasks) != set(tasks_of(self.network))
        return DistributedDataParallel(module, device_ids=devices, find_unused_parameters=partial)

    def _unsynchronised(self) -> AbstractContextManager[Any]:
        module = self._module
        return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the training after the running step; a second one ends it at once."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, _frame: object) -> None:
            self._signal = number
            signal.signal(number, before[signal.Signals(number)])

        try:
            for number in before:
                signal.signal(number, note)
        except ValueError:  # not in the main thread, where Python has no handlers
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _state(self) -> dict[str, Any]:
        cuda = self.world.device.type == "cuda"
        return {
            "step": self.step,
            "experiment": self.experiment.to_yaml(),
            "model": self.network.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "balance": self.balance.state_dict(),
            "logged": dict(self._logged),
            "logged_steps": self._logged_steps,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.world.device) if cuda else None,
        }

    def _load(self, path: Path) -> None:
        """Go on from a saved state."""
        state = files.read_state(path)
        try:
            self.network.load_state_dict(state["model"])
            if self.averaged is not None:
                # A training that starts to average now starts from the weights that it has.
                self.averaged.model.load_state_dict(state["averaged"] or state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: a state of another network; take the experiment of {self.out / files.EXPERIMENT}"
            ) from error
        for group, fresh in zip(
            self.optimiser.param_groups,
            make_optimiser(self.network, self.experiment.optimiser).param_groups,
            strict=True,
        ):  # the state's own settings would silently win over a changed experiment
            group.update({key: fresh[key] for key in ("weight_decay", "betas", "factor")})
        self.scaler.load_state_dict(state["scaler"])
        if set(state["balance"]["weights"]) == set(self.experiment.tasks):
            self.balance.load_state_dict(state["balance"])
        self._logged, self._logged_steps = dict(state["logged"]), state["logged_steps"]
        self.step = state["step"]
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and self.world.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.world.device)
        changed = changed_keys(parse_experiment(state["experiment"], str(path)), self.experiment)
        self.progress.say(
            f"going on after step {self.step}" + (f", with other {', '.join(changed)}" * bool(changed))
        )


def _cost_volumes(network: Network, experiment: Experiment) -> list[Tensor]:
    """A list that has the cost volume of the latest forward pass, for as long as nobody takes it out."""
    module = network.cvm if isinstance(network, CrossView) else None
    if module is None or not module.has_cost_volume or experiment.data.views.count == 1:
        raise InputError(
            "loss.matching_weight: needs a network with a cost volume and data.views.count above 1"
        )
    latest: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        latest[:] = inputs

    module.upsample_costs.register_forward_pre_hook(keep)
    return latest


def _normalised(picture: Tensor, network: Network) -> Tensor:
    """(B, 3, H, W) of 0..1, to what the network takes."""
    mean = picture.new_tensor(network.config.mean)[:, None, None]
    std = picture.new_tensor(network.config.std)[:, None, None]
    return (picture - mean) / std
