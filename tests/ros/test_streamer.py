"""A run of the node whose engine hangs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import cv2
from ros_helpers import wait_for
from stand_ins import NumpyEngine
from tiny_engine import picture

from m2h_runtime.pipeline.health import Health
from m2h_runtime.ros import streamer
from m2h_runtime.ros.settings import Settings
from m2h_runtime.ros.streamer import Streamer

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from m2h_runtime.ros.session import RosSession
    from m2h_runtime.sinks import Observation


def test_an_engine_that_hangs_is_left_behind_and_what_it_says_later_is_not_published(
    session: RosSession, nyu_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(4):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(index))
    hung, freed = threading.Event(), threading.Event()

    def hang() -> None:
        hung.set()
        assert freed.wait(20)

    befores = [hang, lambda: None]
    monkeypatch.setattr(streamer, "open_engine", lambda *_, **__: NumpyEngine(nyu_engine, befores.pop(0)))
    monkeypatch.setattr(streamer, "STOP_S", 0.2)
    written: list[Observation] = []
    monkeypatch.setattr(streamer.RosSink, "write", lambda _, observation: written.append(observation))
    ends: list[Exception | None] = []
    settings = Settings(engine=str(nyu_engine), source=f"images:{tmp_path}/*.png", loop=True)
    streaming = Streamer(session.node, settings, Health(), ends.append)
    streaming.start()
    assert hung.wait(5)
    old = next(thread for thread in threading.enumerate() if thread.name == "pipeline")
    streaming.stop()
    freed.set()
    old.join(5)
    assert not old.is_alive()
    assert written == [], "the frame was taken before the stop"
    streaming.start()
    wait_for(lambda: written)
    assert befores == [], "a new engine, since a thread was in the old one"
    streaming.close()
    assert ends == []
