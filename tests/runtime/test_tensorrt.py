"""The checks before a plan is loaded, and what happens on a machine without a GPU. Running a plan needs one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from m2h_runtime import open_engine
from m2h_runtime.engine import cuda
from m2h_runtime.engine.manifest import Target, read_manifest
from m2h_runtime.engine.select import fitting_backends
from m2h_runtime.engine.tensorrt import TensorRTEngine, TensorRTRtxEngine, check_device, check_version
from m2h_runtime.errors import BackendUnavailableError, EngineMismatchError

if TYPE_CHECKING:
    from pathlib import Path

needs_no_gpu = pytest.mark.skipif(
    cuda.device_problem() is None, reason="there is a GPU: a machine without one runs this"
)


def test_another_version_names_both_and_the_command(tiny_engine: Path) -> None:
    manifest = replace(read_manifest(tiny_engine), target=Target("tensorrt", "10.3.0", "8.7", "Orin"))
    check_version(manifest, "tensorrt", "10.3.0")
    with pytest.raises(
        EngineMismatchError, match=r"10\.3\.0.*10\.13\.3.*m2h-export .*--target tensorrt --out"
    ):
        check_version(manifest, "tensorrt", "10.13.3")


def test_another_device_names_both_and_the_command(tiny_engine: Path) -> None:
    manifest = replace(read_manifest(tiny_engine), target=Target("tensorrt-rtx", "1.7.1", "8.6", None))
    check_device(manifest, "8.6")
    with pytest.raises(EngineMismatchError, match=r"8\.6.*this GPU is 8\.9.*--compute-capability 8\.9"):
        check_device(manifest, "8.9")


@needs_no_gpu
@pytest.mark.parametrize("kind", [TensorRTEngine, TensorRTRtxEngine])
def test_without_a_gpu_the_reason_is_one_line(kind: type[TensorRTEngine]) -> None:
    why = kind.unavailable()
    assert why is not None
    assert "\n" not in why
    assert "pip install" in why or "JetPack" in why or "driver" in why


@needs_no_gpu
def test_asking_for_it_without_a_plan_says_how_to_make_one(tiny_engine: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="m2h-export --target tensorrt-rtx"):
        open_engine(tiny_engine, "tensorrt-rtx")
    reasons = fitting_backends(tiny_engine, read_manifest(tiny_engine))
    assert reasons["onnxruntime-cpu"] is None
    assert "--target tensorrt" in str(reasons["tensorrt"])
