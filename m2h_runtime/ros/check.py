"""`m2h-doctor --ros`: does a running graph keep to a profile, and what is wrong first?"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.label_space import load_label_space
from m2h_runtime.pipeline.health import Level
from m2h_runtime.ros.endpoints import reliable
from m2h_runtime.ros.graph import silence
from m2h_runtime.ros.messages import TYPES
from m2h_runtime.ros.session import RosSession
from m2h_runtime.ros.strict import StrictReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from m2h_runtime.ros.profiles import Profile
    from m2h_runtime.ros.strict import Sample

CORE = ("rgb", "camera_info", "depth", "labels")
"""What a scene-graph node reads; the other outputs only need a publisher."""
DISCOVERY_S = 3.0
CLOSEST_S = 0.02
"""Hydra takes at most one message of a topic in this time."""
OLDEST_S = 10.0
"""Hydra's transforms reach back further, but not by much."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: OK, DEGRADED: it works and could be better, FAILED: a scene-graph node gets nothing, or nonsense.
        subject: what was looked at: a topic, "stamps", "rate" ...
        text: what was seen; if that is wrong, what to do.
    """

    level: Level
    subject: str
    text: str


def first_wrong(findings: Sequence[Finding]) -> Finding | None:
    """The first failure, else the first thing that could be better, else None."""
    wrong = [finding for finding in findings if finding.level > Level.OK]
    return max(wrong, key=lambda finding: finding.level, default=None)  # max keeps the first of equals


def check_graph(
    profile: Profile, timeout_s: float = 5.0, *, args: Sequence[str] | None = None, use_sim_time: bool = False
) -> list[Finding]:
    """Look at the running graph as a strict receiver would, in the order in which things depend on each other.

    Reads `CORE` of the profile (reliable, a queue of one, equal stamps wanted); of other outputs it only asks for
    the publisher. Transforms are not looked at.

    Args:
        profile: what should be there.
        timeout_s: messages are read for so long, or until there are enough.
        args: ROS arguments, for remapped topics.
        use_sim_time: ages are counted on /clock.

    Raises:
        InputError: ROS is missing.
    """
    with RosSession("m2h_doctor", args=args, use_sim_time=use_sim_time) as session:
        topics = _discovered(session.node, profile)
        findings = [_published(session.node, output, topic) for output, topic in topics.items()]
        core = {output: topics[output] for output in CORE if output in topics}
        if not any(finding.level == Level.FAILED for finding in findings):
            reader = StrictReader(session.node, core)
            reader.read(timeout_s)
            reader.close()
            findings += _received(profile, core, reader, timeout_s)
    return [*findings, Finding(Level.OK, "tf", "not looked at; Hydra needs odom <- robot at every stamp")]


def _discovered(node: Any, profile: Profile) -> dict[str, str]:
    """The topics by output, once all have a publisher or `DISCOVERY_S` have passed."""
    end = time.monotonic() + DISCOVERY_S
    while True:
        home = _home(node, profile)
        topics = {output: _resolved(node, home, its.topic) for output, its in profile.outputs.items()}
        if all(map(node.count_publishers, topics.values())) or time.monotonic() > end:
            return topics
        time.sleep(0.1)


def _home(node: Any, profile: Profile) -> str:
    """The node under whose name most of the profile's `~/...` topics are published."""
    published = [name for name, _ in node.get_topic_names_and_types() if node.count_publishers(name)]
    private = [its.topic[1:] for its in profile.outputs.values() if its.topic.startswith("~/")]
    homes = Counter(name.removesuffix(tail) for tail in private for name in published if name.endswith(tail))
    return max(homes, key=lambda home: homes[home], default="/m2h_perception")


def _resolved(node: Any, home: str, topic: str) -> str:
    return str(node.resolve_topic_name(home + topic[1:] if topic.startswith("~/") else topic))


def _published(node: Any, output: str, topic: str) -> Finding:
    why = silence(node, topic, (TYPES[output],), reliable(1))
    if why is None:
        return Finding(Level.OK, topic, f"{TYPES[output]}, a reliable reader is served")
    level = Level.FAILED if output in CORE else Level.DEGRADED
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    return Finding(level, topic, f"{why}; is the node active, in ROS_DOMAIN_ID {domain}, with this profile?")


def _received(
    profile: Profile, core: Mapping[str, str], reader: StrictReader, timeout_s: float
) -> Iterator[Finding]:
    """The findings on messages; the first failure ends them."""
    said = "; ".join(f"{name}: {text}" for name, text in reader.complaints.items())
    for output, topic in core.items():
        if not reader.samples[output]:
            hint = f"; it says: {said}" if said else "; is the node active, and does its source deliver?"
            yield Finding(Level.FAILED, topic, f"no message in {timeout_s:g} s{hint}")
            return
    if said:
        yield Finding(Level.DEGRADED, "/diagnostics", said)
    for output, topic in core.items():
        if fault := _fault(profile, output, reader.samples[output]):
            yield Finding(Level.FAILED, topic, fault)
            return
    yield from _together(core, reader.samples)


def _fault(profile: Profile, output: str, samples: Sequence[Sample]) -> str | None:
    """What is wrong with the messages of one topic."""
    newest = samples[-1]
    stamps = [sample.stamp_ns for sample in samples]
    if stamps != sorted(stamps):
        return "its stamps go back; do two nodes publish it, or does a bag play in a loop?"
    if output == "camera_info":
        return _camera_fault(newest)
    wanted = profile.outputs[output].encoding
    if newest.encoding != wanted:
        return f"encoding {newest.encoding}, wanted {wanted}; run the node with profile {profile.name}"
    if output == "depth":
        return _depth_fault(samples)
    return _label_fault(profile, samples) if output == "labels" else None


def _camera_fault(newest: Sample) -> str | None:
    height, width = newest.size
    fx, fy, cx, cy = newest.intrinsics or (0.0,) * 4
    if min(fx, fy) <= 0:
        return "is not calibrated (k is 0); give the node a calibration"
    if not (0 < cx <= width and 0 < cy <= height):
        return f"the principal point {cx:g}, {cy:g} is outside of {width}x{height}; the calibration is of another size"
    return None


def _depth_fault(samples: Sequence[Sample]) -> str | None:
    if any(math.isnan(sample.low) for sample in samples):
        return "holds NaN or Inf, which Hydra takes for free space; invalid depth must be 0"
    if any(sample.low < 0 for sample in samples):
        return "holds negative depth; invalid depth must be 0"
    if all(sample.high == 0 for sample in samples):
        return "is 0 (invalid) everywhere; look at the profile's depth range and at depth_scale"
    return None


def _label_fault(profile: Profile, samples: Sequence[Sample]) -> str | None:
    if profile.label_space is None:  # the engine's own, which the graph does not tell
        return None
    total = len(load_label_space(profile.label_space).classes)
    lowest, highest = min(sample.low for sample in samples), max(sample.high for sample in samples)
    if lowest < -1 or highest >= total:
        return (
            f"ids {lowest:g}..{highest:g}, but {profile.label_space} has 0..{total - 1}; does an engine with "
            "another label space run without a table?"
        )
    return None


def _together(core: Mapping[str, str], samples: Mapping[str, Sequence[Sample]]) -> Iterator[Finding]:
    """Whether the topics fit each other; the first failure ends it."""
    newest = {output: its[-1] for output, its in samples.items()}
    for name, values in (
        ("size", {output: f"{sample.size[1]}x{sample.size[0]}" for output, sample in newest.items()}),
        ("frame id", {output: sample.frame_id for output, sample in newest.items()}),
    ):
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{core[output]} {value!r}" for output, value in values.items())
            yield Finding(Level.FAILED, name, f"differs: {listed}; all must come from one node")
            return
        yield Finding(Level.OK, name, next(iter(values.values())) or '""')
    common = set.intersection(*({sample.stamp_ns for sample in its} for its in samples.values()))
    most = max(map(len, samples.values()))
    yield _stamps(len(common), most, samples)
    yield _age([sample.age_s for its in samples.values() for sample in its if sample.stamp_ns in common])
    yield _rate(sorted(sample.stamp_ns for sample in next(iter(samples.values()))))


def _stamps(common: int, most: int, samples: Mapping[str, Sequence[Sample]]) -> Finding:
    if not common:
        counts = Counter(stamp for its in samples.values() for stamp in {sample.stamp_ns for sample in its})
        best = max(counts.values(), default=0)
        return Finding(
            Level.FAILED,
            "stamps",
            f"no frame has all of {', '.join(samples)} with one stamp, at most {best} of {len(samples)}; all must "
            "carry the stamp of the image that they were made of",
        )
    # the first and the last frame may be cut by the start and the end of reading
    level = Level.OK if common >= most - 2 or common >= 0.8 * most else Level.DEGRADED
    lost = "" if level == Level.OK else "; the others were lost on the way: see docs/ros2.md, transport"
    return Finding(level, "stamps", f"{common} of {most} frames came whole, with equal stamps{lost}")


def _age(ages_s: Sequence[float]) -> Finding:
    if not ages_s:
        return Finding(Level.OK, "age", "unknown")
    age_s = float(np.median(ages_s))
    if abs(age_s) < OLDEST_S:
        return Finding(Level.OK, "age", f"{1e3 * age_s:.0f} ms at arrival (median)")
    return Finding(
        Level.DEGRADED,
        "age",
        f"{age_s:.3g} s at arrival: the stamps are of another clock; with a replayed bag every node needs "
        "use_sim_time and the player --clock",
    )


def _rate(stamps_ns: Sequence[int]) -> Finding:
    if len(stamps_ns) < 2:
        return Finding(Level.OK, "rate", "one frame only")
    step_s = float(np.median(np.diff(stamps_ns))) / 1e9
    text = f"{1 / step_s:.1f} frames per second" if step_s else "equal stamps"
    if step_s < CLOSEST_S:
        return Finding(
            Level.DEGRADED, "rate", f"{text}; Hydra takes at most {1 / CLOSEST_S:.0f}, the others are lost"
        )
    return Finding(Level.OK, "rate", text)
