"""m2h-export of cross-view networks: real traces and folders, every CPU backend, TensorRT-RTX's builder."""

from __future__ import annotations

import copy
import importlib.util
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from m2h_export import build
from m2h_export.build import published_graph
from m2h_export.cli import main
from m2h_export.deploy.contract_stage import CrossViewGraph, reference_views
from m2h_export.deploy.graph import export_graph
from m2h_export.models import build_model
from m2h_export.photographs import camera_of, moved_cameras, photographs, seen_from
from m2h_export.random_weights import fill_weights
from m2h_export.verify import FEATURES_REL
from m2h_runtime import open_engine
from m2h_runtime.engine import Neighbours
from m2h_runtime.engine.contract import Views
from m2h_runtime.engine.manifest import GRAPH_NAME, check_files, read_manifest
from m2h_runtime.engine.parity import compare, summary, violations
from m2h_runtime.engine.select import backend_class
from m2h_runtime.engine.selftest import read_golden

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_export.models import CrossView

SIZE = (64, 88)
NANO = ("--model", "cvm-nano", "--size", f"{SIZE[0]}x{SIZE[1]}")
VIEWS = Views(neighbours=1, channels=64, stride=8, near_m=0.25, far_m=10.0)
CPU_BACKENDS = [
    name for name in ("onnxruntime-cpu", "openvino", "openvino-bf16") if not backend_class(name).unavailable()
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two photographs, as a glob: half the time of eight."""
    import cv2

    folder = tmp_path_factory.mktemp("pictures")
    for index in (2, 3):
        cv2.imwrite(str(folder / f"{index}.png"), photographs((120, 160), None)[index][..., ::-1])
    return str(folder / "*.png")


@lru_cache(maxsize=1)
def network() -> CrossView:
    """With filled weights, but depths that stay clear of the ReLU: next to zero any rounding is a large part."""
    model = build_model("cvm-nano")
    fill_weights(model, 0)
    model.heads["depth"].linear.weight.data.mul_(0.03)
    return model.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "cvm.pt"
    torch.save(network().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def traced() -> dict[str, onnx.ModelProto]:
    """The graphs that the fp32 export traces; tracing is most of its time, and fp16 starts from the same ones."""
    return {}


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, pictures: str, weights: Path, traced: dict[str, onnx.ModelProto]
) -> Path:
    """What a real `m2h-export` made, fp32."""
    folder = tmp_path_factory.mktemp("exported") / "cvm"

    def tracing(graph: CrossViewGraph, size: tuple[int, int]) -> onnx.ModelProto:
        kind = type(graph.network).__name__
        traced[kind] = copy.deepcopy(model := export_graph(graph, size))
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "export_graph", tracing)
        assert main([*NANO, "--checkpoint", str(weights), "--images", pictures, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def half(
    tmp_path_factory: pytest.TempPathFactory,
    pictures: str,
    weights: Path,
    exported: Path,
    traced: dict[str, onnx.ModelProto],
) -> Path:
    """The same in fp16, of the graphs that are traced already."""
    folder = tmp_path_factory.mktemp("half") / "cvm"
    options = (
        "--precision",
        "fp16",
        "--checkpoint",
        str(weights),
        "--images",
        pictures,
        "--out",
        str(folder),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            build, "export_graph", lambda graph, _: copy.deepcopy(traced[type(graph.network).__name__])
        )
        assert main([*NANO, *options]) == 0
    return folder


def test_the_manifest_says_what_the_engine_compares_a_frame_with(exported: Path, half: Path) -> None:
    for folder, precision in ((exported, "fp32"), (half, "fp16")):
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        assert (manifest.contract, manifest.views, manifest.parity.verdict) == (2, VIEWS, "pass")
        assert (manifest.precision, manifest.checkpoint.random_weights) == (precision, False)
    assert manifest.graph.gflop < manifest.graph.gflop_as_published


def test_every_backend_was_compared_alone_and_with_neighbours_and_in_its_features(
    exported: Path, half: Path
) -> None:
    for folder in (exported, half):
        runs = {run.backend: run for run in read_manifest(folder).parity.runs}
        assert set(CPU_BACKENDS) <= set(runs)
        for run in runs.values():
            assert (run.verdict, run.images) == ("pass", 4), run
            assert 0 <= run.mean["features_rel"] <= run.worst["features_rel"] < FEATURES_REL["bf16"]
        assert runs["onnxruntime-cpu"].mean["features_rel"] > 0


def test_the_golden_frame_has_a_neighbour_that_matters(exported: Path) -> None:
    manifest = read_manifest(exported)
    golden = read_golden(exported, manifest)
    assert golden.views is not None
    assert not np.allclose(golden.views.neighbour_from_camera, np.eye(3, 4))
    with open_engine(exported, "onnxruntime-cpu") as engine:
        assert not wrong(engine.infer(golden.image, golden.views), golden.outputs)
        assert wrong(engine.infer(golden.image), golden.outputs), "the single view gives something else"


def wrong(found: object, wanted: object, numerics: str = "fp32") -> list[str]:
    return violations(*summary([compare(found, wanted)]), numerics)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_stream_of_two_frames_is_what_the_network_says(exported: Path, backend: str) -> None:
    """The features that the engine gives for one frame go back in with the next, as on a robot."""
    manifest = read_manifest(exported)
    graph = published_graph(network(), None, (1, 1, 1), VIEWS)
    assert isinstance(graph, CrossViewGraph)
    image = photographs(SIZE, None)[0]
    camera, pose = camera_of(image), moved_cameras(1)
    earlier = seen_from(image, pose[0], camera)
    with open_engine(exported, backend) as engine:
        engine.infer(earlier)
        assert engine.features is not None
        views = Neighbours(engine.features, pose, camera)
        found = engine.infer(image, views)
        wanted, features = reference_views(graph, image, views, manifest.label_space)
        assert not wrong(found, wanted, engine.numerics or "fp32")
        apart = np.abs(engine.features - features).mean() / np.abs(features).mean()
        assert apart < FEATURES_REL[engine.numerics or "fp32"]


def test_geometry_stays_in_full_precision_in_a_typed_graph(half: Path) -> None:
    """From poses and intrinsics to the sampled matches no tensor is narrower; the weights are."""
    model = onnx.shape_inference.infer_shapes(onnx.load(half / GRAPH_NAME))
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in [*model.graph.value_info, *model.graph.input]
    }
    reached = {"neighbour_from_camera", "intrinsics"}
    for node in model.graph.node:
        if node.op_type == "GridSample":
            assert {types[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT}
            break
        if reached.intersection(node.input) and node.op_type not in ("Where", "MatMul"):
            reached.update(name for name in node.output if types.get(name) != TensorProto.BOOL)
    else:
        raise AssertionError("nothing is sampled")
    assert len(reached) > 20
    assert TensorProto.FLOAT16 not in {types.get(name) for name in reached}
    large = [
        tensor for tensor in model.graph.initializer if np.prod(tensor.dims) > 20_000 and len(tensor.dims) > 1
    ]
    assert {tensor.data_type for tensor in large} == {TensorProto.FLOAT16}


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT-RTX has wheels for x86-64 and Python >= 3.11; run on such a machine",
)
def test_tensorrt_rtx_builds_it(half: Path, exported: Path, tmp_path: Path) -> None:
    from m2h_export.tensorrt_build import build_plan

    for folder in (half, exported):
        plan = tmp_path / "model.plan"
        facts = build_plan(folder / GRAPH_NAME, plan, kind="tensorrt-rtx", compute_capability="8.6")
        assert facts.layers > 100
        assert plan.stat().st_size == facts.plan_bytes


def test_a_checkpoint_of_its_own_and_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "reference_outputs", too_late)
    out = ("--out", str(tmp_path / "engine"))
    for name, tasks, says in (
        ("m2h-nano", "nyud", "these are the weights of m2h-nano: pass --model m2h-nano"),
        ("cvm-conv", "nyud", "these are the weights of cvm-conv: pass --model cvm-conv"),
        ("cvm-nano", "pascal", "trained for the tasks of PASCAL-Context; an engine gives depth,"),
    ):
        path = tmp_path / f"{name}.pt"
        torch.save(build_model(name, tasks=tasks).state_dict(), path)
        assert main([*NANO, "--checkpoint", str(path), *out]) == 2
        assert says in one_line(capsys.readouterr().err)
    plain = (*NANO[2:], "--checkpoint", str(tmp_path / "m2h-nano.pt"))
    assert main(["--model", "m2h-nano+cvm", *plain, *out]) == 2
    assert "the weights of m2h-nano alone" in one_line(capsys.readouterr().err)
    model = build_model("cvm-nano")
    fill_weights(model, 3)
    torch.save(model.state_dict(), tmp_path / "own.pt")
    with pytest.raises(AssertionError, match="the long work began"):
        main([*NANO, "--checkpoint", str(tmp_path / "own.pt"), *out])
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "m2h-nano", "--views", "2"), "--views 2: m2h-nano looks at one view"),
        (("--precision", "int8"), "--precision int8: cvm-nano is a cross-view network"),
        (("--no-ggfm",), "cvm-nano: mixing and ggfm are M2H's"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_one_line_before_the_long_work(
    arguments: tuple[str, ...],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build, "reference_outputs", too_late)
    assert main([*NANO, "--random-weights", "--out", str(tmp_path / "engine"), *arguments]) == 2
    assert says in one_line(capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_more_views_than_there_are_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*NANO, "--random-weights", "--views", "4", "--out", str(tmp_path / "engine")])
    assert "--views" in one_line(capsys.readouterr().err)


def too_late(*_: object) -> object:
    raise AssertionError("the long work began")


def one_line(err: str) -> str:
    """The only line on stderr, without the command's name."""
    assert err.startswith("m2h-export: ")
    assert err.count("\n") == 1, err
    return err.removeprefix("m2h-export: ").strip()


@pytest.mark.slow  # one more trace, of M2H with the module
def test_three_views_and_m2h(tmp_path: Path, pictures: str) -> None:
    folder = tmp_path / "engine"
    options = ("--views", "3", "--random-weights", "--images", pictures, "--out", str(folder))
    assert main(["--model", "m2h-nano+cvm", *NANO[2:], *options]) == 0
    manifest = read_manifest(folder)
    assert manifest.views == Views(neighbours=2, channels=64, stride=8, near_m=0.25, far_m=10.0)
    golden = read_golden(folder, manifest)
    assert golden.views is not None
    with open_engine(folder, "onnxruntime-cpu") as engine:
        assert not wrong(engine.infer(golden.image, golden.views), golden.outputs)
        assert wrong(engine.infer(golden.image), golden.outputs)
