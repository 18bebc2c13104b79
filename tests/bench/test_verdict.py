"""The verdict on synthetic machines whose noise we know: drifting, spiky, never twice the same."""

from __future__ import annotations

import numpy as np
import pytest

from m2h_runtime.bench.blocks import Block
from m2h_runtime.bench.turns import Pair, verdict_on
from m2h_runtime.bench.verdict import compare_by_reference, compare_runs, compare_turns, judge

REPEATS = 60


def drift(rng: np.random.Generator, count: int, size: float) -> np.ndarray:
    """A disturbance that comes and goes and only ever slows down, as logarithm."""
    wander = np.zeros(count)
    for index in range(1, count):
        wander[index] = 0.9 * wander[index - 1] + rng.normal(0, size)
    return np.maximum(0, wander)


def machine_run(
    rng: np.random.Generator, slower: float = 1.0, *, others: float = 0.05, probe: float = 1.0
) -> list[Block]:
    """Six seconds of an engine of 14 ms: 1 % from run to run, drift of 5 %, one inference in twenty disturbed."""
    level = 14.0 * slower * np.exp(rng.normal(0, 0.01))
    blocks = []
    for index, slow in enumerate(drift(rng, 30, 0.05)):
        noise = np.exp(np.abs(rng.normal(0, 0.02, 14)) + (rng.random(14) < 0.05) * rng.exponential(0.5, 14))
        times = (level * np.exp(slow) * noise).tolist()
        blocks.append(Block(0.2 * index, times, probe * float(rng.normal(0.8, 0.004)), others, []))
    return blocks


def referenced_run(rng: np.random.Generator, slower: float, host: float) -> list[Block]:
    """Six seconds beside a reference of 9 ms on a host that is `host` times as slow throughout, and drifts."""
    level = 14.0 * slower * np.exp(rng.normal(0, 0.004))
    blocks = []
    for index, slow in enumerate(rng.normal(0, 0.08, 24)):
        times, beside = (
            (
                ms * host * np.exp(slow + rng.normal(0, 0.02)) * np.exp(np.abs(rng.normal(0, 0.02, 15)))
            ).tolist()
            for ms in (level, 9.0)
        )
        blocks.append(Block(0.5 * index, times, 0.8, 0.6, [], beside))
    return blocks


def turn_ratios(rng: np.random.Generator, slower: float) -> np.ndarray:
    """Twenty-four pairs on a machine that changes its speed by a third from one turn to the next."""
    return np.log(slower) + 0.02 * rng.standard_t(2, 24) + rng.normal(0, 0.03, 24)


def test_two_runs_of_one_engine_are_no_difference() -> None:
    rng = np.random.default_rng(0)
    kinds = [compare_runs(machine_run(rng), machine_run(rng)).kind for _ in range(REPEATS)]
    assert kinds.count("no difference") >= 0.95 * REPEATS


def test_an_engine_that_is_ten_percent_slower_is_found() -> None:
    rng = np.random.default_rng(1)
    verdicts = [compare_runs(machine_run(rng), machine_run(rng, 1.1)) for _ in range(REPEATS)]
    assert [verdict.kind for verdict in verdicts].count("slower") >= 0.95 * REPEATS
    assert np.median([verdict.ratio for verdict in verdicts]) == pytest.approx(1.1, abs=0.02)


def test_the_interval_holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(2)
    held, repeats = 0, 100
    for _ in range(repeats):
        verdict = compare_runs(machine_run(rng), machine_run(rng, 1.04))
        held += verdict.low <= 1.04 <= verdict.high
    assert held >= 0.92 * repeats


def test_turns_tell_the_same_from_ten_percent_slower() -> None:
    rng = np.random.default_rng(3)
    same = [compare_turns(turn_ratios(rng, 1.0)).kind for _ in range(REPEATS)]
    slowed = [compare_turns(turn_ratios(rng, 1.1)).kind for _ in range(REPEATS)]
    assert same.count("no difference") >= 0.95 * REPEATS
    assert slowed.count("slower") >= 0.95 * REPEATS


def test_turns_while_others_work_are_left_out_or_believed_less() -> None:
    quiet = [Pair(0.5 * i, "A", [10.0], [10.1 + 0.01 * (i % 3)], 0.02) for i in range(20)]
    disturbed = [Pair(0.5 * i, "B", [20.0], [10.0 + i % 3], 0.9) for i in range(15)]
    assert verdict_on([*quiet, *disturbed]).kind == "no difference"
    burst = [Pair(0.5 * i, "B", [10.0], [16.0 if i < 15 else 9.0], 0.9) for i in range(20)]
    assert compare_turns(np.array([pair.log_ratio for pair in burst])).kind == "slower"
    assert verdict_on(burst).text.startswith("cannot tell: too noisy (B/A 1.600, 99 % interval 0.90 to 1.60)")
    assert verdict_on([Pair(0.5 * i, "B", [10.0], [16.0], 0.9) for i in range(20)]).kind == "slower"


def test_beside_a_reference_a_host_of_another_speed_is_not_blamed_on_the_engine() -> None:
    rng = np.random.default_rng(4)
    runs = [(referenced_run(rng, 1.0, 1.0), referenced_run(rng, 1.0, 1.28)) for _ in range(REPEATS)]
    kinds = [compare_by_reference(a, b).kind for a, b in runs]
    assert kinds.count("no difference") >= 0.95 * REPEATS
    assert compare_runs(*runs[0]).kind != "no difference"


def test_beside_a_reference_ten_percent_are_found_on_a_faster_host() -> None:
    rng = np.random.default_rng(5)
    verdicts = [
        compare_by_reference(referenced_run(rng, 1.0, 1.28), referenced_run(rng, 1.1, 1.0))
        for _ in range(REPEATS)
    ]
    assert [verdict.kind for verdict in verdicts].count("slower") >= 0.95 * REPEATS
    assert np.median([verdict.ratio for verdict in verdicts]) == pytest.approx(1.1, abs=0.02)


def test_a_reference_in_too_few_blocks_judges_nothing() -> None:
    rng = np.random.default_rng(6)
    run = referenced_run(rng, 1.0, 1.0)
    assert compare_by_reference(run[:5], run).text == "cannot tell: A has 5 blocks, too few; measure longer"


def test_the_texts_say_ratio_and_interval() -> None:
    rng = np.random.default_rng(4)
    same, slowed = machine_run(rng), machine_run(rng, 1.2)
    assert compare_runs(same, same).text == "no difference (B/A 1.000, 95 % interval {} to {})".format(
        *(f"{value:.2f}" for value in (compare_runs(same, same).low, compare_runs(same, same).high))
    )
    assert "% slower (" in compare_runs(same, slowed).text
    assert "% faster (" in compare_runs(slowed, same).text


def test_other_programs_make_it_say_cannot_tell() -> None:
    rng = np.random.default_rng(5)
    verdict = compare_runs(machine_run(rng), machine_run(rng, others=1.3))
    assert verdict.kind == "cannot tell"
    assert "other programs took 1.3 cores during B (0 of 30 blocks were quiet)" in verdict.text


def test_disturbed_blocks_are_left_out() -> None:
    rng = np.random.default_rng(6)
    disturbed = machine_run(rng, 0.5, others=1.0)[:20] + machine_run(rng)
    assert compare_runs(machine_run(rng), disturbed).kind == "no difference"


def test_a_machine_whose_clock_changed_is_not_blamed_on_the_engine() -> None:
    rng = np.random.default_rng(7)
    verdict = compare_runs(machine_run(rng), machine_run(rng, 1.15, probe=1.15))
    assert verdict.kind == "cannot tell"
    assert "took 15 % longer during B: the machine's clock had changed" in verdict.text


def test_too_short_a_run_says_so() -> None:
    rng = np.random.default_rng(8)
    assert (
        "A has 42 inferences in 3 blocks, too few"
        in compare_runs(machine_run(rng)[:3], machine_run(rng)).text
    )
    assert compare_turns(np.zeros(5)).text == "cannot tell: 5 turns are too few; measure longer"


def test_noise_that_hides_ten_percent_is_told() -> None:
    rng = np.random.default_rng(9)
    verdict = compare_turns(rng.normal(0, 0.5, 12))
    assert verdict.kind == "cannot tell"
    assert "too noisy" in verdict.text


def test_an_interval_that_reaches_ten_percent_is_never_no_difference() -> None:
    assert judge(0.08, -0.005, 0.165, 0.05).kind == "cannot tell"
    assert judge(-0.04, -0.12, 0.04, 0.05).kind == "cannot tell"
    assert judge(0.04, -0.01, 0.09, 0.05).kind == "no difference"


def test_slower_by_needs_the_verdict_and_the_size() -> None:
    pairs = [Pair(float(i), "A", [10.0, 10.0], [11.0, 11.0]) for i in range(20)]
    verdict = verdict_on(pairs)
    assert verdict.text == "B is 10.0 % slower (10.0 to 10.0)"
    assert verdict.slower_by(9)
    assert not verdict.slower_by(11)
