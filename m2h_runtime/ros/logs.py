"""Our logging in a node's log: on its console, in its file and on /rosout."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from m2h_runtime.pipeline.health import Level

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m2h_runtime.pipeline.health import Transition

LOGGERS = ("m2h", "m2h_runtime")


class NodeLog(logging.Handler):
    """Hands records to the logger of `node`."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        text = self.format(record)
        # rclpy remembers one severity for each line of code that logs.
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


@contextmanager
def logging_through(node: Any) -> Iterator[None]:
    """While the block lasts, what our modules log goes to the node's log."""
    handler = NodeLog(node)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


def log_transition(logger: Any, transition: Transition) -> None:
    """Write a change of the health to a node's logger, as loud as it is bad."""
    part, condition = transition.part, transition.condition
    if condition.level == Level.OK:
        logger.info(f"{part}: well again {condition.text}".rstrip())
    elif condition.level == Level.DEGRADED:
        logger.warning(f"{part}: {condition.text}")
    else:
        logger.error(f"{part}: {condition.text}")
