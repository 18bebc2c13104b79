"""m2h-sim as its user meets it: small, but real."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
import yaml
from rosbags.highlevel import AnyReader
from scipy.spatial.transform import Rotation

from m2h_runtime.cli.sim import build_parser, main, plan_jobs
from m2h_runtime.errors import InputError
from m2h_runtime.simulation.dataset import DEPTH_UNIT_M, MAPS, NORMAL_SCALE
from m2h_runtime.simulation.episode import Episode, default_camera, reserved_seeds
from m2h_runtime.simulation.imu import KalibrImu
from m2h_runtime.simulation.rendering import render_all
from m2h_runtime.simulation.trajectory import START_NS
from m2h_runtime.simulation.walk import MANNERS

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--size", "64x48", "--workers", "1"]
TRAINING = ["--apartments", "2", "--frames", "3", "--survey", "2", "--duration", "4", *SMALL]
BAG = ["--format", "bag", "--split", "val", "--apartments", "1", "--duration", "3", "--fps", "4", *SMALL]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("m2h-sim: ")
    return lines[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("training")
    assert main(["--out", str(out), *TRAINING]) == 0
    return out


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the one episode."""
    out = tmp_path_factory.mktemp("bags")
    assert main(["--out", str(out), "--mesh", *BAG]) == 0
    (folder,) = (out / "val").iterdir()
    return folder


# The training set


def test_training_set_has_its_layout(training: Path) -> None:
    assert sorted(p.name for p in (training / "train").iterdir()) == ["00000-handheld", "00001-wheeled"]
    for folder in (training / "train").iterdir():
        assert {p.name for p in folder.iterdir()} == {*MAPS, "frames.txt", "episode.yaml", "scene.yaml"}
        for name in MAPS:
            assert sorted(p.name for p in (folder / name).iterdir()) == [f"{i:06d}.png" for i in range(5)]
    settings = yaml.safe_load((folder / "episode.yaml").read_text())
    assert (settings["frames"], settings["camera"]["width"], settings["duration_s"]) == (5, 64, 4.0)


def test_files_hold_what_was_rendered(training: Path) -> None:
    """The same frames, rendered here: every map comes back, and so does the pose."""
    folder = training / "train" / "00000-handheld"
    episode = Episode(0, "handheld", 4.0, default_camera(64, 48))
    rows = np.loadtxt(folder / "frames.txt")
    assert rows.shape == (5, 8)
    for index, shot in ((1, episode.shot(rows[1, 0])), (3, episode.survey_shot(0))):
        read = {name: cv2.imread(str(folder / name / f"{index:06d}.png"), -1) for name in MAPS}
        view = shot.view
        assert np.array_equal(read["labels"], view.labels)
        assert np.array_equal(read["objects"], view.objects)
        assert read["depth"] * DEPTH_UNIT_M == pytest.approx(view.depth, abs=0.0006)
        normals = read["normals"][..., ::-1] / NORMAL_SCALE - 1
        assert normals == pytest.approx(view.normals, abs=1e-4)
        assert rows[index, 1:4] == pytest.approx(shot.world_from_camera[:3, 3], abs=1e-8)
        turn = Rotation.from_quat(rows[index, 4:]).as_matrix()
        assert turn == pytest.approx(shot.world_from_camera[:3, :3], abs=1e-7)
        if index == 3:  # the stamp of a walk's frame is rounded in the file, which reseeds its noise
            assert np.array_equal(read["rgb"][..., ::-1], shot.image)


def test_a_second_run_renders_only_what_is_missing(
    training: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = training / "train" / "00001-wheeled"
    before, untouched = contents(victim), (training / "train" / "00000-handheld").stat().st_mtime_ns
    shutil.rmtree(victim)
    assert main(["--out", str(training), *TRAINING]) == 0
    assert "1 of 2 episodes are there already" in capsys.readouterr().err
    assert contents(victim) == before
    assert main(["--out", str(training), *TRAINING]) == 0
    said = capsys.readouterr()
    assert "2 of 2 episodes are there already" in said.err
    assert "2 episodes in" in said.out
    assert (training / "train" / "00000-handheld").stat().st_mtime_ns == untouched


def test_a_mesh_is_added_to_an_episode_that_is_there(training: Path) -> None:
    folder = training / "train" / "00000-handheld"
    before = contents(folder)
    assert main(["--out", str(training), "--mesh", *TRAINING, "--apartments", "1"]) == 0
    after = contents(folder)
    assert after.pop("mesh.ply").startswith(b"ply\nformat binary_little_endian")
    assert after == before
    (folder / "mesh.ply").unlink()


def test_reserved_apartments_are_never_trained_on(tmp_path: Path) -> None:
    reserved = {seed for seeds in reserved_seeds().values() for seed in seeds}
    parser = build_parser()
    first = str(min(reserved) - 1)
    train = parser.parse_args(["--out", str(tmp_path), "--apartments", "30", "--first-seed", first])
    assert reserved.isdisjoint(job.seed for job in plan_jobs(train))
    test = parser.parse_args(["--out", str(tmp_path), "--split", "test"])
    jobs = list(plan_jobs(test))
    assert tuple(job.seed for job in jobs) == reserved_seeds()["test"]
    assert all(job.folder.parent == tmp_path / "test" for job in jobs)


# The bag


@pytest.fixture(scope="module")
def recorded() -> Episode:
    """The episode of `recording`."""
    return Episode(9101, "wheeled", 3.0, default_camera(64, 48))


def test_bag_folder_has_its_files(recording: Path) -> None:
    assert recording.name == "09101-wheeled"
    names = {
        "bag",
        "camchain-imucam.yaml",
        "imu.yaml",
        "frames.txt",
        "episode.yaml",
        "scene.yaml",
        "mesh.ply",
    }
    assert {p.name for p in recording.iterdir()} == names
    assert {p.name for p in (recording / "bag").iterdir()} == {"bag.mcap", "metadata.yaml"}
    settings = yaml.safe_load((recording / "episode.yaml").read_text())
    assert (settings["frames"], settings["fps"], settings["labels"]) == (12, 4.0, "nyud20")
    assert KalibrImu.read(recording / "imu.yaml") == KalibrImu()


def test_bag_holds_the_walk(recording: Path, recorded: Episode) -> None:
    shot = recorded.shot(0.5)
    with AnyReader([recording / "bag"]) as reader:
        counts = {topic: info.msgcount for topic, info in reader.topics.items()}
        messages = {
            c.topic: (stamp, reader.deserialize(raw, c.msgtype))
            for c, stamp, raw in reader.messages(start=START_NS + 500_000_000, stop=START_NS + 500_000_001)
        }
    images = ("/camera/color/image_raw", "/camera/depth/image_raw", "/camera/semantic/image_raw")
    assert [counts[topic] for topic in images] == [12, 12, 12]
    assert counts["/imu/data"] == 601  # 3 s at 200 Hz, both ends
    for topic, dtype, expected in zip(
        images,
        (np.uint8, np.float32, np.uint8),
        (shot.image, shot.view.depth, shot.view.labels20),
        strict=True,
    ):
        stamp, message = messages[topic]
        assert stamp == START_NS + 500_000_000
        assert np.array_equal(message.data.view(dtype).reshape(expected.shape), expected)


def test_frames_file_has_the_stamps_of_the_bag(recording: Path, recorded: Episode) -> None:
    lines = (recording / "frames.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines[:3]] == [
        "1600000000.000000000",
        "1600000000.250000000",
        "1600000000.500000000",
    ]
    place = np.array(lines[5].split()[1:4], float)
    assert place == pytest.approx(recorded.trajectory.pose(1.25)[:3, 3], abs=1e-8)


def test_mesh_is_the_apartment(recording: Path, recorded: Episode) -> None:
    apartment = recorded.apartment
    mesh = trimesh.load(recording / "mesh.ply", process=False)
    assert np.array_equal(mesh.faces, apartment.faces)
    assert mesh.vertices == pytest.approx(apartment.vertices)
    raw = mesh.metadata["_ply_raw"]["face"]["data"]
    assert np.array_equal(raw["label"].ravel(), apartment.face_label)
    assert np.array_equal(raw["object"].ravel(), apartment.face_object)
    walls = mesh.visual.face_colors[apartment.face_label == 1]
    assert walls[:, :3].mean() > mesh.visual.face_colors[apartment.face_label == 25][:, :3].mean(), "screens"


def test_the_other_format_is_not_taken_for_done(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(recording.parents[1])
    assert main(["--out", out, "--split", "val", "--apartments", "1", *SMALL]) == 2
    assert "09101-wheeled: is an episode of the other --format" in one_line(capsys)


# What goes wrong


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_leaves_nothing_half_made(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C goes to the workers too; SIGTERM to the command alone."""
    options = [
        "--apartments",
        "2",
        "--frames",
        "5000",
        "--size",
        "64x48",
        "--workers",
        "2",
        "--duration",
        "4",
    ]
    child = subprocess.Popen(
        [sys.executable, "-m", "m2h_runtime.cli.sim", "--out", str(tmp_path), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("train/.0*/rgb/*.png")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if number == signal.SIGINT:
        os.killpg(child.pid, number)
    else:
        child.send_signal(number)
    stdout, stderr = child.communicate(timeout=30)
    assert (child.returncode, stdout) == (code, "")
    assert stderr == "m2h-sim: stopped; the same command goes on where it was\n"
    assert list((tmp_path / "train").iterdir()) == []


def test_an_apartment_without_a_walk_is_named_and_the_others_are_made(tmp_path: Path) -> None:
    args = build_parser().parse_args(["--out", str(tmp_path), *TRAINING])
    good, bad = plan_jobs(args)
    bad = replace(bad, duration_s=-1.0)  # no walk has this duration
    (failure,) = render_all([bad, good], 1)
    assert failure.startswith("apartment 1, wheeled: walk: a duration of -1.0 s")
    assert [p.name for p in (tmp_path / "train").iterdir()] == ["00000-handheld"]


OPTIONS = {
    "no out": ([], "the following arguments are required: --out"),
    "fps of a training set": (["--out", "x", "--fps", "5"], "--fps goes with --format bag only"),
    "survey of a bag": (["--out", "x", "--format", "bag", "--survey", "5"], "--survey goes with --format tr"),
    "frames of a bag": (["--out", "x", "--format", "bag", "--frames", "5"], "--frames goes with --format tr"),
    "burst of a bag": (["--out", "x", "--format", "bag", "--burst", "2"], "--burst goes with --format tr"),
    "long burst": (
        ["--out", "x", "--duration", "3", "--burst", "9"],
        "--burst 9: does not fit into a walk of 3 s",
    ),
    "seed of a split": (["--out", "x", "--split", "val", "--first-seed", "1"], "--split train only"),
    "negative seed": (["--out", "x", "--first-seed", "-1"], "expected a whole number from 0 up"),
    "many reserved": (["--out", "x", "--split", "val", "--apartments", "9"], "split val: has 2 apartments"),
    "short": (["--out", "x", "--duration", "1"], "--duration 1: give more than 2"),
    "endless": (["--out", "x", "--duration", "inf"], "--duration inf: give more than 2"),
    "view": (["--out", "x", "--view", "180"], "--view 180: give 10 to 150 degrees"),
    "fps": (["--out", "x", "--format", "bag", "--fps", "0"], "--fps 0: give a rate above 0"),
    "size": (["--out", "x", "--size", "big"], "expected WIDTHxHEIGHT"),
    "no lens": (["--out", "x", "--distortion", "0,nan,0,0"], "expected four numbers K1,K2,P1,P2, got '0,nan"),
    "lens": (["--out", "x", "--distortion", "1,2"], "expected four numbers K1,K2,P1,P2, got '1,2'"),
}


@pytest.mark.parametrize(("options", "said"), OPTIONS.values(), ids=OPTIONS)
def test_bad_options_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code: int | str | None = main(options)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert said in one_line(capsys)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", "/proc/none", *TRAINING, "--apartments", "1"]) == 2
    assert "/proc/none/train/00000-handheld: cannot be made" in one_line(capsys)


def test_styles_of_the_options_are_those_of_the_walks() -> None:
    action = next(a for a in build_parser()._actions if a.dest == "style")
    assert set(action.choices or ()) == {*MANNERS, "mixed"}


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from m2h_runtime.simulation.libraries import require

    monkeypatch.setitem(sys.modules, "embreex", None)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(InputError, match=r"embreex: is not installed.*no wheel for aarch64"):
        require("embreex")
    with pytest.raises(
        InputError, match=r"nowhere: is not installed.*pip install 'm2h-runtime\[simulation\]'"
    ):
        require("nowhere.at.all")
