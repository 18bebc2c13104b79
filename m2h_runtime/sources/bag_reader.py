"""Messages of a ROS 1 or ROS 2 bag, read past whatever is broken in it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from m2h_runtime.errors import SourceError
from m2h_runtime.libraries import require

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

STEP_NS = 20_000_000
"""Reading goes on so long after the last good message, then twice as long, and so on: what is lost is at most about
twice what is broken."""
BROKEN_CHUNK, BROKEN_MESSAGE = "unreadable stretch of the bag", "unreadable message"
_REPAIR = {".bag": "rosbag reindex", ".mcap": "mcap recover", "": "ros2 bag reindex"}


class BagReader:
    """An open bag: a .bag file of ROS 1, a rosbag2 folder (sqlite3 or MCAP), or a lone .mcap or .db3 file.

    Args:
        path: of the file or folder.

    Attributes:
        types: message type by topic, for the topics that have messages.

    Raises:
        SourceError: there is no such bag, or it is damaged beyond reading.
        InputError: rosbags is not installed.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise SourceError(f"{path}: no such bag")
        self.path = path
        highlevel = require("rosbags.highlevel", "reading a bag", "bags")
        typesys = require("rosbags.typesys", "reading a bag", "bags")
        try:
            # Bags of Humble hold no message definitions; those of sensor_msgs are the same in all distributions.
            humble = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
            self._reader = highlevel.AnyReader([path], default_typestore=humble)
            self._reader.open()
        except Exception as error:  # the library raises anything from damaged bytes
            repair = _REPAIR.get(path.suffix, _REPAIR[""])
            raise SourceError(f"{self._unreadable(error)}; `{repair}` may repair it") from error
        self.types: dict[str, str] = {c.topic: c.msgtype for c in self._reader.connections if c.msgcount}

    def _unreadable(self, error: Exception) -> str:
        return (
            f"{self.path}: cannot be read as a bag ({' '.join(str(error).split()) or type(error).__name__})"
        )

    @property
    def duration_s(self) -> float:
        """From the first message to the last."""
        return float(self._reader.duration) / 1e9

    def count(self, topic: str) -> int:
        """How many messages the topic has."""
        counts: Counter[str] = Counter()
        for connection in self._reader.connections:
            counts[connection.topic] += connection.msgcount
        return counts[topic]

    def messages(
        self, topics: Collection[str], on_loss: Callable[[str], None]
    ) -> Iterator[tuple[str, int, Any]]:
        """Topic, log time in nanoseconds and message, in order of log time.

        Args:
            topics: to read.
            on_loss: called with `BROKEN_CHUNK` or `BROKEN_MESSAGE` for each that was passed over.

        Raises:
            SourceError: none of it can be read.
        """
        for connection, log_ns, data in self._stretches(topics, on_loss):
            try:
                message = self._reader.deserialize(data, connection.msgtype)
            except Exception:  # the library raises anything from damaged bytes
                on_loss(BROKEN_MESSAGE)
                continue
            yield connection.topic, log_ns, message

    def _stretches(
        self, topics: Collection[str], on_loss: Callable[[str], None]
    ) -> Iterator[tuple[Any, int, bytes]]:
        connections = [c for c in self._reader.connections if c.topic in topics]
        if not connections:  # of which rosbags would read all
            return
        last_ns, step_ns = self._reader.start_time, STEP_NS
        start_ns: int | None = None
        error: Exception | None = None
        found = False
        while start_ns is None or start_ns < self._reader.end_time:
            try:
                for connection, log_ns, data in self._reader.messages(connections, start=start_ns):
                    last_ns, step_ns, error, found = log_ns, STEP_NS, None, True
                    yield connection, log_ns, data
            except Exception as failure:  # the library raises anything from damaged bytes
                if error is None:
                    on_loss(BROKEN_CHUNK)
                error, start_ns = failure, last_ns + step_ns
                step_ns *= 2
            else:
                return
        if error is not None and not found:
            raise SourceError(self._unreadable(error)) from error

    def close(self) -> None:
        """Close the files. May be called twice."""
        if self._reader.stack is not None:
            self._reader.close()
