"""Where predictions come from: weights in PyTorch, or an engine folder."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from m2h_export.data.sample import IGNORE
from m2h_export.evaluation.evaluator import Prediction
from m2h_runtime.errors import CheckpointError, InputError
from m2h_runtime.label_space import default_label_space, load_label_space

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from m2h_export.models import M2H
    from m2h_export.models.cross_task import Mixing

    Signs = tuple[int, int, int]


class Predictor(Protocol):
    """Pictures in, predictions out.

    Attributes:
        name: of the network or engine.
        class_names: of its semantic classes, by index.
    """

    name: str
    class_names: tuple[str, ...]

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
        from m2h_export.checkpoints import check_fit, read_checkpoint
        from m2h_export.models import build_model

        checkpoint = read_checkpoint(path)
        facts = _facts(path)
        name = model or facts.get("model")
        if not isinstance(name, str):
            raise CheckpointError(f"{path}: does not say which network it is of; pass --model, e.g. m2h-nano")
        mixing, ggfm = cast("Mixing | None", facts.get("mixing")), cast("bool | None", facts.get("ggfm"))
        build_model(name, 1)  # an unknown name is told as such, not as a misfit
        check_fit(checkpoint, path, name, None, mixing=mixing, ggfm=ggfm)
        network = build_model(name, checkpoint.num_classes, mixing=mixing, ggfm=ggfm)
        network.load_state_dict(checkpoint.state)
        self.name = name
        self.class_names = _class_names(facts, checkpoint.num_classes, path)
        self._network = network.eval().to(device)
        self._sign = np.array(normals_sign, np.float32)

    def predict(self, rgb: NDArray[np.uint8]) -> Prediction:
        """Predict on uint8 (H, W, 3) RGB, at that size; edges are float probabilities."""
        found = predict(self._network, rgb)
        normals = np.ascontiguousarray(cast("NDArray[np.float32]", found.normals) * self._sign)
        return replace(found, normals=normals)


def predict(network: M2H, rgb: NDArray[np.uint8]) -> Prediction:
    """What a network in evaluation mode makes of uint8 (H, W, 3) RGB, at that size; edges are probabilities."""
    import torch

    config, device = network.config, next(network.parameters()).device
    mean, std = np.array(config.mean, np.float32), np.array(config.std, np.float32)
    scaled = (rgb.astype(np.float32) / np.float32(255) - mean) / std
    image = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))[None].to(device)
    with torch.inference_mode():
        out = network(image)
        labels = out["semantics"][0].argmax(dim=0).to(torch.uint8)
        edges = torch.sigmoid(out["edges"][0, 0])
    return Prediction(
        depth=out["depth"][0, 0].cpu().numpy(),
        semantics=labels.cpu().numpy(),
        normals=np.ascontiguousarray(out["normals"][0].cpu().numpy().transpose(1, 2, 0)),
        edges=edges.cpu().numpy(),
    )


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


def _facts(path: Path) -> dict[str, Any]:
    """The metadata of a safetensors file; values that are JSON decoded, others as they are."""
    if path.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        raw = file.metadata() or {}
    return {key: _decoded(value) for key, value in raw.items()}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


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
