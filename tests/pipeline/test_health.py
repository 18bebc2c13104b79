from __future__ import annotations

import threading

from stand_ins import Clock

from m2h_runtime.pipeline.health import HISTORY, Condition, Fault, Health, Level, Transition


def test_changes_are_told_once_and_the_worst_part_decides() -> None:
    clock = Clock()
    told: list[Transition] = []
    health = Health(told.append, clock)
    health.report("source", Level.FAILED, "gone")
    health.report("source", Level.FAILED, "gone")
    health.report("imu", Level.DEGRADED, "late")
    assert [(t.part, t.condition.level) for t in told] == [
        ("source", Level.FAILED),
        ("imu", Level.DEGRADED),
    ]
    assert health.worst() == Condition(Level.FAILED, "source: gone; imu: late")
    clock.forward(5)
    health.ok("source", "back after 0.0 s")
    assert told[-1] == Transition(clock(), "source", Condition(Level.OK, "back after 0.0 s"))
    assert health.worst() == Condition(Level.DEGRADED, "imu: late")


def test_what_was_never_ill_is_no_news() -> None:
    told: list[Transition] = []
    health = Health(told.append)
    health.ok("engine")
    health.ok("engine", "still fine")
    assert not told
    assert health.worst().level == Level.OK


def test_a_fault_is_over_when_it_has_not_happened_for_a_second() -> None:
    clock = Clock()
    told: list[Transition] = []
    fault = Fault(Health(told.append, clock), "deadline", clock)
    for _ in range(20):  # every other frame is late
        fault.bad("late")
        clock.forward(50)
        fault.good()
        clock.forward(50)
    assert [t.condition.level for t in told] == [Level.DEGRADED]
    clock.forward(1000)
    fault.good()
    assert [t.condition.level for t in told] == [Level.DEGRADED, Level.OK]


def test_the_history_is_bounded_and_listeners_may_ask_back() -> None:
    health = Health()
    asked: list[Condition] = []
    health.listen(lambda _: asked.append(health.worst()))
    for index in range(2 * HISTORY):
        health.report("source", Level.FAILED, f"number {index}")
    assert len(health.transitions) == HISTORY
    assert asked[-1].text == f"source: number {2 * HISTORY - 1}"


def test_reports_from_many_threads_are_all_heard() -> None:
    told: list[Transition] = []
    health = Health(told.append)

    def work(part: str) -> None:
        for index in range(200):
            health.report(part, Level.DEGRADED, f"{index}")

    threads = [threading.Thread(target=work, args=(f"part {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 800
