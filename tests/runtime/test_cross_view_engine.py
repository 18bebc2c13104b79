"""Contract 2: engines that compare a frame with earlier ones, on every CPU backend; and contract 1 beside it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from tiny_engine import (
    SIZE,
    VIEWS,
    features_of,
    make_tiny_engine,
    neighbours,
    picture,
    twin,
    twin_among,
)

from m2h_runtime import open_engine
from m2h_runtime.engine import manifest as manifest_module
from m2h_runtime.engine.contract import (
    Neighbours,
    Views,
    contract_version,
    input_specs,
    output_specs,
    single_view,
)
from m2h_runtime.engine.manifest import GOLDEN_NAME, MANIFEST_NAME, file_facts, read_manifest
from m2h_runtime.engine.parity import compare, summary, violations
from m2h_runtime.engine.select import backend_class
from m2h_runtime.engine.selftest import read_golden, write_golden
from m2h_runtime.errors import ContractError, EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from m2h_runtime.perception import Perception

CPU_BACKENDS = ("onnxruntime-cpu", "openvino", "openvino-bf16")


@pytest.fixture(params=CPU_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if (why := backend_class(name).unavailable()) is not None:
        pytest.skip(f"{name}: {why}; runs on machines that have it")
    return name


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-view engine of one neighbour."""
    return make_tiny_engine(tmp_path_factory.mktemp("engines") / "pair", views=VIEWS)


@pytest.fixture(scope="module")
def triple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-view engine of two neighbours."""
    return make_tiny_engine(tmp_path_factory.mktemp("engines") / "triple", views=replace(VIEWS, neighbours=2))


@pytest.fixture
def copy(pair: Path, tmp_path: Path) -> Path:
    """An engine folder of one's own, to spoil."""
    return shutil.copytree(pair, tmp_path / "engine")


def edit(folder: Path, **settings: Any) -> None:
    path = folder / MANIFEST_NAME
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))


def agree(got: Perception, wanted: Perception, numerics: str | None) -> bool:
    return not violations(*summary([compare(got, wanted)]), numerics or "fp32")


# Inference


def test_neighbours_poses_and_intrinsics_reach_the_graph(backend: str, triple: Path) -> None:
    near = neighbours(3, 2)
    with open_engine(triple, backend) as engine:
        got = engine.infer(picture(1), near)
        assert agree(got, twin_among(picture(1), near), engine.numerics)
        for other in (
            neighbours(4, 2),
            Neighbours(near.features, near.neighbour_from_camera[::-1].copy(), near.intrinsics),
            Neighbours(near.features, near.neighbour_from_camera, near.intrinsics * 9),
        ):
            if not np.isclose(depth_of(other), depth_of(near), rtol=0.02):
                assert not agree(got, twin_among(picture(1), other), engine.numerics), (
                    "this comparison can fail"
                )


def depth_of(views: Neighbours) -> float:
    return float(twin_among(picture(1), views).depth.mean())


def test_the_features_are_the_callers_own(backend: str, pair: Path) -> None:
    with open_engine(pair, backend) as engine:
        engine.infer(picture(1))
        first = engine.features
        assert first is not None
        engine.infer(picture(2))
        assert engine.features is not None
        np.testing.assert_allclose(first, features_of(picture(1)), atol=0.01)
        np.testing.assert_allclose(engine.features, features_of(picture(2)), atol=0.01)
        assert (first.dtype, first.shape) == (np.float32, (1, 3, 8, 12))


def test_features_handed_back_in_are_taken_as_they_are(backend: str, pair: Path) -> None:
    """The way of a stream: what came out of one frame goes in with the next."""
    with open_engine(pair, backend) as engine:
        engine.infer(picture(6))
        assert engine.features is not None
        known = neighbours()
        near = Neighbours(engine.features, known.neighbour_from_camera, known.intrinsics)
        assert agree(engine.infer(picture(7), near), twin_among(picture(7), near), engine.numerics)


def test_without_neighbours_it_is_a_single_view(backend: str, pair: Path) -> None:
    with open_engine(pair, backend) as engine:
        assert agree(engine.infer(picture(1)), twin(picture(1)), engine.numerics)
        alone = single_view(*SIZE, VIEWS)
        np.testing.assert_array_equal(engine.infer(picture(1), alone).depth, engine.infer(picture(1)).depth)


def test_wrong_neighbours_name_what_was_expected(pair: Path) -> None:
    near = neighbours()
    small = np.zeros((1, 3, 4, 6), np.float32)
    with open_engine(pair, "onnxruntime-cpu") as engine:
        with pytest.raises(
            ContractError, match=r"neighbour_features: expected \(1, 3, 8, 12\).*got \(1, 3, 4, 6\)"
        ):
            engine.infer(picture(1), Neighbours(small, near.neighbour_from_camera, near.intrinsics))
        with pytest.raises(ContractError, match=r"neighbour_features: expected \(1, .*got \(2, "):
            engine.infer(picture(1), neighbours(count=2))


def test_a_single_view_engine_takes_no_neighbours(tiny_engine: Path) -> None:
    with open_engine(tiny_engine, "onnxruntime-cpu") as engine:
        with pytest.raises(ContractError, match="tiny: is a single-view engine; give it no neighbours"):
            engine.infer(picture(1), neighbours())
        engine.infer(picture(1))
        assert engine.features is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"features": np.zeros((1, 3, 8, 12))}, "neighbour_features: expected .* float32"),
        ({"neighbour_from_camera": np.zeros((2, 3, 4), np.float32)}, r"expected \(1, 3, 4\)"),
        ({"neighbour_from_camera": np.full((1, 3, 4), np.nan, np.float32)}, "not finite"),
        ({"intrinsics": np.float32((0, 80, 1, 1))}, "focal length is not positive"),
        ({"intrinsics": np.float32((80, 80, np.inf, 1))}, "not finite"),
    ],
    ids=["double", "poses", "nan", "focal", "inf"],
)
def test_neighbours_are_checked_as_they_are_made(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ContractError, match=complaint):
        replace(neighbours(), **change)


# The contract


def test_sizes_that_the_stride_does_not_divide_count_what_is_left_over() -> None:
    views = Views(2, 128, 8)
    shapes = {
        spec.name: spec.shape for spec in (*input_specs(450, 577, views), *output_specs(450, 577, views))
    }
    assert shapes["neighbour_features"] == (2, 128, 57, 73)
    assert shapes["features"] == (1, 128, 57, 73)
    assert shapes["neighbour_from_camera"] == (2, 3, 4)
    assert list(shapes)[:4] == ["image", "neighbour_features", "neighbour_from_camera", "intrinsics"]


def test_single_view_engines_keep_contract_1_which_older_runtimes_read(tiny_engine: Path, pair: Path) -> None:
    assert (contract_version(None), contract_version(VIEWS)) == (1, 2)
    old, new = (yaml.safe_load((folder / MANIFEST_NAME).read_text()) for folder in (tiny_engine, pair))
    assert old["contract"] == 1
    assert "views" not in old, "a runtime of contract 1 refuses settings that it does not know"
    assert new["contract"] == 2
    assert new["views"] == {"neighbours": 1, "channels": 3, "stride": 8, "near_m": 0.25, "far_m": 10.0}
    assert read_manifest(pair).views == VIEWS
    assert read_manifest(tiny_engine).views is None


def test_a_runtime_of_contract_1_refuses_the_engine_by_its_contract(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_module, "CONTRACT_VERSION", 1)
    with pytest.raises(
        EngineError, match=r"engine contract 2, this runtime knows up to 1; upgrade m2h-runtime"
    ):
        open_engine(pair)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"contract": 1}, "views need engine contract 2, it says 1"),
        ({"views": {"neighbors": 1}}, r"no setting 'views.neighbors'; the nearest is 'views.neighbours'"),
        ({"views": {"neighbours": 0}}, "they count from 1"),
        ({"views": {"channels": 12.5}}, "they count from 1"),
        ({"views": {"near_m": 5.0, "far_m": 2.0}}, "5.0 m to 2.0 m is no range of depths"),
        ({"views": 3}, "'?views"),
    ],
    ids=["contract", "unknown", "none", "half", "range", "number"],
)
def test_a_manifest_with_wrong_views_is_one_line(
    copy: Path, settings: dict[str, Any], complaint: str
) -> None:
    edit(copy, **settings)
    with pytest.raises(EngineError, match=complaint) as caught:
        open_engine(copy)
    assert "\n" not in str(caught.value)


# The golden frame


def test_the_golden_frame_is_of_two_views(backend: str, pair: Path, tmp_path: Path) -> None:
    golden = read_golden(pair, read_manifest(pair))
    assert golden.views is not None
    with np.load(pair / GOLDEN_NAME) as stored:
        assert stored["neighbour_features"].dtype == np.float16
    lies = make_tiny_engine(tmp_path / "lies", views=VIEWS, golden=twin(picture(0)))
    with pytest.raises(EngineError, match=f"on {backend}: wrong answer for the golden frame"):
        open_engine(lies, backend)


def test_a_golden_frame_without_neighbours_is_refused(copy: Path) -> None:
    write_golden(copy, picture(0), twin(picture(0)))
    files = read_manifest(copy).files | {GOLDEN_NAME: file_facts(copy / GOLDEN_NAME)}
    replace(read_manifest(copy), files=files).write(copy)
    with pytest.raises(EngineError, match=r"unreadable golden frame \(.*neighbour_features"):
        open_engine(copy, "onnxruntime-cpu")
