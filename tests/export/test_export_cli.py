"""m2h-export as its user meets it: real processes, real folders. Tracing is real once, see quick_export.py."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from golden import NANO_SIZE, filled
from quick_export import traced_in
from rich.console import Console

from m2h_export import build, verify
from m2h_export.build import ExportSpec, export_engine
from m2h_export.cli import main
from m2h_export.deploy.contract_stage import reference_perception
from m2h_export.deploy.graph import export_graph
from m2h_export.deploy.network import DeployM2H
from m2h_export.photographs import photographs
from m2h_export.steps import Steps
from m2h_runtime import open_engine
from m2h_runtime.engine.manifest import (
    GOLDEN_NAME,
    GRAPH_NAME,
    MANIFEST_NAME,
    check_files,
    read_manifest,
    sha256_of,
)
from m2h_runtime.engine.parity import Figures, compare, summary, violations
from m2h_runtime.engine.select import BACKENDS, backend_class
from m2h_runtime.engine.selftest import read_golden
from m2h_runtime.errors import BackendUnavailableError, ParityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Traced

    from m2h_export.models import M2H

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "m2h_export.cli"]
SIZE = f"{NANO_SIZE[0]}x{NANO_SIZE[1]}"
NANO = ("--model", "m2h-nano", "--size", SIZE)
RANDOM = (*NANO, "--random-weights")
FILES = {MANIFEST_NAME, GRAPH_NAME, GOLDEN_NAME}
CPU_BACKENDS = [
    name for name in ("onnxruntime-cpu", "openvino", "openvino-bf16") if not backend_class(name).unavailable()
]


def ready(before: Callable[[], None] | None = None) -> Callable[[], None]:
    """For the child: Ctrl-C works, also where the tests themselves run in the background; then a limit."""

    def in_child() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if before is not None:
            before()

    return in_child


def start(
    command: list[str], *arguments: object, before: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "export")))},
        preexec_fn=ready(before),
    )


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=200)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def quick(traced: Traced) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("quick_export.py")), str(traced.folder)]


def one_line(err: str) -> str:
    """The only line on stderr, without the command's name."""
    assert err.startswith("m2h-export: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    return err.removeprefix("m2h-export: ").strip()


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The engine that a real `m2h-export` made, with nothing replaced, and what it printed."""
    folder = tmp_path_factory.mktemp("exported") / "deeper" / "nano"
    done = finish(start(COMMAND, *RANDOM, "--seed", 5, "--out", folder))
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the `traced` graphs, as a checkpoint."""
    path = tmp_path_factory.mktemp("weights") / "nano.pt"
    torch.save(filled("m2h-nano").state_dict(), path)
    return path


@pytest.fixture
def engine_copy(exported: tuple[Path, str], tmp_path: Path) -> Path:
    return shutil.copytree(exported[0], tmp_path / "work" / "nano")


@pytest.fixture
def export_here(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> Callable[..., build.Manifest]:
    """`export_engine` in this process, with the traced graphs."""
    monkeypatch.setattr(build, "export_graph", traced_in(traced.folder))

    def run(out: Path, **settings: object) -> build.Manifest:
        usual = {
            "model": "m2h-nano",
            "checkpoint": None,
            "size": NANO_SIZE,
            "precision": "fp32",
            "target": "onnx",
        }
        return export_engine(ExportSpec(**(usual | {"out": out} | settings)), Steps(Console(quiet=True)))

    return run


# An engine is made


def test_export_makes_a_verified_engine(exported: tuple[Path, str]) -> None:
    folder, printed = exported
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["nano"]
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    assert manifest.files.keys() == FILES - {MANIFEST_NAME}
    for name, facts in manifest.files.items():
        assert (facts.sha256, facts.bytes) == (sha256_of(folder / name), (folder / name).stat().st_size)
    assert (manifest.name, manifest.size, manifest.precision) == ("m2h-nano", NANO_SIZE, "fp32")
    assert (manifest.target.kind, manifest.normals_frame, manifest.label_space.name) == (
        "onnx",
        "camera_optical",
        "nyudv2_40",
    )
    assert manifest.graph.nodes < manifest.graph.nodes_as_published
    assert manifest.graph.gflop < manifest.graph.gflop_as_published
    assert manifest.graph.opset >= 17
    assert {"torch", "onnx", "onnxruntime", "python"} <= manifest.tools.keys()
    assert f"{folder}: pass" in printed
    assert str(manifest.graph.nodes) in printed


def test_manifest_has_the_figures_of_each_backend(exported: tuple[Path, str]) -> None:
    folder, printed = exported
    parity = read_manifest(folder).parity
    assert parity.verdict == "pass"
    assert re.fullmatch(r"PyTorch \S+ fp32", parity.reference)
    assert set(CPU_BACKENDS) <= {run.backend for run in parity.runs}
    for run in parity.runs:
        assert (run.verdict, run.images) == ("pass", 8)
        assert run.mean.keys() == run.worst.keys() == set(Figures.__dataclass_fields__)
        assert run.worst["nonfinite"] == 0
        assert run.worst["label_agreement"] <= run.mean["label_agreement"] <= 1
        assert run.backend in printed
    assert parity.runs[0].backend == "onnxruntime-cpu"
    assert parity.runs[0].mean["normal_deg"] < 0.01


def test_random_weights_are_marked(exported: tuple[Path, str]) -> None:
    folder, printed = exported
    checkpoint = read_manifest(folder).checkpoint
    assert (checkpoint.random_weights, checkpoint.seed, checkpoint.sha256) == (True, 5, "")
    assert "random weights, seed 5" in checkpoint.file
    assert "RANDOM WEIGHTS" in printed


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_engine_opens_and_infers_as_the_network_does(
    exported: tuple[Path, str], backend: str, traced: Traced
) -> None:
    folder, _ = exported
    image = photographs(NANO_SIZE, None)[2]
    wanted = reference(filled("m2h-nano", 5), image, folder)
    with open_engine(folder, backend) as engine:
        figures = compare(engine.infer(image), wanted)
        assert not violations(*summary([figures]), engine.numerics or "fp32")
        other = compare(engine.infer(image), reference(filled("m2h-nano"), image, folder))
        assert violations(*summary([other]), engine.numerics or "fp32"), "the weights are those of --seed"


def reference(model: M2H, image: np.ndarray, folder: Path) -> object:
    return reference_perception(
        build.published_graph(model, None, (1, 1, 1)), image, read_manifest(folder).label_space
    )


def test_golden_frame_is_what_the_network_says(exported: tuple[Path, str]) -> None:
    folder, _ = exported
    golden = read_golden(folder, read_manifest(folder))
    assert np.array_equal(golden.image, photographs(NANO_SIZE, None)[0])
    wanted = reference(filled("m2h-nano", 5), golden.image, folder)
    mean, worst = summary([compare(golden.outputs, wanted)])
    assert not violations(mean, worst, "fp32")
    assert mean["label_agreement"] == 1


def test_export_over_an_engine_replaces_it_whole(engine_copy: Path, weights: Path, traced: Traced) -> None:
    """And --checkpoint is recorded. All the while the folder holds a whole engine, or for an instant none."""
    before = hashes(engine_copy)
    process = start(quick(traced), *NANO, "--checkpoint", weights, "--out", engine_copy)
    seen = set()
    while process.poll() is None:
        try:
            seen.add(frozenset(os.listdir(engine_copy)))  # noqa: PTH208 (one call, one moment)
        except FileNotFoundError:
            seen.add(frozenset(FILES))
        time.sleep(0.001)
    done = finish(process)
    assert (done.returncode, done.stderr) == (0, "")
    assert seen == {frozenset(FILES)}
    assert [path.name for path in engine_copy.parent.iterdir()] == ["nano"]
    after = hashes(engine_copy)
    assert all(after[name] != before[name] for name in FILES)
    manifest = read_manifest(engine_copy)
    check_files(engine_copy, manifest)
    assert (manifest.checkpoint.file, manifest.checkpoint.sha256) == ("nano.pt", sha256_of(weights))
    assert not manifest.checkpoint.random_weights
    assert "RANDOM" not in done.stdout
    with open_engine(engine_copy, "onnxruntime-cpu") as engine:
        assert engine.backend == "onnxruntime-cpu"


def test_half_precision_engines(
    export_here: Callable[..., build.Manifest], traced: Traced, tmp_path: Path
) -> None:
    full = len(traced.deploy.SerializeToString())
    half = export_here(tmp_path / "half", precision="fp16")
    stored = export_here(tmp_path / "stored", half_weights=True)
    assert (half.precision, half.weights, stored.precision, stored.weights) == (
        "fp16",
        "fp16",
        "fp32",
        "fp16",
    )
    for manifest, folder in ((half, tmp_path / "half"), (stored, tmp_path / "stored")):
        assert manifest.parity.verdict == "pass"
        assert manifest.files[GRAPH_NAME].bytes < 0.56 * full
        assert read_manifest(folder) == manifest
        with open_engine(folder, "onnxruntime-cpu") as engine:
            engine.infer(photographs(NANO_SIZE, None)[1])


def test_int8_engine_runs_and_passes(
    export_here: Callable[..., build.Manifest], traced: Traced, tmp_path: Path
) -> None:
    made = export_here(tmp_path / "int8", precision="int8")
    assert (made.precision, made.weights, made.parity.verdict) == ("int8", "int8", "pass")
    assert made.files[GRAPH_NAME].bytes < 0.75 * len(traced.deploy.SerializeToString())
    assert {run.backend for run in made.parity.runs} >= {"onnxruntime-cpu", "openvino"}
    with open_engine(tmp_path / "int8", "openvino") as engine:  # its self-test is the golden frame
        engine.infer(photographs(NANO_SIZE, None)[1])


def test_own_pictures_are_used(
    export_here: Callable[..., build.Manifest], tmp_path: Path, photographs: Path
) -> None:
    manifest = export_here(tmp_path / "engine", images=str(photographs / "*.png"))
    assert {run.images for run in manifest.parity.runs} == {4}


def test_a_secondary_backend_that_fails_is_recorded_and_not_used(
    export_here: Callable[..., build.Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "openvino-bf16" not in CPU_BACKENDS:
        pytest.skip("openvino is missing; runs on machines that have it")

    def wrong(backend: str, *arguments: object) -> object:
        """Compares one backend with the references of other pictures."""
        if backend == "openvino-bf16":
            *rest, references = arguments
            arguments = (*rest, references[1:] + references[:1])
        return verify.verify(backend, *arguments)

    monkeypatch.setattr(build, "verify", wrong)
    manifest = export_here(tmp_path / "engine")
    assert manifest.parity.verdict == "pass"
    assert {run.backend: run.verdict for run in manifest.parity.runs}["openvino-bf16"] == "fail"
    with pytest.raises(BackendUnavailableError, match="failed the parity check"):
        open_engine(tmp_path / "engine", "openvino-bf16")
    with open_engine(tmp_path / "engine") as engine:
        assert engine.backend in set(BACKENDS) - {"openvino-bf16"}


# Nothing is made


def damaged(weight: str) -> type[DeployM2H]:
    class Damaged(DeployM2H):
        def __init__(self, published: M2H, size: tuple[int, int]) -> None:
            super().__init__(published, size)
            self.state_dict()[weight].mul_(1.2)

    return Damaged


def test_an_engine_that_differs_is_not_written(
    export_here: Callable[..., build.Manifest],
    traced: Traced,
    engine_copy: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One rewritten weight is 20 % off; the graph is traced, run and compared for real. The old engine stays."""
    before = hashes(engine_copy)
    published = traced_in(traced.folder)
    monkeypatch.setattr(build, "DeployM2H", damaged("normals.tail.residual.weight"))
    monkeypatch.setattr(
        build,
        "export_graph",
        lambda graph, size: (export_graph if isinstance(graph.network, DeployM2H) else published)(
            graph, size
        ),
    )
    with pytest.raises(
        ParityError, match=r"^onnxruntime-cpu: .*normal_deg .* > 0\.1.*nothing was written"
    ) as caught:
        export_here(engine_copy)
    assert "\n" not in str(caught.value)
    assert "depth_rel" not in str(caught.value), "only the damaged task is blamed"
    assert hashes(engine_copy) == before
    assert [path.name for path in engine_copy.parent.iterdir()] == ["nano"]


def test_failed_parity_is_one_line_and_exit_code_2(
    traced: Traced, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The traced graphs have the weights of seed 0."""
    monkeypatch.setattr(build, "export_graph", traced_in(traced.folder))
    assert main([*RANDOM, "--seed", "1", "--out", str(tmp_path / "made" / "engine")]) == 2
    assert "nothing was written" in one_line(capsys.readouterr().err)
    assert not list((tmp_path / "made").iterdir())


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 100
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def test_ctrl_c_while_files_are_written_leaves_the_old_engine(traced: Traced, engine_copy: Path) -> None:
    parent, before = engine_copy.parent, hashes(engine_copy)
    process = start(quick(traced), *RANDOM, "--out", engine_copy)
    wait_for(lambda: list(parent.glob(f".nano.*/{GRAPH_NAME}")), process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.returncode == 130
    assert one_line(done.stderr) == "interrupted; nothing was written"
    assert [path.name for path in parent.iterdir()] == ["nano"]
    assert hashes(engine_copy) == before


def test_ctrl_c_while_tracing_leaves_nothing(tmp_path: Path) -> None:
    process = start(COMMAND, *RANDOM, "--out", tmp_path / "engine")
    assert process.stdout is not None
    assert "parameters" in process.stdout.readline()
    assert "reference" in process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.returncode == 130
    assert one_line(done.stderr) == "interrupted; nothing was written"
    assert not list(tmp_path.iterdir())


def test_full_disk_is_one_line_and_leaves_nothing(traced: Traced, tmp_path: Path) -> None:
    """No file of the child may grow beyond 4 MB; the graph has 17."""
    limit = 4_000_000
    process = start(
        quick(traced),
        *RANDOM,
        "--out",
        tmp_path / "engine",
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    done = finish(process)
    assert done.returncode == 2
    assert one_line(done.stderr).startswith(f"{tmp_path / 'engine'}: cannot be written (file too large)")
    assert not list(tmp_path.iterdir())


def test_unknown_model_in_a_real_process(tmp_path: Path) -> None:
    done = finish(
        start(
            COMMAND, "--model", "m2h-tiny", "--random-weights", "--size", SIZE, "--out", tmp_path / "engine"
        )
    )
    assert done.returncode == 2
    assert one_line(done.stderr).startswith("no network 'm2h-tiny'; there are m2h, ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--size", "55x144"), "--size 55x144: height and width go from 56 to 2048 pixels"),
        (("--size", "112x2049"), "--size 112x2049: height and width go from 56 to 2048 pixels"),
        (("--size", "0x0"), "--size 0x0"),
        (("--model", "resnet"), "no network 'resnet'"),
        (("--classes", "0"), "--classes 0: a class id is one byte"),
        (("--classes", "-3"), "--classes -3: a class id is one byte"),
        (("--classes", "300"), "--classes 300: a class id is one byte"),
        (("--label-space", "cityscapes"), "no label space 'cityscapes'; there are"),
        (("--label-space", "nyud20"), "--label-space nyud20: has 21 classes, the network 41"),
        (("--max-depth", "0"), "--max-depth 0.0: has to be more than 0.001 metres"),
        (("--max-depth", "nan"), "--max-depth nan: has to be more than 0.001 metres"),
        (("--half-weights", "--precision", "fp16"), "--half-weights is for --precision fp32"),
        (("--half-weights", "--precision", "int8"), "--half-weights is for --precision fp32"),
        (("--calibration-images", "*.jpg"), "--calibration-images are for --precision int8"),
        (
            ("--precision", "int8", "--target", "tensorrt-rtx", "--compute-capability", "8.6"),
            "--target tensorrt-rtx: int8 is for --target openvino",
        ),
        (("--compute-capability", "8.6"), "--compute-capability is for --target tensorrt-rtx"),
        (("--images", "/nowhere/*.jpg"), "/nowhere/*.jpg: no file matches"),
        (("--images", __file__), f"{__file__}: not a picture that OpenCV reads"),
        (("--out", f"{__file__}/engine"), f"{__file__}/engine: cannot be made, {__file__} is a file"),
        (("--out", f"{__file__}/a/b/engine"), f"cannot be made, {__file__} is a file"),
        (("--out", __file__), f"{__file__}: is a file; --out takes a folder"),
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
    def too_late(*_: object) -> object:
        raise AssertionError("the long work began")

    monkeypatch.setattr(build, "reference_outputs", too_late)
    monkeypatch.setattr(build, "export_graph", too_late)
    assert main([*RANDOM, "--out", str(tmp_path / "engine"), *arguments]) == 2
    assert says in one_line(capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_missing_or_foreign_checkpoint_is_one_line(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "engine")
    assert main([*NANO, "--checkpoint", str(tmp_path / "none.pt"), "--out", out]) == 2
    assert "no such checkpoint file" in one_line(capsys.readouterr().err)
    assert main(["--model", "m2h", "--size", SIZE, "--checkpoint", str(weights), "--out", out]) == 2
    assert one_line(capsys.readouterr().err).endswith("pass --model m2h-nano")
    assert main([*NANO, "--checkpoint", str(weights), "--no-ggfm", "--out", out]) == 2
    assert "tensors too many" in one_line(capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_engine_is_left_as_it_was(tmp_path: Path) -> None:
    thesis = tmp_path / "documents" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("ten years of work")
    done = finish(start(COMMAND, *RANDOM, "--out", thesis.parent))
    assert done.returncode == 2
    assert one_line(done.stderr).startswith(f"{thesis.parent}: not empty and no engine")
    assert [path.name for path in tmp_path.iterdir()] == ["documents"]
    assert list(thesis.parent.iterdir()) == [thesis]
    assert thesis.read_text() == "ten years of work"


@pytest.mark.parametrize(
    "arguments",
    [
        NANO,
        (*RANDOM, "--checkpoint", "weights.pt"),
        ("--model", "m2h-nano", "--random-weights"),
        (*RANDOM, "--size", "224"),
        (*RANDOM, "--size", "-5x10"),
        (*RANDOM, "--precision", "int4"),
        (*RANDOM, "--normals-sign", "1,2,3"),
        (*RANDOM, "--target", "cuda"),
    ],
    ids=" ".join,
)
def test_usage_errors_are_one_line(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--out", str(tmp_path / "engine")])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("m2h-export: ")
    assert said.endswith("; see m2h-export --help\n")
    assert said.count("\n") == 1


def test_help_needs_no_torch() -> None:
    code = "import sys; sys.modules.update(torch=None, onnx=None); from m2h_export.cli import main; main(['--help'])"
    done = finish(start([sys.executable, "-c", code]))
    assert (done.returncode, done.stderr) == (0, "")
    assert "example: m2h-export" in done.stdout


def test_without_torch_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from m2h_export.cli import main; sys.exit(main())"
    done = finish(start([sys.executable, "-c", code], *RANDOM, "--out", tmp_path / "engine"))
    assert done.returncode == 2
    assert one_line(done.stderr) == "the package torch is missing: pip install 'm2h-runtime[export]'"


def test_exported_graph_is_the_one_on_disk(exported: tuple[Path, str]) -> None:
    graph = onnx.load(exported[0] / GRAPH_NAME)
    assert (
        len([n for n in graph.graph.node if n.op_type != "Constant"])
        == read_manifest(exported[0]).graph.nodes
    )
