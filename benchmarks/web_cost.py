"""What the dashboard costs: FPS of `m2h-run` without it, with it while nobody watches, and with one viewer of all panes.

    python benchmarks/web_cost.py --out benchmarks/results/web_cost.json

The demo engine on a 640 × 480 clip (tools/demo_clip.py), played in a loop as fast as possible: the engine has all cores,
so whatever the dashboard does is taken from it. Each way runs once unmeasured, then `--rounds` times in turn, and the
figure is the ratio within a round. The viewer is a process of its own that acknowledges everything at once and shows
nothing: a browser on this machine would be measured with it, and a robot has none.

Frames per second are as noisy as the machine. So the CPU time of the threads that only `--web` starts is told beside them,
as a share of all cores: what is left for the others is at most that much less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from machine import facts  # beside this script

from m2h_runtime.bench.threads import ThreadShares
from m2h_runtime.cli.run import main as main_of_run
from m2h_runtime.engine.ort import usable_cores

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "engines" / "m2h-nano-apartments"
PANES = ["rgb", "depth", "semantics", "normals", "edges"]
WAYS = ("without", "nobody", "one viewer")


async def watch(url: str) -> dict[str, float]:
    """Watch all panes until the run ends; what came, per second from the first view to the last."""
    import aiohttp

    views: list[tuple[float, int]] = []
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                viewer = await session.ws_connect(url + "socket")
                break
            except aiohttp.ClientError:  # m2h-run is still starting
                await asyncio.sleep(0.1)
        await viewer.send_json({"kind": "show", "panes": PANES})
        async for message in viewer:
            if message.type is aiohttp.WSMsgType.BINARY:
                views.append((time.monotonic(), len(message.data)))
                await viewer.send_json({"kind": "got", "what": "view"})
            elif '"kind": "status"' in message.data:
                await viewer.send_json({"kind": "got", "what": "status"})
    seconds = views[-1][0] - views[0][0]
    return {
        "updates_per_s": (len(views) - 1) / seconds,
        "kB_per_s": sum(size for _, size in views) / seconds / 1e3,
    }


def run(way: str, clip: Path, frames: int, backend: str, scratch: Path) -> dict[str, float]:
    """One run: its FPS, and what a viewer got."""
    report = scratch / "report.json"
    shares = scratch / "shares.json"
    command = [sys.executable, __file__, "--run", shares, "--video", clip, "--loop", "--frames", frames]
    command += ["--no-realtime"]  # --web alone would play the clip at its own pace
    command += ["--engine", ENGINE, "--backend", backend, "--report", report]
    viewer = None
    if way != "without":
        port = free_port()
        command += ["--web", port]
        if way == "one viewer":
            watching = [sys.executable, __file__, "--watch", f"http://127.0.0.1:{port}/"]
            viewer = subprocess.Popen(watching, stdout=subprocess.PIPE, text=True)
    try:
        done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
        got = json.loads(viewer.communicate(timeout=20)[0]) if viewer is not None else {}
    finally:
        if viewer is not None:
            viewer.kill()
    own = {name: cores for name, cores in json.loads(shares.read_text()).items() if "web" in name}
    return {
        "fps": json.loads(report.read_text())["fps"],
        "cpu_percent": 100 * sum(own.values()) / usable_cores(),
        **got,
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


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, object]:
    """FPS by way, and the share of it that each way with the dashboard loses, over the rounds."""
    said: dict[str, object] = {
        "fps": {way: round(median(turn[way]["fps"] for turn in rounds), 2) for way in WAYS},
        "fps_turns": {way: [round(turn[way]["fps"], 2) for turn in rounds] for way in WAYS},
    }
    for way in WAYS[1:]:
        lost = sorted(100 * (1 - turn[way]["fps"] / turn["without"]["fps"]) for turn in rounds)
        said[f"lost_percent, {way}"] = {
            "median": round(median(lost), 2),
            "min": round(lost[0], 2),
            "max": round(lost[-1], 2),
            "quartiles": [round(lost[len(lost) // 4], 2), round(lost[-1 - len(lost) // 4], 2)],
        }
        said[f"cpu_percent, {way}"] = round(median(turn[way]["cpu_percent"] for turn in rounds), 2)
    for key in ("updates_per_s", "kB_per_s"):
        said[f"viewer_{key}"] = round(median(turn["one viewer"][key] for turn in rounds), 1)
    return said


def main() -> None:
    """Be the run that is measured, or measure everything in turn, write the JSON and print it."""
    if sys.argv[1:2] == ["--run"]:  # by `run` above
        sys.exit(run_here(Path(sys.argv[2]), sys.argv[3:]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--frames", type=int, default=900, help="perceptions of one run")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--watch", metavar="URL", help="be the viewer; what this script starts itself")
    args = parser.parse_args()
    if args.watch:
        print(json.dumps(asyncio.run(watch(args.watch))))
        return
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        clip = scratch / "clip.mp4"
        subprocess.run([sys.executable, str(ROOT / "tools" / "demo_clip.py"), str(clip)], check=True)
        for turn in range(args.rounds + 1):
            order = WAYS[turn % 3 :] + WAYS[: turn % 3]  # none is always the first
            told = {way: run(way, clip, args.frames, args.backend, scratch) for way in order}
            if turn:
                rounds.append(told)
            line = ", ".join(f"{way} {told[way]['fps']:.1f}" for way in WAYS)
            print(f"round {turn} of {args.rounds}: FPS {line}", flush=True)
    result = {
        "command": "python " + " ".join(sys.argv),
        "machine": facts(),
        "engine": ENGINE.name,
        "backend": args.backend,
        "clip": "640x480",
        "frames_per_run": args.frames,
        **summary(rounds),
    }
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
