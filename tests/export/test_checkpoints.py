"""Weight files: all good kinds load, all bad ones are one clear line, and none runs code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from golden import filled
from safetensors.torch import save_file

from m2h_export.build import ExportSpec, load_network
from m2h_export.checkpoints import CLASS_KEY, check_fit, read_checkpoint
from m2h_export.models import build_model
from m2h_runtime.engine.manifest import sha256_of
from m2h_runtime.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


def nano() -> dict[str, Tensor]:
    return filled("m2h-nano").state_dict()


def refusal(path: Path) -> str:
    """The one line that says why a file is not read."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def saved(value: object, *, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


# What loads


WRAPPINGS = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "data parallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "both": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_state_dicts_load_however_they_were_wrapped(wrapping: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(WRAPPINGS[wrapping](nano()), path)
    loaded = read_checkpoint(path)
    assert loaded.num_classes == 41
    assert loaded.sha256 == sha256_of(path)
    assert loaded.state.keys() == nano().keys()
    assert all(torch.equal(loaded.state[name], value) for name, value in nano().items())
    check_fit(loaded, path, "m2h-nano", None)
    check_fit(loaded, path, "m2h-nano", 41)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors_load(prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({f"{prefix}{name}": value for name, value in nano().items()}, path)
    loaded = read_checkpoint(path)
    assert all(torch.equal(loaded.state[name], value) for name, value in nano().items())
    check_fit(loaded, path, "m2h-nano", None)


def test_old_torch_files_load(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(saved(nano(), legacy=True))
    assert read_checkpoint(path).state.keys() == nano().keys()


def test_network_has_the_weights_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(nano(), path)
    model, checkpoint = load_network(spec(path))
    assert not model.training
    assert all(torch.equal(value, nano()[name]) for name, value in model.state_dict().items())
    assert (checkpoint.file, checkpoint.sha256, checkpoint.random_weights) == (
        "weights.pt",
        sha256_of(path),
        False,
    )


def spec(checkpoint: Path, **settings: object) -> ExportSpec:
    usual = {
        "model": "m2h-nano",
        "size": (112, 144),
        "precision": "fp32",
        "target": "onnx",
        "out": Path("unused"),
    }
    return ExportSpec(checkpoint=checkpoint, **(usual | settings))  # type: ignore[arg-type]


# What does not


def test_missing_file(tmp_path: Path) -> None:
    assert "no such checkpoint file" in refusal(tmp_path / "none.pt")
    assert "no such checkpoint file" in refusal(tmp_path)


def test_git_lfs_pointer_says_how_to_get_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m2h_indoor.pt"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 326476753\n")
    assert "git lfs pull --include m2h_indoor.pt" in refusal(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_torch_file(share: float, legacy: bool, tmp_path: Path) -> None:
    data, path = saved(nano(), legacy=legacy), tmp_path / "weights.pt"
    path.write_bytes(data[: int(share * len(data))])
    assert "truncated" in refusal(path)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_truncated_safetensors_file(share: float, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(nano(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "damaged or truncated safetensors file" in refusal(path)


@pytest.mark.parametrize(
    "data", [b"not weights at all\n", b"P", bytes(range(1, 256)), b"\x89PNG\r\n\x1a\n" + bytes(99)]
)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_some_other_file(data: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(data)
    assert "damaged" in refusal(path)
    assert "pickled code" not in refusal(path)


def test_a_flipped_bit_is_never_a_traceback(tmp_path: Path) -> None:
    good, path = saved({CLASS_KEY: torch.zeros(41, 32, 1, 1)}), tmp_path / "weights.pt"
    refused = 0
    for seed in range(300):
        rng, data = np.random.default_rng(seed), bytearray(good)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused


class _Pickled:
    """What an attacker puts into a file: unpickling it makes another file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_code_is_not_run(legacy: bool, tmp_path: Path) -> None:
    path, victim = tmp_path / "weights.pt", tmp_path / "victim"
    path.write_bytes(saved({**nano(), "extra": _Pickled(victim)}, legacy=legacy))
    assert "needs pickled code" in refusal(path)
    assert not victim.exists()
    torch.load(path, weights_only=False)  # ours, just made
    assert victim.exists(), "the file would have done it"


def test_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(filled("m2h-nano"), path)
    assert "save its state_dict() alone" in refusal(path)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([1, 2], "holds a list, expected a state dict"),
        (torch.zeros(3), "holds a Tensor, expected a state dict"),
        ({"lr": 0.1}, "'lr' is a float, expected a tensor"),
        ({0: torch.zeros(3)}, "has the key 0, expected names"),
        ({}, "not the weights of an M2H network"),
        ({"layer1.weight": torch.zeros(3)}, "not the weights of an M2H network"),
        ({CLASS_KEY: torch.tensor(1.0)}, "not the weights of an M2H network"),
    ],
    ids=str,
)
def test_no_state_dict_of_ours(value: object, says: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(value, path)
    assert says in refusal(path)


# Weights of something else


def mismatch(path: Path, model: str, **settings: object) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_network(spec(path, model=model, **settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def nano_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "nano.pt"
    torch.save(nano(), path)
    return path


@pytest.mark.parametrize("asked", ["m2h-small", "m2h", "m2h-vitl"])
def test_weights_of_another_network_name_the_right_one(asked: str, nano_file: Path) -> None:
    message = mismatch(nano_file, asked)
    assert f"not the weights of {asked}" in message
    assert message.endswith("these are the weights of m2h-nano: pass --model m2h-nano")


def test_weights_of_a_full_network_are_known_from_names_and_shapes(tmp_path: Path) -> None:
    """One value stands for each tensor: the file stays small, the shapes are real."""
    with torch.device("meta"):
        full = build_model("m2h", 41).state_dict()
    path = tmp_path / "full.pt"
    torch.save({name: torch.zeros(()).expand(value.shape) for name, value in full.items()}, path)
    assert path.stat().st_size < 1e6
    assert "these are the weights of m2h: pass --model m2h" in mismatch(path, "m2h-small")


def test_other_class_count(nano_file: Path) -> None:
    assert mismatch(nano_file, "m2h-nano", classes=21).endswith("has 41 classes, not 21; pass --classes 41")


def test_class_count_comes_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(build_model("m2h-nano", 21).state_dict(), path)
    model, _ = load_network(spec(path))
    assert model.config.num_classes == 21


def test_one_tensor_missing_too_many_or_misshapen(tmp_path: Path) -> None:
    path, first = tmp_path / "weights.pt", "backbone.cls_token"
    without = {name: value for name, value in nano().items() if name != first}
    for state, says in (
        (without, f"1 tensors missing, the first is {first}"),
        ({**nano(), "extra": torch.zeros(1)}, "1 tensors too many, the first is extra"),
        ({**nano(), first: torch.zeros(1, 1, 7)}, f"{first} is (1, 1, 7), expected (1, 1, 192)"),
    ):
        torch.save(state, path)
        message = mismatch(path, "m2h-nano")
        assert says in message
        assert message.endswith("get another file")


@pytest.mark.parametrize("settings", [{"mixing": "none"}, {"ggfm": False}])
def test_whole_weights_do_not_go_into_an_ablation(settings: dict[str, object], nano_file: Path) -> None:
    assert "tensors too many" in mismatch(nano_file, "m2h-nano", **settings)


def test_weights_of_an_ablation_load_as_such(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(filled("m2h-nano", 0, "none", False).state_dict(), path)
    model, _ = load_network(spec(path, mixing="none", ggfm=False))
    assert (model.config.mixing, model.config.ggfm) == ("none", False)
    assert "tensors missing" in mismatch(path, "m2h-nano")
