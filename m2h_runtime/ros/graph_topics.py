"""What a perception publishes, put together image by image."""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from m2h_runtime.ros.endpoints import make_subscription, reliable
from m2h_runtime.ros.graph import silence
from m2h_runtime.ros.graph_settings import NEEDED
from m2h_runtime.ros.messages import TYPES
from m2h_runtime.scene_graph.messages import SAME_FRAME_NS, stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SILENT_S = 2.0
"""Nothing for so long is told."""
HELD = 10
"""Images of a topic that wait for those of the others."""


class Outputs(NamedTuple):
    """The messages of one image."""

    depth: Any
    labels: Any
    camera_info: Any
    rgb: Any | None


class OutputReader:
    """Reads depth, labels, camera_info and, if anybody publishes it, rgb, as Hydra does: reliably.

    Images belong together if their stamps do (`SAME_FRAME_NS`); of the camera_info the newest is taken.

    Args:
        node: a node that somebody spins.
        topics: topic by output; "rgb" may be missing.
        take: gets the messages of each image, in the node's thread; must be quick.

    Raises:
        InputError: ROS is missing, or a topic's name is not one.
    """

    def __init__(self, node: Any, topics: Mapping[str, str], take: Callable[[Outputs], None]) -> None:
        self._node = node
        self._take = take
        self._camera_info: Any = None
        self._heard_ns: dict[str, int] = {}
        self._whole_ns = time.monotonic_ns()
        self._held: dict[str, deque[Any]] = {
            output: deque(maxlen=HELD) for output in topics if output != "camera_info"
        }
        self.topics: dict[str, str] = {}
        for output, topic in topics.items():
            put = partial(self._put, output)
            subscription = make_subscription(node, TYPES[output], topic, put, reliable(HELD))
            self.topics[output] = str(subscription.topic_name)

    def _put(self, output: str, message: Any) -> None:
        self._heard_ns[output] = time.monotonic_ns()
        if output == "camera_info":
            self._camera_info = message
            return
        self._held[output].append(message)
        if self._camera_info is None:
            return
        if (whole := self._whole(stamp_of(message))) is not None:
            self._whole_ns = time.monotonic_ns()
            self._take(Outputs(whole["depth"], whole["labels"], self._camera_info, whole.get("rgb")))

    def _whole(self, stamp_ns: int) -> dict[str, Any] | None:
        """The images of this stamp, once all are there; what is older is let go then."""
        awaited = self._awaited()
        found = {
            output: message
            for output in awaited
            for message in self._held[output]
            if abs(stamp_of(message) - stamp_ns) <= SAME_FRAME_NS
        }
        if len(found) < len(awaited):
            return None
        for output in found:
            newer = [one for one in self._held[output] if stamp_of(one) > stamp_ns + SAME_FRAME_NS]
            self._held[output] = deque(newer, maxlen=HELD)
        return found

    def _awaited(self) -> list[str]:
        """The images that come; nobody has to publish rgb."""
        colored = "rgb" in self.topics and self._node.count_publishers(self.topics["rgb"])
        return ["depth", "labels", "rgb"] if colored else ["depth", "labels"]

    def lack(self) -> str | None:
        """Why nothing has come for `SILENT_S`; None if something has."""
        now_ns = time.monotonic_ns()
        if now_ns - self._whole_ns < SILENT_S * 1e9:
            return None
        for output in NEEDED:
            topic = self.topics[output]
            if why := silence(self._node, topic, (TYPES[output],), reliable(1)):
                return why
            if now_ns - self._heard_ns.get(output, 0) > SILENT_S * 1e9:
                return f"{topic}: has a publisher, but nothing comes"
        images = " and ".join(self.topics[output] for output in self._awaited())
        return f"{images}: no stamps that are equal to within 1 ms; are they of one perception?"
