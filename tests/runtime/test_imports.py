from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import m2h_runtime

ABSENT = (
    "torch",
    "rclpy",
    "tensorrt",
    "tensorrt_rtx_bindings",
    "openvino",
    "onnxruntime",
    "pycuda",
    "cuda",
    "onnx",
    "aiohttp",
    "matplotlib",
    "pynvml",
    "rerun",
    "scipy",
    "skimage",
    "spark_dsg",
)
HEAVY = ("numpy", "cv2", "yaml", "rich")


def all_modules() -> list[str]:
    root = Path(m2h_runtime.__file__).parent
    names = {
        ".".join(("m2h_runtime", *p.relative_to(root).with_suffix("").parts)) for p in root.rglob("*.py")
    }
    return sorted(name.removesuffix(".__init__") for name in names)


def python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_list_of_modules_is_not_empty() -> None:
    assert {"m2h_runtime", "m2h_runtime.engine.ort", "m2h_runtime.cli.run"} <= set(all_modules())


def test_every_module_imports_on_a_robot_without_optional_libraries() -> None:
    """One process for all: each module is new to it, and an import that fails names the module."""
    python(
        f"import sys, importlib; sys.modules.update(dict.fromkeys({ABSENT!r}))\n"
        f"for name in {all_modules()!r}: importlib.import_module(name)"
    )


def test_the_options_need_nothing_heavy() -> None:
    python(
        f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))\n"
        "from m2h_runtime.cli.run import build_parser; build_parser().format_help()"
    )


def test_the_pinned_names_are_there() -> None:
    python("from m2h_runtime import Engine, Frame, M2HError, Perception, open_engine")
