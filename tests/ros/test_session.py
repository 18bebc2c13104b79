"""`RosSession`: starts, serves, ends in time; and what is said where ROS is missing."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ros_helpers import wait_for

from m2h_runtime.errors import InputError
from m2h_runtime.pipeline.health import Health
from m2h_runtime.ros import cdr
from m2h_runtime.ros.diagnostics import Diagnostics, status_of
from m2h_runtime.ros.endpoints import message_class
from m2h_runtime.ros.messages import IMAGE
from m2h_runtime.ros.outputs import RosSink
from m2h_runtime.ros.profiles import load_profile
from m2h_runtime.ros.session import RosSession
from m2h_runtime.ros.topic_source import TopicSource
from m2h_runtime.ros.transport import PROFILE, prepare_transport

if TYPE_CHECKING:
    from pathlib import Path


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30
    )


def test_callbacks_are_served_until_the_session_closes(ros_domain: int) -> None:
    ticks: list[int] = []
    with RosSession("m2h", namespace="robot") as session:
        assert session.node.get_fully_qualified_name() == "/robot/m2h"
        session.node.create_timer(0.01, lambda: ticks.append(1))
        wait_for(lambda: len(ticks) > 3)
        assert session.alive
        assert abs(session.now_ns() - time.time_ns()) < 1e9
    assert not session.alive
    session.close()
    count = len(ticks)
    time.sleep(0.05)
    assert len(ticks) == count


def test_two_sessions_of_one_process_come_and_go_by_themselves(ros_domain: int) -> None:
    with RosSession("one") as one:
        with RosSession("two"):
            pass
        assert one.alive
    with RosSession("one"):
        pass


def test_a_callback_that_hangs_does_not_hold_the_end_up(ros_domain: int) -> None:
    run = python(
        "import time\n"
        "from m2h_runtime.ros.session import RosSession\n"
        "session = RosSession('m2h')\n"
        "session.node.create_timer(0.01, lambda: time.sleep(60))\n"
        "time.sleep(0.3)\n"
        "start = time.monotonic()\n"
        "session.close()\n"
        "print(time.monotonic() - start)\n"
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 2.0


def test_a_bug_in_a_callback_keeps_its_traceback_and_is_noticed(ros_domain: int) -> None:
    run = python(
        "import time\n"
        "from m2h_runtime.ros.session import RosSession\n"
        "with RosSession('m2h') as session:\n"
        "    session.node.create_timer(0.01, lambda: 1 / 0)\n"
        "    time.sleep(0.5)\n"
        "    print(session.alive)\n"
    )
    assert run.stdout == "False\n"
    assert "ZeroDivisionError" in run.stderr


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": "two words"}, "node name must not contain"),
        ({"name": "m2h", "namespace": "two words"}, "namespace must not contain"),
        ({"name": "m2h", "args": ["--ros-args", "-r", "nonsense"]}, "Couldn't parse remap rule"),
    ],
)
def test_wrong_names_and_arguments_are_one_line(ros_domain: int, wrong: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        RosSession(**wrong)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_without_ros_one_line_says_how_to_get_it() -> None:
    run = python(
        "import sys\n"
        "sys.modules['rclpy'] = None\n"
        "from m2h_runtime.errors import InputError\n"
        "from m2h_runtime.ros.session import RosSession\n"
        "try:\n"
        "    RosSession('m2h')\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    assert run.stdout.count("\n") == 1
    assert "setup.bash" in run.stdout
    assert "pip install ros-rclpy" in run.stdout


def test_fast_dds_is_given_room_and_users_choices_stand(tmp_path: Path) -> None:
    ours = {"FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE)}
    for environ, changed in (
        ({}, ours),
        ({"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}, ours),
        ({"ROS_DISTRO": "jazzy"}, ours),
        ({"ROS_DISTRO": "humble"}, {"FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE)}),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, {}),
        ({"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, {}),
        ({"FASTRTPS_DEFAULT_PROFILES_FILE": "mine.xml"}, {}),
    ):
        after = dict(environ)
        assert prepare_transport(after, tmp_path).startswith("transport: ")
        assert after == {**environ, **changed}
        assert prepare_transport(after, tmp_path).startswith("transport: ")
        assert after == {**environ, **changed}


def test_too_little_shared_memory_is_said_with_what_helps(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    assert "--shm-size" in prepare_transport(environ, tmp_path / "missing")
    assert environ == {}


def test_what_comes_and_goes_under_the_thread_does_not_break_it(ros_domain: int) -> None:
    with RosSession("camera") as camera, RosSession("m2h") as session:
        publisher = camera.node.create_publisher(message_class(IMAGE), "/image", 1)
        message = cdr.image((1, "cam"), np.zeros((48, 64, 3), np.uint8), "rgb8")
        camera.node.create_timer(0.002, lambda: publisher.publish(message))
        for _ in range(25):
            source = TopicSource(session.node, "/image")
            diagnostics = Diagnostics(session.node, lambda: status_of(Health(), {}), "x", period_s=0.002)
            diagnostics.changed()
            sink = RosSink(session.node, load_profile())
            assert source.read(2.0) is not None
            for each in (source, diagnostics, sink):
                each.close()
        assert session.alive
