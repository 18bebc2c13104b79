"""Where predictions come from: weights in PyTorch, or an engine folder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from m2h_export.data.sample import IGNORE
from m2h_export.data.views import cameras_of, poses_between
from m2h_export.evaluation.evaluator import Prediction
from m2h_runtime.errors import CheckpointError, InputError
from m2h_runtime.label_space import default_label_space, load_label_space

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from m2h_export.data.sample import Sample
    from m2h_export.models import CrossView, Network

    Signs = tuple[int, int, int]

ENGINE_TASKS: tuple[str, ...] = ("depth", "semantics", "normals", "edges")
"""What the graph contract has."""


class Predictor(Protocol):
    """Pictures in, predictions out.

    Attributes:
        name: of the network or engine.
        class_names: of its semantic classes, by index.
        tasks: that it predicts, as `evaluator.TASKS` calls them.
    """

    name: str
    class_names: tuple[str, ...]
    tasks: tuple[str, ...]

    def predict(self, rgb: NDArray[np.uint8]) -> Prediction:
        """Predict on uint8 (H, W, 3) RGB; the size of the outputs is the predictor's choice."""


class TorchPredictor:
    """A checkpoint in fp32 PyTorch, at the size of each picture.

    Args:
        path: `.safetensors` whose metadata may say what it is, or a `.pt` state dict.
        model: name of the network; None takes the file's own.
        device: of torch.
        normals_sign: factors that bring the network's normals into the camera optical frame.

    Raises:
        CheckpointError: not readable, of another network, or of an unknown one.
    """

    def __init__(
        self, path: Path, model: str | None = None, device: str = "cpu", normals_sign: Signs = (1, 1, 1)
    ) -> None:
        from m2h_export.checkpoints import build_options, check_fit, load_network, read_checkpoint, read_facts
        from m2h_export.models import build_model
        from m2h_export.models.task_heads import TASK_SETS

        checkpoint = read_checkpoint(path)
        facts = read_facts(path)
        name = model or facts.get("model")
        if not isinstance(name, str):
            raise CheckpointError(f"{path}: does not say which network it is of; pass --model, e.g. m2h-nano")
        options = build_options(facts)
        build_model(name, 1)  # an unknown name is told as such, not as a misfit
        check_fit(checkpoint, path, name, None, **options)
        network = build_model(name, checkpoint.num_classes, **options)
        load_network(network, checkpoint)
        self.name = name
        self.class_names = _class_names(facts, checkpoint.num_classes, path)
        self.tasks = TASK_SETS[options["tasks"] or "nyud"]
        self._network = network.eval().to(device)
        self._sign = np.array(normals_sign, np.float32)

    def predict(self, rgb: NDArray[np.uint8]) -> Prediction:
        """Predict on uint8 (H, W, 3) RGB, at that size; edges are float probabilities."""
        return self._signed(predict(self._network, rgb))

    def predict_views(self, views: Sequence[Sample]) -> Prediction:
        """Predict the first of several views of equal size, with the help of the others; one alone is `predict`.

        Raises:
            InputError: the network takes single pictures only.
            DatasetError: a view has no pose.
        """
        if len(views) == 1:
            return self.predict(views[0].image)
        from m2h_export.models import CrossView

        if not isinstance(self._network, CrossView):
            raise InputError(f"{self.name}: takes single pictures; leave --views out, or take a cvm network")
        return self._signed(predict_views(self._network, views))

    def _signed(self, found: Prediction) -> Prediction:
        if found.normals is None:
            return found
        return replace(found, normals=np.ascontiguousarray(found.normals * self._sign))


def predict(network: Network, rgb: NDArray[np.uint8]) -> Prediction:
    """What a network in evaluation mode makes of uint8 (H, W, 3) RGB, at that size; edges are probabilities."""
    import torch

    with torch.inference_mode():
        out = network(_normalised(network, [rgb]))
        return _told({task: values[0] for task, values in out.items()})


def predict_views(network: CrossView, views: Sequence[Sample]) -> Prediction:
    """The same of the first of several views of equal size, which have intrinsics and poses."""
    import torch

    images = _normalised(network, [view.image for view in views])
    geometry = (
        torch.from_numpy(x)[None].to(images.device) for x in (poses_between(views), cameras_of(views))
    )
    with torch.inference_mode():
        out = network.forward_views(images[None], *geometry)
        return _told({task: values[0, 0] for task, values in out.items()})


def _normalised(network: Network, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """(N, 3, H, W) as the network takes it, on its device."""
    import torch

    mean, std = np.array(network.config.mean, np.float32), np.array(network.config.std, np.float32)
    scaled = (np.stack(pictures).astype(np.float32) / np.float32(255) - mean) / std
    image = torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))
    return image.to(next(network.parameters()).device)


def _told(out: Mapping[str, Tensor]) -> Prediction:
    """Of one picture's outputs (C, H, W) by task."""
    import torch

    make: dict[str, Callable[[Tensor], Tensor]] = {
        "depth": lambda x: x[0],
        "semantics": lambda x: x.argmax(dim=0).to(torch.uint8),
        "normals": lambda x: x.permute(1, 2, 0),
        "edges": lambda x: x[0].sigmoid(),
        "human_parts": lambda x: x.argmax(dim=0).to(torch.uint8),
        "saliency": lambda x: x.softmax(dim=0)[1],
    }
    return Prediction(**{task: np.ascontiguousarray(make[task](x).cpu().numpy()) for task, x in out.items()})


class EnginePredictor:
    """An engine folder; pictures are brought to its size as its pipeline does.

    Args:
        folder: made by `m2h-export`.
        backend: a backend's name, or "auto".
        threads: CPU threads; None means one per core.

    Raises:
        EngineError: see `m2h_runtime.open_engine`.
    """

    def __init__(self, folder: Path, backend: str = "auto", threads: int | None = None) -> None:
        from m2h_runtime.engine import open_engine

        self._engine = open_engine(folder, backend, threads=threads)
        self.name = f"{self._engine.manifest.name} ({self._engine.backend})"
        self.class_names = self._engine.manifest.label_space.classes
        self.tasks = ENGINE_TASKS

    def predict(self, rgb: NDArray[np.uint8]) -> Prediction:
        """Predict on uint8 (H, W, 3) RGB, at the engine's size; edges are 8 bit."""
        from m2h_runtime.calibration.fit import stretched

        perception = self._engine.infer(stretched(rgb, self._engine.manifest.size))
        return Prediction(
            depth=perception.depth,
            semantics=perception.semantics,
            normals=perception.normals,
            edges=perception.edges,
        )


class ClassMap:
    """Brings a predictor's class indices to those of a data set, by name.

    A predicted class that the data set does not have (such as "unknown") becomes `IGNORE`, wrong everywhere. With
    as many classes on both sides but other names, indices are taken as they are.

    Raises:
        InputError: neither the names nor the counts fit.
    """

    def __init__(self, predicted: Sequence[str], wanted: Sequence[str]) -> None:
        self._table = np.full(256, IGNORE, np.uint8)
        if set(wanted) <= set(predicted):
            index = {name: i for i, name in enumerate(wanted)}
            self._table[: len(predicted)] = [index.get(name, IGNORE) for name in predicted]
        elif len(predicted) == len(wanted):
            self._table[: len(wanted)] = np.arange(len(wanted))
        else:
            raise InputError(
                f"the network has {len(predicted)} classes ({predicted[0]}, ...), the data set {len(wanted)} "
                f"({wanted[0]}, ...), and their names differ; evaluate on the data that it was trained for"
            )

    def __call__(self, prediction: Prediction) -> Prediction:
        """The same prediction with the data set's class indices."""
        if prediction.semantics is None:
            return prediction
        return replace(prediction, semantics=np.take(self._table, prediction.semantics))


def _class_names(facts: dict[str, Any], count: int, path: Path) -> tuple[str, ...]:
    names, space = facts.get("class_names"), facts.get("label_space")
    if isinstance(names, list):
        found = tuple(str(name) for name in names)
    elif isinstance(space, str):
        found = load_label_space(space).classes
    else:
        found = default_label_space(count).classes
    if len(found) != count:
        raise CheckpointError(
            f"{path}: its metadata names {len(found)} classes, its head has {count}; save it again with the right ones"
        )
    return found
