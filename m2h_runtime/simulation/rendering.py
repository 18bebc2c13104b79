"""Many episodes at once: a pool of processes that render one each."""

from __future__ import annotations

import shutil
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from typing import TYPE_CHECKING, Literal

from m2h_runtime.errors import InputError, M2HError
from m2h_runtime.simulation.processes import deaf_to_interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from concurrent.futures import Future
    from multiprocessing.sharedctypes import Synchronized
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from m2h_runtime.simulation.episode import Episode
    from m2h_runtime.simulation.pinhole import Pinhole
    from m2h_runtime.simulation.walk import Style


BURST_STEP_S = 0.4
"""Between the frames of a burst: a walking camera moves some 0.3 m meanwhile."""


@dataclass(frozen=True)
class Job:
    """One episode to render.

    Attributes:
        seed, style: of the walk.
        kind: layout of the files.
        folder: where the episode goes.
        camera: its geometry.
        duration_s: of the walk.
        frames: of the walk: spread over it in a training set, 1/`fps` s apart in a bag.
        survey: stills besides, in a training set.
        burst: in a training set, frames for each of the walk, `BURST_STEP_S` apart, and places for each still.
        fps: of a bag.
        mesh: write mesh.ply too.
    """

    seed: int
    style: Style
    kind: Literal["training", "bag"]
    folder: Path
    camera: Pinhole
    duration_s: float
    frames: int
    survey: int = 0
    burst: int = 1
    fps: float = 30.0
    mesh: bool = False

    @property
    def total(self) -> int:
        """Frames of any sort."""
        return (self.frames + self.survey) * self.burst

    @property
    def title(self) -> str:
        """What a person would call it."""
        return f"apartment {self.seed}, {self.style}"


def render_all(jobs: list[Job], workers: int) -> list[str]:
    """Render with several processes and one progress bar; returns one line per apartment that has no walk.

    When it is interrupted or fails, the workers drop what they have begun, and nothing half-written stays.

    Raises:
        InputError: an episode cannot be written, or a worker died.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    context = get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeRemainingColumn(),
    )
    failures: list[str] = []
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ProcessPoolExecutor(workers, context, initializer=_share, initargs=(counter, stop)) as pool,
    ):
        task = progress.add_task("rendering", total=sum(job.total for job in jobs))
        try:
            with deaf_to_interrupts():
                waiting = {pool.submit(render, job): job for job in jobs}
            for done in _finished(waiting, lambda: progress.update(task, completed=counter.value)):
                job = waiting[done]
                failure = _result(done)
                if failure:
                    failures.append(failure)
                elif not console.is_terminal:
                    console.print(f"{job.folder.name}: {job.total} frames", highlight=False)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            _remove_halves(jobs)
            raise
    return failures


def _result(done: Future[str | None]) -> str | None:
    try:
        return done.result()
    except BrokenProcessPool as error:
        raise InputError(
            "a rendering process was killed, perhaps for want of memory; give fewer --workers and start again"
        ) from error


def _finished(
    futures: Collection[Future[str | None]], tick: Callable[[], None]
) -> Iterator[Future[str | None]]:
    """Futures as they end; `tick` is called five times a second."""
    left = set(futures)
    while left:
        done, left = wait(left, timeout=0.2, return_when=FIRST_COMPLETED)
        tick()
        yield from done


def _remove_halves(jobs: list[Job]) -> None:
    """Killed workers cannot tidy up: remove their temporary folders (`files.folder_in_place` names them so)."""
    for job in jobs:
        for half in job.folder.parent.glob(f".{job.folder.name}.*"):
            shutil.rmtree(half, ignore_errors=True)


class _Stopped(Exception):  # noqa: N818  # no error: the parent asked for it
    """The parent wants no more frames."""


_counter: Synchronized[int] | None = None
_stop: Event | None = None


def _share(counter: Synchronized[int], stop: Event) -> None:
    """Keep what the workers share with their parent."""
    global _counter, _stop
    _counter, _stop = counter, stop


def _after_frame() -> None:
    if _stop is not None and _stop.is_set():
        raise _Stopped
    if _counter is not None:
        with _counter.get_lock():
            _counter.value += 1


def render(job: Job) -> str | None:
    """Render one episode, in a process of its own; returns why it cannot be walked, else None.

    Raises:
        InputError: it cannot be written.
        RuntimeError: anything not foreseen, with the apartment's seed.
    """
    try:
        return _render(job)
    except _Stopped:
        return None
    except M2HError:
        raise
    except Exception as error:
        raise RuntimeError(f"{job.title}: {error!r}") from error


def _render(job: Job) -> str | None:
    import cv2

    from m2h_runtime.simulation.apartment import build_apartment
    from m2h_runtime.simulation.episode import Episode
    from m2h_runtime.simulation.mesh import write_mesh

    cv2.setNumThreads(1)
    if job.folder.exists():  # only its mesh is missing
        write_mesh(build_apartment(job.seed), job.folder)
        return None
    try:
        episode = Episode(job.seed, job.style, job.duration_s, job.camera)
    except InputError as error:
        return f"{job.title}: {error}"
    _write(job, episode)
    return None


def _write(job: Job, episode: Episode) -> None:
    import numpy as np

    from m2h_runtime.simulation.dataset import write_episode
    from m2h_runtime.simulation.recording import write_recording

    if job.kind == "bag":
        write_recording(episode, job.frames, job.fps, job.folder, _after_frame, mesh=job.mesh)
        return
    rng = np.random.default_rng((job.seed, 7))
    slot = job.duration_s / job.frames
    later = BURST_STEP_S * np.arange(job.burst)
    first = np.minimum((np.arange(job.frames) + rng.random(job.frames)) * slot, job.duration_s - later[-1])
    walked = (episode.shot(float(time_s)) for time_s in np.add.outer(first, later).ravel())
    surveyed = (episode.survey_shot(n, place) for n in range(job.survey) for place in range(job.burst))
    write_episode(episode, chain(walked, surveyed), job.folder, _after_frame, mesh=job.mesh)
