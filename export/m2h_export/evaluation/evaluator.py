"""All tasks at once: predictions and samples in, one JSON-able result out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from m2h_export.evaluation.boundaries import BoundaryMeter
from m2h_export.evaluation.consistency import ConsistencyMeter
from m2h_export.evaluation.depth import DepthMeter
from m2h_export.evaluation.gain import HEADLINES
from m2h_export.evaluation.normals import NormalsMeter
from m2h_export.evaluation.saliency import SaliencyMeter
from m2h_export.evaluation.semantics import HUMAN_PARTS, HumanPartsMeter, SemanticsMeter
from m2h_runtime.arrays import check_array
from m2h_runtime.errors import ContractError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from m2h_export.data.sample import Sample
    from m2h_export.evaluation.consistency import Method
    from m2h_export.evaluation.depth import Aggregate
    from m2h_export.evaluation.semantics import Absent

TASKS = ("semantics", "depth", "normals", "edges", "human_parts", "saliency")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says about one picture; a task that it does not have is None.

    Attributes:
        depth: (H, W) float32, metres along the optical axis.
        semantics: (H, W) uint8, class index of the data set's classes; any other value is wrong everywhere.
        normals: (H, W, 3) float32, camera optical frame, facing the camera; need not be of unit length.
        edges: (H, W) boundary probability, float32 0..1 or uint8 of 255ths.
        human_parts: (H, W) uint8 part index.
        saliency: (H, W) foreground probability, float32 0..1 or uint8 of 255ths.
    """

    depth: NDArray[np.float32] | None = None
    semantics: NDArray[np.uint8] | None = None
    normals: NDArray[np.float32] | None = None
    edges: NDArray[Any] | None = None
    human_parts: NDArray[np.uint8] | None = None
    saliency: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        """Check dtypes and numbers of axes."""
        for name, dtype in (("depth", np.float32), ("semantics", np.uint8), ("human_parts", np.uint8)):
            if (value := getattr(self, name)) is not None:
                check_array(f"prediction.{name}", value, dtype, (None, None))
        if self.normals is not None:
            check_array("prediction.normals", self.normals, np.float32, (None, None, 3))
        for name in ("edges", "saliency"):
            if (value := getattr(self, name)) is not None:
                dtype = np.uint8 if getattr(value, "dtype", None) == np.uint8 else np.float32
                check_array(f"prediction.{name}", value, dtype, (None, None))

    def resized(self, size: tuple[int, int]) -> Prediction:
        """The same at (H, W): labels by the nearest pixel, everything else bilinearly."""
        return replace(
            self,
            **{
                item.name: _resized(value, size, labels=item.name in ("semantics", "human_parts"))
                for item in fields(self)
                if (value := getattr(self, item.name)) is not None
            },
        )


def _resized(array: NDArray[Any], size: tuple[int, int], *, labels: bool) -> NDArray[Any]:
    if array.shape[:2] == size:
        return array
    how = cv2.INTER_NEAREST_EXACT if labels else cv2.INTER_LINEAR
    resized: NDArray[Any] = cv2.resize(array, size[::-1], interpolation=how)
    return resized


@dataclass(frozen=True)
class Variants:
    """Every choice on which published evaluators differ; the defaults are those of most multi-task code.

    Attributes:
        absent: of `SemanticsMeter`.
        depth_cap: of `DepthMeter`, as `depth_aggregate`, `depth_clip` and `eigen_crop`.
        depth_aggregate: "pooled" or "per_image".
        depth_clip: "multi_task" or "single_task".
        eigen_crop: count the Eigen crop of 480 × 640 alone.
        odsf: variant of `BoundaryMeter`, as `max_dist` and `thresholds` (None: the variant's own).
        max_dist: matching tolerance, fraction of the diagonal.
        thresholds: of the boundary probability.
        saliency: variant of `SaliencyMeter`.
        consistency: method of `ConsistencyMeter`.
        consistency_masked: count the cross-task angle only where depth or normals have truth.
    """

    absent: Absent = "zero"
    depth_cap: str | float = "multi_task"
    depth_aggregate: Aggregate = "pooled"
    depth_clip: Any = "multi_task"
    eigen_crop: bool = False
    odsf: str = "invpt"
    max_dist: float | None = None
    thresholds: tuple[float, ...] | None = None
    saliency: str = "sak"
    consistency: Method = "tblr"
    consistency_masked: bool = False


class _Meter(Protocol):
    @property
    def images(self) -> int: ...

    @property
    def pixels(self) -> int: ...

    def add(self, prediction: Any, truth: Any, /) -> None: ...

    def merge(self, other: Any, /) -> None: ...

    def result(self) -> dict[str, float]: ...


class Evaluator:
    """Metrics of several tasks over any number of pictures.

    Args:
        class_names: of the data set's semantic labels.
        tasks: which of `TASKS` to evaluate.
        executor: boundary matching runs in its processes, if given.
        **variants: fields of `Variants`.

    Raises:
        InputError: no such task or variant.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        tasks: Sequence[str] = ("semantics", "depth", "normals", "edges"),
        *,
        executor: Executor | None = None,
        **variants: Any,
    ) -> None:
        self.class_names = tuple(class_names)
        self.tasks = tuple(tasks)
        if unknown := [name for name in variants if name not in {item.name for item in fields(Variants)}]:
            known = ", ".join(item.name for item in fields(Variants))
            raise InputError(f"evaluator: no variant {unknown[0]!r}; there are {known}")
        self.variants = Variants(**variants)
        self._meters = {task: self._meter(task, executor) for task in self.tasks}
        self._consistency = ConsistencyMeter(
            self.variants.consistency, masked=self.variants.consistency_masked
        )
        self.images = 0

    def add(self, prediction: Prediction, sample: Sample) -> None:
        """Count one picture at the sample's size; tasks without truth are passed over.

        Raises:
            ContractError: the sample has truth for a task that the prediction lacks, or arrays do not fit; the
                line names the sample.
        """
        prediction = prediction.resized((sample.image.shape[0], sample.image.shape[1]))
        try:
            for task in self.tasks:
                self._add_task(task, prediction, sample)
            self._add_consistency(prediction, sample)
        except ContractError as error:
            raise ContractError(f"{sample.name}: {error}") from error
        self.images += 1

    def merge(self, other: Evaluator) -> None:
        """Add what another evaluator of the same classes, tasks and variants counted.

        Raises:
            InputError: it is of another kind.
        """
        mine = (self.class_names, self.tasks, self.variants)
        if mine != (other.class_names, other.tasks, other.variants):
            raise InputError(
                "evaluators of different classes, tasks or variants cannot be merged; make them alike"
            )
        for task, meter in self._meters.items():
            meter.merge(other._meters[task])
        self._consistency.merge(other._consistency)
        self.images += other.images

    def result(self) -> dict[str, Any]:
        """JSON-able.

        Returns:
            `images`; `tasks`: per evaluated task its metrics (fractions, metres, degrees; None where nothing
            counted); `class_iou` and `human_parts_iou` by name (None: absent); `consistency` (degrees), where
            intrinsics were known; `headlines`: the one metric per task that the multi-task gain takes; `counts`:
            pictures and pixels per task; `variants`: what was chosen.
        """
        meters = {task: meter for task, meter in self._meters.items() if meter.pixels}
        told: dict[str, Any] = {
            "images": self.images,
            "tasks": {task: _plain(meter.result()) for task, meter in meters.items()},
            "counts": {task: {"images": m.images, "pixels": m.pixels} for task, m in meters.items()},
            "variants": asdict(self.variants),
        }
        told["headlines"] = {task: told["tasks"][task][HEADLINES[task][0]] for task in meters}
        for task, key, names in (
            ("semantics", "class_iou", self.class_names),
            ("human_parts", "human_parts_iou", HUMAN_PARTS),
        ):
            meter = meters.get(task)
            if isinstance(meter, SemanticsMeter):
                told[key] = _plain(dict(zip(names, meter.class_iou().tolist(), strict=True)))
        if self._consistency.pixels:
            told["consistency"] = _plain(self._consistency.result())
            told["counts"]["consistency"] = {
                "images": self._consistency.images,
                "pixels": self._consistency.pixels,
            }
        return told

    def _meter(self, task: str, executor: Executor | None) -> _Meter:
        chosen = self.variants
        if task == "semantics":
            return SemanticsMeter(len(self.class_names), chosen.absent)
        if task == "human_parts":
            return HumanPartsMeter(chosen.absent)
        if task == "depth":
            return DepthMeter(
                chosen.depth_cap, chosen.depth_aggregate, chosen.depth_clip, eigen_crop=chosen.eigen_crop
            )
        if task == "normals":
            return NormalsMeter()
        if task == "edges":
            return BoundaryMeter(
                chosen.odsf, max_dist=chosen.max_dist, thresholds=chosen.thresholds, executor=executor
            )
        if task == "saliency":
            return SaliencyMeter(chosen.saliency)
        raise InputError(f"evaluator: no task {task!r}; there are {', '.join(TASKS)}")

    def _add_task(self, task: str, prediction: Prediction, sample: Sample) -> None:
        extra = task in ("human_parts", "saliency")
        truth = sample.extra.get(task) if extra else getattr(sample, task)
        if truth is None:
            return
        predicted = getattr(prediction, task)
        if predicted is None:
            raise ContractError(f"{task}: there is truth but no prediction; leave the task out or predict it")
        self._meters[task].add(predicted, truth)

    def _add_consistency(self, prediction: Prediction, sample: Sample) -> None:
        if sample.intrinsics is None or prediction.depth is None or prediction.normals is None:
            return
        known: list[NDArray[np.bool_]] = [] if sample.depth is None else [sample.depth > 0]
        known += [] if sample.normals is None else [(sample.normals != 0).any(axis=-1)]
        defined = np.all(known, axis=0) if known else None
        self._consistency.add(prediction.depth, prediction.normals, sample.intrinsics, defined)


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
