"""From weights to a verified engine folder: rewrite, export, type, build, compare, and only then put in place."""

from __future__ import annotations

import glob
import platform
import resource
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import onnx
import torch

import m2h_runtime
from m2h_export import checkpoints
from m2h_export.checkpoints import check_fit, read_checkpoint
from m2h_export.deploy.contract_stage import ContractGraph, contract_graph, published_graph
from m2h_export.deploy.cost import gflop, node_count
from m2h_export.deploy.graph import OPSET, export_graph
from m2h_export.deploy.int8 import to_int8
from m2h_export.deploy.network import DeployM2H
from m2h_export.deploy.streaming import check_streams, deploy_stream
from m2h_export.deploy.typed_fp16 import store_weights_as_fp16, to_fp16
from m2h_export.models import CrossView, build_model
from m2h_export.models.catalogue import WITH_CVM
from m2h_export.models.spatial import STRIDE
from m2h_export.photographs import photographs
from m2h_export.random_weights import fill_weights
from m2h_export.verify import REQUIRED, backends_to_verify, reference_outputs, refuse, samples, verify
from m2h_runtime.engine.contract import Views, contract_version
from m2h_runtime.engine.cuda import device_facts
from m2h_runtime.engine.manifest import (
    GOLDEN_NAME,
    GRAPH_NAME,
    PLAN_NAME,
    Checkpoint,
    FileFacts,
    GraphFacts,
    Manifest,
    Parity,
    Target,
    file_facts,
)
from m2h_runtime.engine.selftest import write_golden
from m2h_runtime.errors import CheckpointError, InputError
from m2h_runtime.files import folder_in_place
from m2h_runtime.label_space import LabelSpace, default_label_space, load_label_space

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import nn

    from m2h_export.models import M2H, Network
    from m2h_export.models.cross_task import Mixing
    from m2h_export.models.cvm import CrossViewModule
    from m2h_export.steps import Steps
    from m2h_export.verify import Reference, Sample
    from m2h_runtime.engine.manifest import ParityRun

DEFAULT_CLASSES = 41
DEFAULT_VIEWS = 2


@dataclass(frozen=True)
class ExportSpec:
    """What to export. The names are those of the command's options.

    Attributes:
        model: one of `m2h_export.models.model_names()`.
        checkpoint: weight file, or None for random weights of `seed`.
        size: (H, W) of the engine's input, pixels.
        precision: "fp32"; "fp16" for a typed FP16 graph with FP32 islands; "int8" for one whose large layers are
            quantised.
        target: what to make.
        out: the engine folder.
        compute_capability: of the GPU that a TensorRT-RTX plan is for, e.g. "8.6".
        classes: of the semantic head; None takes the checkpoint's.
        label_space: by name; None takes the usual one for that many classes.
        max_depth_m: clip the depth there, metres.
        normals_sign: factors that bring the network's normals into the camera optical frame.
        images: glob of pictures for the parity check; None takes scikit-image's.
        calibration: glob of pictures to take int8 ranges from; None takes those of the parity check, mirrored.
        half_weights: store the weights of an fp32 graph as fp16.
        focal_px: fx, in pixels of `size`, of the camera that the weights learned metres with; None: unknown.
        mixing, ggfm: the paper's ablations.
        views: that a frame of a cross-view engine is seen in, its own included; None: two.
        workspace_mb, timing_cache: for the TensorRT builder.
    """

    model: str
    checkpoint: Path | None
    size: tuple[int, int]
    precision: Literal["fp32", "fp16", "int8"]
    target: Literal["onnx", "openvino", "tensorrt", "tensorrt-rtx"]
    out: Path
    seed: int = 0
    compute_capability: str | None = None
    classes: int | None = None
    label_space: str | None = None
    max_depth_m: float | None = None
    normals_sign: tuple[int, int, int] = (1, 1, 1)
    images: str | None = None
    calibration: str | None = None
    half_weights: bool = False
    focal_px: float | None = None
    mixing: Mixing | None = None
    ggfm: bool | None = None
    views: int | None = None
    workspace_mb: int | None = None
    timing_cache: Path | None = None


def export_engine(spec: ExportSpec, steps: Steps) -> Manifest:
    """Make the engine that `spec` describes, verified, and return its manifest.

    Raises:
        InputError: something in `spec` cannot be; checked before the long work.
        CheckpointError: the weight file.
        ParityError: the engine differs from PyTorch fp32; no folder is left behind.
    """
    check_spec(spec)
    pictures = photographs(spec.size, spec.images)
    model, checkpoint = load_network(spec)
    views = _views(spec, model)
    labels = _label_space(spec, model.config.num_classes)
    published = published_graph(model, spec.max_depth_m, spec.normals_sign, views)
    steps.say(
        f"{spec.model}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {checkpoint.file}"
    )
    with steps.phase("PyTorch fp32 reference", len(pictures) * (1 if views is None else 2)) as step:
        inputs = samples(published, pictures)
        references = reference_outputs(published, inputs, labels, step)
    graph, facts = deploy_graph(spec, model, published, steps)
    with folder_in_place(spec.out) as folder:
        onnx.save(graph, folder / GRAPH_NAME)
        del graph
        write_golden(folder, inputs[0].image, references[0].outputs, inputs[0].views)
        target = _build(spec, folder, steps)
        manifest = Manifest(
            contract=contract_version(views),
            name=spec.model,
            size=spec.size,
            precision=spec.precision,
            label_space=labels,
            depth_range_m=(0.001, spec.max_depth_m),
            normals_frame="camera_optical",
            resize="stretch",
            checkpoint=checkpoint,
            target=target,
            graph=facts,
            parity=Parity("unverified", f"PyTorch {torch.__version__} fp32"),
            files=_files(folder),
            tools=_tools(target),
            weights="fp16" if spec.half_weights else spec.precision,
            focal_px=spec.focal_px,
            views=views,
        )
        manifest = _verified(spec, folder, manifest, inputs, references, steps)
        manifest.write(folder)
    return manifest


def check_spec(spec: ExportSpec) -> None:
    """Refuse what cannot work before anything long starts."""
    height, width = spec.size
    if not (56 <= height <= 2048 and 56 <= width <= 2048):
        raise InputError(f"--size {height}x{width}: height and width go from 56 to 2048 pixels")
    if spec.out.exists() and not spec.out.is_dir():
        raise InputError(f"{spec.out}: is a file; --out takes a folder")
    place = next(folder for folder in spec.out.absolute().parents if folder.exists())
    if not place.is_dir():
        raise InputError(f"{spec.out}: cannot be made, {place} is a file; choose another --out")
    if spec.classes is not None and not 1 <= spec.classes <= 256:
        raise InputError(f"--classes {spec.classes}: a class id is one byte, so from 1 to 256")
    if spec.out.is_dir() and any(spec.out.iterdir()) and not (spec.out / "manifest.yaml").is_file():
        raise InputError(
            f"{spec.out}: not empty and no engine; choose another --out, nothing there is overwritten"
        )
    if spec.half_weights and spec.precision != "fp32":
        raise InputError(
            f"--half-weights is for --precision fp32; the weights of an {spec.precision} graph are small already"
        )
    if spec.precision == "int8" and spec.target.startswith("tensorrt"):
        raise InputError(
            f"--target {spec.target}: int8 is for --target openvino; use --precision fp16 for it"
        )
    if spec.calibration is not None and spec.precision != "int8":
        raise InputError("--calibration-images are for --precision int8")
    if spec.calibration is not None and not glob.glob(spec.calibration, recursive=True):  # noqa: PTH207 (absolute patterns)
        raise InputError(
            f"--calibration-images {spec.calibration}: no file matches; quote a pattern such as 'photos/*.jpg'"
        )
    if spec.max_depth_m is not None and not spec.max_depth_m > 0.001:  # also true for NaN
        raise InputError(f"--max-depth {spec.max_depth_m}: has to be more than 0.001 metres")
    if spec.target.startswith("tensorrt"):
        from m2h_export.tensorrt_build import check_target

        check_target(spec.target, spec.compute_capability)  # type: ignore[arg-type]
    elif spec.compute_capability is not None:
        raise InputError("--compute-capability is for --target tensorrt-rtx and tensorrt")
    from m2h_runtime.engine.select import unavailable

    backend = REQUIRED[spec.target]
    why = None if spec.target.startswith("tensorrt") else unavailable(backend)
    if why is not None:
        raise InputError(f"--target {spec.target}: cannot be verified here, {why}")


def load_network(spec: ExportSpec) -> tuple[Network, Checkpoint]:
    """The network with its weights, in evaluation mode, and where the weights came from."""
    if spec.checkpoint is None:
        model = build_model(spec.model, spec.classes or DEFAULT_CLASSES, mixing=spec.mixing, ggfm=spec.ggfm)
        fill_weights(model, spec.seed)
        return model.eval(), Checkpoint(
            f"random weights, seed {spec.seed}", "", random_weights=True, seed=spec.seed
        )
    loaded = read_checkpoint(spec.checkpoint)
    if any(name.startswith("heads.human_parts.") for name in loaded.state):
        raise CheckpointError(
            f"{spec.checkpoint}: trained for the tasks of PASCAL-Context; an engine gives depth, semantics, normals "
            "and edges"
        )
    options = checkpoints.build_options(checkpoints.read_facts(spec.checkpoint))
    options |= {
        key: value for key, value in (("mixing", spec.mixing), ("ggfm", spec.ggfm)) if value is not None
    }
    check_fit(loaded, spec.checkpoint, spec.model, spec.classes, **options)
    model = build_model(spec.model, loaded.num_classes, **options)
    if not checkpoints.load_network(model, loaded):
        plain = spec.model.removesuffix(WITH_CVM)
        raise CheckpointError(
            f"{spec.checkpoint}: the weights of {plain} alone, without those of a cross-view module; train it, or pass "
            f"--model {plain}"
        )
    return model.eval(), Checkpoint(spec.checkpoint.name, loaded.sha256, random_weights=False)


def _views(spec: ExportSpec, model: Network) -> Views | None:
    """What a cross-view engine compares a frame with; None for a single-view network.

    Raises:
        InputError: the network or the options cannot be.
    """
    if not isinstance(model, CrossView):
        if spec.views is not None:
            raise InputError(
                f"--views {spec.views}: {spec.model} looks at one view; leave the option out, or take a cvm- network "
                "or one with +cvm"
            )
        return None
    check_streams(model)
    if spec.precision == "int8":
        raise InputError(f"--precision int8: {spec.model} is a cross-view network; they have fp32 and fp16")
    module = cast("CrossViewModule", model.cvm).config
    return Views(
        neighbours=(spec.views or DEFAULT_VIEWS) - 1,
        channels=module.channels,
        stride=STRIDE,
        near_m=module.depths.near_m,
        far_m=module.depths.far_m,
    )


def _rewritten(model: Network, size: tuple[int, int], views: Views | None) -> nn.Module:
    if views is None:
        return DeployM2H(cast("M2H", model), size)
    return deploy_stream(cast("CrossView", model), size, views.neighbours)


def deploy_graph(
    spec: ExportSpec, model: Network, published: ContractGraph, steps: Steps
) -> tuple[onnx.ModelProto, GraphFacts]:
    """The rewritten graph in the asked precision, and what the rewrites saved."""
    with steps.phase("export as published, for the count"):
        before = export_graph(published, spec.size)
        nodes_before, gflop_before = node_count(before), gflop(before)
        del before
    with steps.phase("rewrite and export"):
        network = _rewritten(model, spec.size, published.views)
        graph = export_graph(
            contract_graph(network, model, spec.max_depth_m, spec.normals_sign, published.views), spec.size
        )
        del network
        nodes, cost = node_count(graph), gflop(graph)
        if spec.precision == "fp16":
            graph = to_fp16(graph)
            nodes = node_count(graph)
        elif spec.half_weights:
            graph = store_weights_as_fp16(graph)
    if spec.precision == "int8":
        graph = _quantised(spec, graph, steps)
        nodes = node_count(graph)
    facts = GraphFacts(OPSET, nodes, nodes_before, round(cost, 2), round(gflop_before, 2))
    steps.say(
        f"graph: {facts.nodes_as_published} nodes, {facts.gflop_as_published} GFLOP as published; "
        f"{facts.nodes} nodes, {facts.gflop} GFLOP rewritten, {spec.precision}"
    )
    return graph, facts


def _quantised(spec: ExportSpec, graph: onnx.ModelProto, steps: Steps) -> onnx.ModelProto:
    """The int8 graph. Without pictures of its own it is calibrated on mirrored ones, so that parity is on others."""
    pictures = photographs(spec.size, spec.calibration or spec.images)
    if spec.calibration is None:
        pictures = [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures]
    with steps.phase(f"int8 calibration on {len(pictures)} pictures", len(pictures)) as step:
        return to_int8(graph, pictures, step)


def _build(spec: ExportSpec, folder: Path, steps: Steps) -> Target:
    if spec.target in ("onnx", "openvino"):
        return Target(spec.target)
    from m2h_export.tensorrt_build import build_plan, known_bad, library_version

    kind: Literal["tensorrt", "tensorrt-rtx"] = "tensorrt" if spec.target == "tensorrt" else "tensorrt-rtx"
    capability = spec.compute_capability or (device_facts()[1] if kind == "tensorrt" else None)
    if (warning := known_bad(kind, library_version(kind), capability)) is not None:
        steps.say(f"warning: {warning}")
    steps.say(f"building the {kind} plan: seconds for m2h-nano, many minutes on a small Jetson")
    built = build_plan(
        folder / GRAPH_NAME,
        folder / PLAN_NAME,
        kind=kind,
        compute_capability=spec.compute_capability,
        workspace_mb=spec.workspace_mb,
        timing_cache=spec.timing_cache,
        progress=steps.bar,
    )
    steps.say(
        f"plan: {built.layers} layers, {built.plan_bytes / 1e6:.0f} MB in {built.seconds:.1f} s, "
        f"{built.tensorrt} for compute capability {built.compute_capability}"
    )
    return Target(kind, built.tensorrt, built.compute_capability, built.gpu)


def _verified(
    spec: ExportSpec,
    folder: Path,
    manifest: Manifest,
    inputs: Sequence[Sample],
    references: Sequence[Reference],
    steps: Steps,
) -> Manifest:
    """The manifest with its parity figures and the verdict."""
    own = REQUIRED[spec.target]
    backends = backends_to_verify(spec.target)
    # A plan for another machine cannot run here; then at least its graph has to be right.
    required = own if own in backends else "onnxruntime-cpu"
    runs: list[ParityRun] = []
    for backend in backends:
        with steps.phase(f"parity on {backend}"):
            run, problems = verify(backend, folder, manifest, inputs, references)
        if problems and backend == required:
            raise refuse(backend, problems)
        if problems:
            steps.say(f"{backend} fails the parity check and will not be used: {'; '.join(problems)}")
        runs.append(run)
    steps.table(runs)
    verdict: Literal["pass", "unverified"] = (
        "pass" if any(run.backend == own for run in runs) else "unverified"
    )
    if verdict == "unverified":
        steps.say(
            f"the plan itself cannot run here, so the engine has no passing verdict: on the machine it is for, run "
            f"m2h-doctor --verify {spec.out}"
        )
    return replace(manifest, parity=replace(manifest.parity, verdict=verdict, runs=tuple(runs)))


def _label_space(spec: ExportSpec, num_classes: int) -> LabelSpace:
    labels = load_label_space(spec.label_space) if spec.label_space else default_label_space(num_classes)
    if len(labels.classes) != num_classes:
        raise InputError(
            f"--label-space {labels.name}: has {len(labels.classes)} classes, the network {num_classes}"
        )
    return labels


def _files(folder: Path) -> dict[str, FileFacts]:
    names = (GRAPH_NAME, PLAN_NAME, GOLDEN_NAME)
    return {name: file_facts(folder / name) for name in names if (folder / name).is_file()}


def _tools(target: Target) -> dict[str, str]:
    tools = {"m2h-runtime": m2h_runtime.__version__, "python": platform.python_version()}
    for package in ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino"):
        try:
            tools[package] = version(package)
        except PackageNotFoundError:
            continue
    if target.tensorrt:
        tools[target.kind] = target.tensorrt
    return tools


def peak_memory_mb() -> float:
    """The most memory that this process had so far, 10⁶ bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
