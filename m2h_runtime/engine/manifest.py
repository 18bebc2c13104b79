"""`manifest.yaml`: all that a graph cannot say about itself, and the checks that come before anything is loaded."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import yaml

from m2h_runtime.engine.contract import CONTRACT_VERSION, Views, contract_version
from m2h_runtime.errors import ContractError, EngineError
from m2h_runtime.files import write_atomically
from m2h_runtime.label_space import LabelSpace

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST_NAME = "manifest.yaml"
GRAPH_NAME = "model.onnx"
PLAN_NAME = "model.plan"
GOLDEN_NAME = "golden.npz"

Verdict = Literal["pass", "fail", "unverified"]


@dataclass(frozen=True)
class Checkpoint:
    """Where the weights came from. `sha256` is of the checkpoint file, "" for random weights."""

    file: str
    sha256: str
    random_weights: bool
    seed: int | None = None


@dataclass(frozen=True)
class Target:
    """What the engine was made for. The TensorRT fields are None for a plain graph."""

    kind: Literal["onnx", "openvino", "tensorrt", "tensorrt-rtx"]
    tensorrt: str | None = None
    compute_capability: str | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class FileFacts:
    """One file of the engine folder."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class GraphFacts:
    """The deploy graph and what the rewrites saved. GFLOP count 2 per multiply-add."""

    opset: int
    nodes: int
    nodes_as_published: int
    gflop: float
    gflop_as_published: float


@dataclass(frozen=True)
class ParityRun:
    """One backend's comparison with PyTorch fp32; `mean` and `worst` hold the figures of `engine.parity`."""

    backend: str
    verdict: Verdict
    images: int
    mean: dict[str, float]
    worst: dict[str, float]


@dataclass(frozen=True)
class Parity:
    """The verdict on the engine. `unverified` is what a plan gets that was built without its GPU."""

    verdict: Verdict
    reference: str
    runs: tuple[ParityRun, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The sidecar of an engine.

    Attributes:
        contract: version of the engine contract, see `engine.contract`.
        name: the network, e.g. "m2h-small".
        size: (H, W) in pixels.
        precision: of weights and activations in the graph; "int8" is for its large layers, the others are fp32.
        label_space: names and colours of the class ids.
        depth_range_m: smallest and largest depth that the graph can give; None is no bound.
        normals_frame: frame of the normals; always the camera optical frame (x right, y down, z forward).
        resize: how a camera image of another size is brought to `size`.
        checkpoint: where the weights came from.
        target: what the engine was made for.
        graph: node count and cost of the deploy graph.
        parity: the verdict and its figures.
        files: every other file of the folder, by name.
        tools: versions of the tools that made the engine.
        weights: how they are stored in the graph file; "fp16" weights in an "fp32" graph are widened on loading.
        focal_px: focal length fx, in pixels of `size`, of the camera that the weights learned metres with; None: not
            known, or of many cameras.
        views: of a cross-view engine, what it compares a frame with; None: a single-view engine.
    """

    contract: int
    name: str
    size: tuple[int, int]
    precision: Literal["fp32", "fp16", "int8"]
    label_space: LabelSpace
    depth_range_m: tuple[float, float | None]
    normals_frame: str
    resize: Literal["stretch"]
    checkpoint: Checkpoint
    target: Target
    graph: GraphFacts
    parity: Parity
    files: dict[str, FileFacts]
    tools: dict[str, str] = field(default_factory=dict)
    weights: Literal["fp32", "fp16", "int8"] = "fp32"
    focal_px: float | None = None
    views: Views | None = None

    def write(self, folder: Path) -> None:
        """Write `manifest.yaml` into `folder`, whole or not at all."""
        entries = _plain(self)
        if self.views is None:  # runtimes of contract 1 do not know the setting
            del entries["views"]
        text = yaml.safe_dump(entries, sort_keys=False, width=110, allow_unicode=True)
        write_atomically(folder / MANIFEST_NAME, text.encode())

    def engine_id(self) -> str:
        """Short hash of the model files, to key caches by."""
        hashes = "".join(facts.sha256 for name, facts in sorted(self.files.items()) if name != GOLDEN_NAME)
        return hashlib.sha256(hashes.encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an engine folder; no other file is touched.

    Raises:
        EngineError: no such folder, no manifest, a newer contract, or a setting that is missing or unknown.
    """
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise EngineError(f"{folder}: no such engine folder; make one with m2h-export --out {folder}")
    if not path.is_file():
        raise EngineError(
            f"{folder}: no {MANIFEST_NAME}, so this is no engine; make one with m2h-export --out"
        )
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        what = " ".join(str(error).split())
        raise EngineError(f"{path}: not readable as YAML ({what}); export the engine again") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("contract"), int):
        raise EngineError(f"{path}: no contract version in it; export the engine again with m2h-export")
    if raw["contract"] > CONTRACT_VERSION:
        raise EngineError(
            f"{path}: engine contract {raw['contract']}, this runtime knows up to {CONTRACT_VERSION}; "
            "upgrade m2h-runtime, or export the engine with this version"
        )
    try:
        manifest: Manifest = _parse(Manifest, raw, "")
    except (TypeError, ValueError, KeyError, AttributeError, ContractError) as error:
        raise EngineError(f"{path}: {error}; export the engine again with m2h-export") from error
    if manifest.contract < (needed := contract_version(manifest.views)):
        raise EngineError(
            f"{path}: views need engine contract {needed}, it says {manifest.contract}; export the engine again"
        )
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file of the engine with its recorded hash.

    Raises:
        EngineError: a file is missing or was edited.
    """
    for name, facts in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise EngineError(f"{path}: missing, but the manifest lists it; export the engine again")
        if path.stat().st_size != facts.bytes or sha256_of(path) != facts.sha256:
            raise EngineError(
                f"{path}: edited or damaged (its sha256 is not the manifest's); export the engine again"
            )


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def file_facts(path: Path) -> FileFacts:
    """Hash and size of a file as it is now."""
    return FileFacts(sha256_of(path), path.stat().st_size)


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as the dicts and lists that YAML knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


_NESTED: dict[str, type] = {
    "label_space": LabelSpace,
    "checkpoint": Checkpoint,
    "target": Target,
    "graph": GraphFacts,
    "parity": Parity,
    "views": Views,
}
_PAIRS = ("size", "depth_range_m")


def _parse(kind: type, raw: dict[str, Any], where: str) -> Any:
    """Make a `kind` from a YAML mapping; unknown and missing settings are errors that name the setting."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if not isinstance(raw, dict):
        raise TypeError(f"{where or 'the manifest'} should be a mapping")
    for key in raw.keys() - fields.keys():
        nearest = get_close_matches(str(key), fields, 1, 0)[0]
        raise ValueError(f"no setting {where + str(key)!r}; the nearest is {where + nearest!r}")
    values: dict[str, Any] = {}
    for name, spec in fields.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if name not in raw:
            if required:
                raise ValueError(f"the setting {where + name!r} is missing")
            continue
        values[name] = _value(name, raw[name], where)
    return kind(**values)


def _value(name: str, raw: Any, where: str) -> Any:
    if name in _NESTED:
        return _parse(_NESTED[name], raw, f"{where}{name}.")
    if name == "files":
        return {file: _parse(FileFacts, facts, f"files.{file}.") for file, facts in raw.items()}
    if name == "runs":
        return tuple(_parse(ParityRun, run, "parity.runs.") for run in raw)
    if name == "colors":
        return tuple((int(r), int(g), int(b)) for r, g, b in raw)
    if name == "classes":
        return tuple(str(entry) for entry in raw)
    if name in _PAIRS:
        first, second = raw
        return first, second
    return raw
