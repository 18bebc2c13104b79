"""The dashboard over a live run, without a browser."""

from __future__ import annotations

import io
import re
import resource
import socket
import struct
import threading
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from show import CAMERA_SIZE, FPS, PANES, Show, get, show, until, watch
from stand_ins import NumpyEngine, Script
from tiny_engine import picture, twin

from m2h_runtime.pipeline import Pipeline
from m2h_runtime.ros.profiles import load_profile
from m2h_runtime.web import Dashboard
from m2h_runtime.web.pace import CEILING_HZ
from m2h_runtime.web.viewers import MOST

if TYPE_CHECKING:
    from pathlib import Path

NONSENSE = (
    "", "[]", "{", '{"kind": 1}', '{"kind": "show", "panes": 3}', '{"kind": "probe", "at": [NaN, 0]}',
    '{"kind": "probe", "at": [0, 2]}', '{"kind": "probe", "at": "ab"}', "[" * 500, "x" * 5000,
    f'{{"kind": "probe", "at": [0, 1{"0" * 400}]}}',
)  # fmt: skip
"""What a page never says."""

# Viewers


def test_a_viewer_is_told_the_run_the_figures_and_the_views(running: Show) -> None:
    (seen,) = watch(running.url, 1.5)
    assert seen.hello["engine"]["name"] == "tiny"
    assert seen.hello["source"]["description"] == "eight pictures, 160x120"
    assert seen.hello["labels"]["classes"] == ["class_0", "class_1"]
    assert [len(colors) for colors in seen.hello["color_maps"].values()] == [768, 768]
    assert seen.statuses[-1]["health"]["level"] == "ok"
    assert seen.statuses[-1]["fps"] == pytest.approx(FPS, rel=0.4)
    assert seen.statuses[-1]["age_ms"]["p50"] > 0
    assert 4 <= len(seen.statuses) <= 8, "four a second"
    sequences = [view["sequence"] for view in seen.views]
    assert sequences == sorted(set(sequences))
    assert {name for view in seen.views for name in view["data"]} == set(PANES)


def test_nobody_watches_and_the_sinks_are_not_even_called(running: Show) -> None:
    until(lambda: running.pipeline.counts.perceived > 25)
    assert running.pipeline.counts.written == {"web view": 0, "web record": 0}
    watch(running.url, 0.5)
    after = running.viewed()
    assert after > 0
    count = running.pipeline.counts.perceived
    until(lambda: running.pipeline.counts.perceived > count + 15)
    assert running.viewed() <= after + 1
    assert running.status()["viewers"] == 0


def test_a_page_that_shows_nothing_costs_no_picture(running: Show) -> None:
    (seen,) = watch(running.url, 0.8, panes=())
    assert not seen.views
    assert seen.statuses
    assert running.viewed() == 0


def test_an_update_is_encoded_once_for_all_viewers(running: Show) -> None:
    seconds = 2.0
    seen = watch(running.url, seconds, viewers=4)
    assert min(len(one.views) for one in seen) > 0.5 * running.viewed()
    assert running.viewed() <= seconds * CEILING_HZ + 2
    by_sequence: dict[int, set[bytes]] = {}
    for one in seen:
        for view in one.views:
            by_sequence.setdefault(view["sequence"], set()).add(view["data"]["rgb"])
    assert all(len(pictures) == 1 for pictures in by_sequence.values())


def test_viewers_that_never_read_hold_nothing_up_and_pile_nothing_up(running: Show) -> None:
    deaf = [deaf_viewer(running.port) for _ in range(3)]
    time.sleep(0.3)
    before = running.pipeline.counts.perceived
    began = time.monotonic()
    seen = watch(running.url, 2.0, viewers=2)
    rate = (running.pipeline.counts.perceived - before) / (time.monotonic() - began)
    assert rate > 0.5 * FPS
    assert min(len(one.views) for one in seen) > 4
    assert sum(running.pipeline.counts.dropped.values()) <= 0.1 * running.pipeline.counts.perceived
    for connection in deaf:
        connection.settimeout(0.3)
        assert frames_in(connection) == {1: 2, 2: 1}, "hello, one status, one view: all unanswered"
        connection.close()


def test_so_many_pages_and_no_more(running: Show) -> None:
    deaf = [deaf_viewer(running.port) for _ in range(MOST)]
    until(lambda: running.status()["viewers"] == MOST)
    refused = get(running.url + "socket", HANDSHAKE)
    assert (refused.status, refused.line) == (503, f"{MOST} pages are open; close one")
    for connection in deaf:
        connection.close()
    until(lambda: running.status()["viewers"] == 0)


def test_closing_is_quick_with_viewers_that_read_and_viewers_that_do_not(
    tiny_engine: Path, tmp_path: Path
) -> None:
    with show(tiny_engine, tmp_path) as made:
        deaf = [deaf_viewer(made.port) for _ in range(3)]
        ends: list[float] = []
        reader = threading.Thread(target=lambda: (watch(made.url, 20.0), ends.append(time.monotonic())))
        reader.start()
        until(lambda: made.status()["viewers"] == 4)
        began = time.monotonic()
        made.dashboard.close()
        assert time.monotonic() - began < 1.0
        assert not [thread for thread in threading.enumerate() if thread.name == "web"]
        reader.join(2)
        assert ends, "who listens is told"
        made.dashboard.close()  # once more does no harm
        count = made.pipeline.counts.perceived
        until(lambda: made.pipeline.counts.perceived > count + 5)
        for connection in deaf:
            connection.close()


def test_before_there_is_a_run_the_page_is_there_and_says_so(tmp_path: Path) -> None:
    with Dashboard("127.0.0.1", 0, recordings=tmp_path) as dashboard:
        assert b"<title>m2h</title>" in get(dashboard.url).body
        (seen,) = watch(dashboard.url, 0.6)
        assert seen.statuses[0]["phase"] == "starting"
        assert seen.hello == {"kind": "hello", "ready": False}
        for path in ("view/rgb.jpg", "snapshot.png"):
            assert get(dashboard.url + path).line == "the run has not begun"
        assert get(dashboard.url + "record", post={"record": "mp4"}).status == 503
        assert get(dashboard.url + "metrics").body == b"# EOF\n"


def test_broken_requests_are_refused_and_nothing_else_happens(
    running: Show, caplog: pytest.LogCaptureFixture
) -> None:
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost: " + b"a" * 20000):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(garbage)
    for body in (
        b"",
        b"{",
        b"[]",
        b'"mp4"',
        b'{"record": 1}',
        b'{"record": "exe"}',
        b'{"record": []}',
        b"\xff",
    ):
        assert get(running.url + "record", post=body).status == 400, body
    assert get(running.url + "record", post=b"[" * 100_000).status in (400, 413)
    assert get(running.url + "view/../../etc/passwd.jpg").status == 404
    assert get(running.url + "static/..%2fdashboard.py").status == 404
    assert get(running.url + "view/evil.jpg").line.startswith("no output 'evil'; there are rgb, depth")
    for text in NONSENSE:
        with deaf_viewer(running.port) as connection:
            connection.sendall(masked(text.encode()))
            connection.settimeout(3)
            assert 8 in frames_in(connection), f"{text[:40]}: the connection is closed"
    assert running.status()["viewers"] == 0
    assert running.status()["health"]["level"] == "ok"
    assert not caplog.records, "a port scan fills no log"


# Figures and pictures for programs


def test_a_source_that_stalls_is_told_with_its_reason_until_it_is_back(running: Show) -> None:
    running.camera.stalled.set()
    until(lambda: running.status()["health"]["level"] == "failed")
    said = running.status()
    (pace,) = [part for part in said["health"]["parts"] if part["part"] == "pace"]
    assert pace["text"] == "no frame for 2 s: eight pictures, 160x120"
    assert said["fps"] == 0
    assert b'm2h_health_level{part="worst"} 2\n' in get(running.url + "metrics").body
    running.camera.stalled.clear()
    until(lambda: running.status()["health"]["level"] == "ok")
    assert [change["level"] for change in running.status()["health"]["transitions"]][-2:] == ["failed", "ok"]


def test_metrics_are_open_metrics(running: Show) -> None:
    until(lambda: running.pipeline.counts.perceived > 25)
    answer = get(running.url + "metrics")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    text = answer.body.decode()
    assert text.endswith("# EOF\n")
    samples = dict(re.findall(r"^(\w+(?:\{[^}]*\})?) ([0-9.e+-]+)$", text, re.MULTILINE))
    assert len(samples) == len([line for line in text.splitlines() if not line.startswith("#")])
    assert float(samples["m2h_fps"]) == pytest.approx(FPS, rel=0.4)
    assert float(samples['m2h_age_seconds{quantile="0.99"}']) >= float(
        samples['m2h_age_seconds{quantile="0.5"}']
    )
    assert float(samples["m2h_frames_perceived_total"]) > 25
    assert samples['m2h_health_level{part="worst"}'] == "0"
    families = re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)
    assert len(families) == len(set(families))


def test_all_figures_are_there_for_programs(running: Show) -> None:
    until(lambda: running.pipeline.counts.perceived > 25)
    said = running.status()
    assert set(said) == {
        "engine", "source", "phase", "fps", "age_ms", "stages_ms", "frames", "drops", "health", "recording", "viewers",
    }  # fmt: skip
    assert said["engine"]["parity"]["verdict"] == "pass"
    assert said["frames"]["captured"] >= said["frames"]["perceived"] > 25


def test_one_picture_of_each_output_at_the_camera_size(running: Show) -> None:
    for pane in PANES:
        answer = get(f"{running.url}view/{pane}.jpg")
        assert answer.headers["Content-Type"] == "image/jpeg"
        image = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (*CAMERA_SIZE, 3), pane
        assert image.std() > 5, pane


def test_a_snapshot_is_a_sheet_or_the_arrays_of_one_frame(running: Show) -> None:
    sheet = get(running.url + "snapshot.png")
    assert re.search(r'attachment; filename="m2h_\d{8}_\d{6}\.png"', sheet.headers["Content-Disposition"])
    image = cv2.imdecode(np.frombuffer(sheet.body, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[1] == 3 * CAMERA_SIZE[1], "three across, at the camera's size"
    arrays = np.load(io.BytesIO(get(running.url + "snapshot.npz").body))
    assert arrays["depth"].shape == CAMERA_SIZE
    assert arrays["normals"].shape == (*CAMERA_SIZE, 3)
    assert arrays["classes"].tolist() == ["class_0", "class_1"]
    assert arrays["fx_fy_cx_cy"].tolist() == [100.0, 100.0, 79.5, 59.5]
    (index,) = [i for i in range(8) if np.array_equal(arrays["rgb"], picture(i, CAMERA_SIZE))]
    said = twin(cv2.resize(picture(index, CAMERA_SIZE), (96, 64), interpolation=cv2.INTER_AREA))
    small = cv2.resize(arrays["depth"], (96, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(small - said.depth).mean() < 0.05


def test_a_snapshot_of_a_source_that_stalls_says_so(running: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m2h_runtime.web.server.PATIENCE_S", 0.3)
    running.camera.stalled.set()
    time.sleep(0.2)
    answer = get(running.url + "snapshot.png")
    assert answer.status == 503
    assert answer.line == "no new picture for 0.3 s; the health says why"


# Recordings


def test_a_recording_is_started_and_stopped_and_plays(running: Show) -> None:
    started = get(running.url + "record", post={"record": "mp4"})
    assert started.status == 200
    until(lambda: running.pipeline.counts.written["web record"] > 12)
    on = running.status()["recording"]["on"]
    assert on["duration_s"] > 0
    again = get(running.url + "record", post={"record": "mcap"})
    assert (again.status, again.line) == (409, "a recording is on; stop it first")
    assert get(running.url + "record", post={"record": None}).status == 200
    last = running.status()["recording"]["last"]
    assert running.status()["recording"]["on"] is None
    assert last["error"] is None
    path = running.recordings / on["name"]
    assert last["bytes"] == path.stat().st_size > 1000
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) >= 12
    assert video.read()[0]
    assert [file.name for file in running.recordings.iterdir()] == [on["name"]]


def test_a_recording_of_messages_can_be_read(running: Show) -> None:
    reader = pytest.importorskip("mcap.reader")
    assert get(running.url + "record", post={"record": "mcap"}).status == 200
    until(lambda: running.status()["recording"]["on"]["bytes"] > 100_000)
    get(running.url + "record", post={"record": None})
    (path,) = running.recordings.iterdir()
    with path.open("rb") as stream:
        summary = reader.make_reader(stream).get_summary()
    assert summary.statistics.message_count > 20


def test_a_recording_ends_complete_with_the_run(tiny_engine: Path, tmp_path: Path) -> None:
    with show(tiny_engine, tmp_path / "recordings") as made:
        get(made.url + "record", post={"record": "mp4"})
        until(lambda: made.pipeline.counts.written["web record"] > 5)
        made.camera.ended.set()
        until(lambda: not made.pipeline.running)
        (path,) = made.recordings.iterdir()
        assert cv2.VideoCapture(str(path)).read()[0]
        late = get(made.url + "record", post={"record": "mp4"})
        assert (late.status, late.line) == (409, "the run is over")
        assert made.status()["phase"] == "ended"


def test_a_disk_that_fills_up_ends_the_recording_and_nothing_else(running: Show) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        get(running.url + "record", post={"record": "mcap"})
        until(lambda: running.status()["recording"]["on"] is None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = running.status()
    assert "file too large" in said["recording"]["last"]["error"]
    assert said["health"]["level"] == "degraded"
    (part,) = [part for part in said["health"]["parts"] if part["part"] == "recording"]
    assert part["text"].endswith("the run goes on without it")
    assert not list(running.recordings.iterdir())
    count = running.pipeline.counts.perceived
    until(lambda: running.pipeline.counts.perceived > count + 5)
    assert get(running.url + "record", post={"record": "mp4"}).status == 200, "and the next one may begin"
    assert running.status()["health"]["level"] == "ok"


def test_a_folder_that_cannot_be_made_is_one_line(tiny_engine: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with show(tiny_engine, tmp_path / "file" / "recordings") as made:
        answer = get(made.url + "record", post={"record": "mp4"})
        assert answer.status == 409
        assert "recordings: cannot be made (not a directory)" in answer.line


def test_a_recorded_source_never_waits_for_viewers_but_loses_no_frame_of_a_recording(
    tiny_engine: Path, tmp_path: Path
) -> None:
    """The views are of the newest; what is recorded is every frame from the start of the recording on."""
    frames = 60
    source = Script(frames)
    source.gates = {frames // 2: threading.Event()}
    with Dashboard("127.0.0.1", 0, recordings=tmp_path) as dashboard:
        engine = NumpyEngine(tiny_engine)
        pipeline = Pipeline(source, engine, dashboard.sinks, on_perception=dashboard.perceived)
        dashboard.attach(pipeline, source, engine, load_profile())
        thread = threading.Thread(target=pipeline.run)
        thread.start()
        until(lambda: pipeline.counts.perceived == frames // 2)
        deaf = deaf_viewer(int(dashboard.url.split(":")[2].strip("/")))
        assert get(dashboard.url + "record", post={"record": "mp4"}).status == 200
        source.gates[frames // 2].set()
        thread.join(20)
        assert pipeline.counts.written["web record"] == frames // 2
        assert pipeline.counts.perceived == frames
        deaf.close()


# A viewer by hand, which does not read

KEY = b64encode(bytes(16)).decode()
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


def deaf_viewer(port: int) -> socket.socket:
    """A page that wants to see all and then says and reads nothing more."""
    connection = socket.create_connection(("127.0.0.1", port))
    lines = [f"{name}: {value}" for name, value in {"Host": "127.0.0.1", **HANDSHAKE}.items()]
    connection.sendall("\r\n".join(["GET /socket HTTP/1.1", *lines, "", ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 101")
    connection.sendall(
        masked(b'{"kind": "show", "panes": ["rgb", "depth", "semantics", "normals", "edges"]}')
    )
    return connection


def masked(payload: bytes) -> bytes:
    """A text frame as clients send it; a mask of zeros changes nothing."""
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
    return b"\x81" + length + bytes(4) + payload


def frames_in(connection: socket.socket) -> dict[int, int]:
    """How many frames of which kind lie in the connection: 1 text, 2 binary, 8 close, 9 ping."""
    data = b""
    try:
        while part := connection.recv(1 << 16):
            data += part
    except (TimeoutError, ConnectionError):
        pass
    counts: dict[int, Any] = {}
    at = 0
    while at < len(data):
        kind, length, at = data[at] & 15, data[at + 1], at + 2
        if length == 126:
            (length,), at = struct.unpack_from(">H", data, at), at + 2
        elif length == 127:
            (length,), at = struct.unpack_from(">Q", data, at), at + 8
        at += length
        counts[kind] = counts.get(kind, 0) + 1
    counts.pop(9, None)
    return counts
