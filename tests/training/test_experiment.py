"""Experiments: what is read, and what a mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import YAML, experiment

from m2h_export.training.experiment import (
    OptimiserSettings,
    Stage,
    changed_keys,
    parse_experiment,
    read_experiment,
)
from m2h_export.training.optimisation import learning_rate
from m2h_runtime.errors import InputError

EXPERIMENTS = sorted((Path(__file__).parents[2] / "export" / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_our_experiments_are_valid_and_survive_writing(path: Path) -> None:
    one = read_experiment(path)
    assert one.name == path.stem
    assert parse_experiment(one.to_yaml(), "again") == one


def test_there_are_experiments() -> None:
    assert len(EXPERIMENTS) >= 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("loss.lamda_grad=1", "toy.yaml: loss.lamda_grad: no such key; the nearest is loss.lambda_grad"),
        ("optimizer.lr=1", "toy.yaml: optimizer: no such key; the nearest is optimiser"),
        (
            "tasks=[depth, flow]",
            "toy.yaml: tasks[1]: 'flow' is none of depth, semantics, normals, edges, human_parts, saliency",
        ),
        ("tasks=[depth, depth]", "toy.yaml: tasks: one is named twice; name each once"),
        ("data.size=[64]", "toy.yaml: data.size: expected a list of 2, got [64]"),
        ("data.size=[64, 8]", "toy.yaml: data.size: [64, 8] is too small; give at least 16 pixels"),
        ("batch=2.5", "toy.yaml: batch: expected a whole number, got 2.5"),
        ("batch=true", "toy.yaml: batch: expected a whole number, got True"),
        ("batch=0", "toy.yaml: batch: 0 must be above 0"),
        ("optimiser.lr=fast", "toy.yaml: optimiser.lr: expected a number, got 'fast'"),
        ("optimiser.lr=.nan", "toy.yaml: optimiser.lr: expected a number, got nan"),
        ("precision=fp8", "toy.yaml: precision: 'fp8' is none of fp32, bf16, fp16"),
        ("steps=null", "toy.yaml: steps: missing; give steps, or stages with steps of their own"),
        (
            "stages=[{steps: 5}]",
            "toy.yaml: steps: 12, but the stages have 5 together; leave one of them out",
        ),
        ("model=null", "toy.yaml: model: expected keys with values, got None"),
        ("steps", "--set steps: expected KEY=VALUE, e.g. --set optimiser.lr=1e-4"),
        ("seed.x=1", "--set seed.x=1: seed has no keys of its own; see the experiment's file"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(YAML)
    with pytest.raises(InputError) as error:
        read_experiment(path, [change])
    assert str(error.value).replace(f"{tmp_path}/", "") == message


def test_a_missing_key_a_missing_file_and_broken_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^here: data.cap_m: missing; add it$"):
        parse_experiment(
            "{name: a, steps: 1, model: {name: m2h}, data: {kind: nyudv2, size: [64, 64]}}", "here"
        )
    with pytest.raises(InputError, match="no such file or directory"):
        read_experiment(tmp_path / "none.yaml")
    with pytest.raises(InputError, match=r"^here: not YAML"):
        parse_experiment("a: [", "here")
    with pytest.raises(InputError, match=r"^here: expected keys"):
        parse_experiment("- a", "here")


def test_changes_win_and_numbers_may_be_written_like_5e_4() -> None:
    one = experiment("optimiser.lr=5e-4", "loss.weights.depth=2", "model.mixing=mha")
    assert one.optimiser.lr == 5e-4
    assert (one.loss.weights.depth, one.loss.weights.edges) == (2.0, 1.0)
    assert changed_keys(experiment(), one) == ["loss.weights.depth", "model.mixing", "optimiser.lr"]


def test_stages_in_order_and_at_another_length() -> None:
    one = experiment(
        "steps=null", "stages=[{steps: 6, size: [32, 48]}, {steps: 3}, {steps: 1, fine_tuning: true}]"
    )
    assert one.total_steps == 10
    assert [one.size_at(step) for step in (0, 5, 6, 9)] == [(32, 48), (32, 48), (64, 64), (64, 64)]
    assert [one.stage_at(step).fine_tuning for step in (0, 8, 9)] == [False, False, True]
    assert [stage.steps for stage in one.with_steps(100).plan] == [60, 30, 10]
    assert [stage.steps for stage in one.with_steps(4).plan] == [2, 1, 1]
    with pytest.raises(InputError, match="too few for 3 stages"):
        one.with_steps(2)
    assert experiment().with_steps(5).plan == (Stage(5),)


def test_learning_rate_warms_up_and_decays() -> None:
    settings = OptimiserSettings(lr=1e-3, warmup_steps=4, power=0.9)
    assert learning_rate(settings, 0, 100) == pytest.approx(1e-3 / 4)
    assert learning_rate(settings, 50, 100) == pytest.approx(1e-3 * 0.5**0.9)
    assert learning_rate(settings, 99, 100) == pytest.approx(1e-3 * 0.01**0.9)
