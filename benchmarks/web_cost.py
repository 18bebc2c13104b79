"""What the dashboard costs: FPS of `m2h-run` with one viewer of all panes against none, and without the dashboard.

    python benchmarks/web_cost.py --out benchmarks/results/web_cost.json

The demo engine on a 640 × 480 clip (tools/demo_clip.py), played in a loop as fast as possible: the engine has all cores,
so whatever the dashboard does is taken from it. Frames per second drift with the machine by more than there is to
measure. So the viewer comes and goes within one run, and what it costs is the ratio of neighbouring phases. The dashboard that
nobody watches is compared with none in runs that take turns, and by the CPU time of the threads that only `--web`
starts. The viewer is a process of its own that acknowledges everything at once and shows nothing: a browser on this
machine would be measured with it, and a robot has none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from machine import facts  # beside this script

from m2h_runtime.bench.threads import ThreadShares
from m2h_runtime.bench.verdict import compare_turns
from m2h_runtime.cli.run import main as main_of_run
from m2h_runtime.engine.ort import usable_cores

if TYPE_CHECKING:
    import aiohttp

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "engines" / "m2h-nano-apartments"
PANES = ["rgb", "depth", "semantics", "normals", "edges"]
WAYS = ("without", "nobody")
SETTLE_S, WARM_FRAMES = 0.7, 60


async def phases(url: str, pairs: int, seconds: float) -> list[dict[str, dict[str, float]]]:
    """Phases with one viewer and with none, by turns in random order: FPS, and what the viewer got per second."""
    import aiohttp

    found = []
    async with aiohttp.ClientSession() as session:
        await until_running(session, url)
        for _ in range(pairs):
            order = random.sample((True, False), 2)
            told = {watched: await phase(session, url, seconds, watched=watched) for watched in order}
            found.append({"one viewer": told[True], "nobody": told[False]})
            print(f"{told[True]['fps']:.1f} FPS watched, {told[False]['fps']:.1f} unwatched", flush=True)
    return found


async def until_running(session: aiohttp.ClientSession, url: str) -> None:
    """Wait for the server and for the first perceptions."""
    import aiohttp

    while True:
        with suppress(aiohttp.ClientError):
            if await perceived(session, url) > WARM_FRAMES:
                return
        await asyncio.sleep(0.2)


async def perceived(session: aiohttp.ClientSession, url: str) -> int:
    """Frames that the engine has answered."""
    async with session.get(url + "status.json") as answer:
        told = await answer.json()
    return int(told["frames"]["perceived"]) if "frames" in told else 0  # nothing before the run has begun


async def phase(
    session: aiohttp.ClientSession, url: str, seconds: float, *, watched: bool
) -> dict[str, float]:
    """FPS of some seconds."""
    got: list[int] = []
    viewer = await session.ws_connect(url + "socket") if watched else None
    reading = asyncio.create_task(read(viewer, got)) if viewer is not None else None
    await asyncio.sleep(SETTLE_S)
    got.clear()
    began, before = time.monotonic(), await perceived(session, url)
    await asyncio.sleep(seconds)
    after, took = await perceived(session, url), time.monotonic() - began
    told = {
        "fps": (after - before) / took,
        "updates_per_s": len(got) / took,
        "kB_per_s": sum(got) / took / 1e3,
    }
    if viewer is not None and reading is not None:
        await viewer.close()
        await reading
    return told


async def read(viewer: aiohttp.ClientWebSocketResponse, got: list[int]) -> None:
    """Show all panes, and acknowledge everything; sizes of the views in bytes go to `got`."""
    import aiohttp

    await viewer.send_json({"kind": "show", "panes": PANES})
    async for message in viewer:
        if message.type is aiohttp.WSMsgType.BINARY:
            got.append(len(message.data))
            await viewer.send_json({"kind": "got", "what": "view"})
        elif '"kind": "status"' in message.data:
            await viewer.send_json({"kind": "got", "what": "status"})


def watch(
    clip: Path, backend: str, pairs: int, seconds: float, scratch: Path
) -> list[dict[str, dict[str, float]]]:
    """One run with a viewer that comes and goes."""
    port = free_port()
    command = [sys.executable, "-m", "m2h_runtime.cli.run", "--video", clip, "--loop", "--no-realtime"]
    command += ["--engine", ENGINE, "--backend", backend, "--web", port]
    with (scratch / "run.log").open("w") as log:
        child = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
        try:
            return asyncio.run(phases(f"http://127.0.0.1:{port}/", pairs, seconds))
        finally:
            child.terminate()
            child.wait(20)


def run(way: str, clip: Path, frames: int, backend: str, scratch: Path) -> dict[str, float]:
    """One run: its FPS, and the CPU time of the dashboard's threads as a share of all cores."""
    report, shares = scratch / "report.json", scratch / "shares.json"
    command = [sys.executable, __file__, "--run", shares, "--video", clip, "--loop", "--frames", frames]
    command += ["--no-realtime"]  # --web alone would play the clip at its own pace
    command += ["--engine", ENGINE, "--backend", backend, "--report", report]
    if way == "nobody":
        command += ["--web", free_port()]
    done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    own = {name: cores for name, cores in json.loads(shares.read_text()).items() if "web" in name}
    return {
        "fps": json.loads(report.read_text())["fps"],
        "cpu_percent": 100 * sum(own.values()) / usable_cores(),
    }


def run_here(shares: Path, options: list[str]) -> int:
    """`m2h-run` in this process; how many cores each of its threads used goes to `shares`."""
    with ThreadShares() as threads:
        code = main_of_run(options)
    shares.write_text(json.dumps(threads.shares()))
    return code


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def summary(
    rounds: list[dict[str, dict[str, float]]], pairs: list[dict[str, dict[str, float]]]
) -> dict[str, object]:
    """FPS by way, and the share of it that is lost: to the dashboard, and to its viewer."""
    viewer = [pair["one viewer"] for pair in pairs]
    return {
        "fps": {
            **{way: round(median(turn[way]["fps"] for turn in rounds), 2) for way in WAYS},
            "one viewer": round(median(one["fps"] for one in viewer), 2),
        },
        "lost_percent, nobody": lost([turn["nobody"]["fps"] / turn["without"]["fps"] for turn in rounds]),
        "lost_percent, one viewer": lost(
            [pair["one viewer"]["fps"] / pair["nobody"]["fps"] for pair in pairs]
        ),
        "cpu_percent, nobody": round(median(turn["nobody"]["cpu_percent"] for turn in rounds), 2),
        "viewer_updates_per_s": round(median(one["updates_per_s"] for one in viewer), 1),
        "viewer_kB_per_s": round(median(one["kB_per_s"] for one in viewer), 1),
        "rounds": rounds,
        "pairs": pairs,
    }


def lost(ratios: list[float]) -> dict[str, object]:
    """What of the FPS is missing, the median and its 95 % interval by order statistics."""
    verdict = compare_turns(-np.log(ratios))
    told = sorted(100 * (1 - ratio) for ratio in ratios)
    bounds = [
        None if value is None else round(100 * (1 - 1 / value), 2) for value in (verdict.low, verdict.high)
    ]
    return {"median": round(median(told), 2), "interval": bounds, "of": len(told)}


def main() -> None:
    """Be the run that is measured, or measure everything in turn, write the JSON and print it."""
    if sys.argv[1:2] == ["--run"]:  # by `run` above
        sys.exit(run_here(Path(sys.argv[2]), sys.argv[3:]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--frames", type=int, default=450, help="perceptions of one run")
    parser.add_argument("--pairs", type=int, default=40, help="of phases with a viewer and without")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a phase")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        clip = scratch / "clip.mp4"
        subprocess.run([sys.executable, str(ROOT / "tools" / "demo_clip.py"), str(clip)], check=True)
        pairs = watch(clip, args.backend, args.pairs, args.seconds, scratch)
        for turn in range(args.rounds):
            order = WAYS if turn % 2 else WAYS[::-1]
            rounds.append({way: run(way, clip, args.frames, args.backend, scratch) for way in order})
            line = ", ".join(f"{way} {rounds[-1][way]['fps']:.1f}" for way in WAYS)
            print(f"round {turn + 1} of {args.rounds}: FPS {line}", flush=True)
    result = {
        "command": "python " + " ".join(sys.argv),
        "machine": facts(),
        "engine": ENGINE.name,
        "backend": args.backend,
        "clip": "640x480",
        "frames_per_run": args.frames,
        "seconds_per_phase": args.seconds,
        **summary(rounds, pairs),
    }
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        json.dumps({key: value for key, value in result.items() if key not in ("rounds", "pairs")}, indent=1)
    )


if __name__ == "__main__":
    main()
