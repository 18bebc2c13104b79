"""Starts a node of m2h_runtime, or says what is missing."""

import importlib
import sys


def start(executable: str, module: str) -> int:
    """Run the node in `module`; returns an exit code only if it cannot be run."""
    try:
        node = importlib.import_module(module)
    except ImportError as error:
        sys.stderr.write(
            f"{executable}: {error} (Python: {sys.executable}); install m2h-runtime for this Python, or build this "
            "workspace with the Python that has it: README.md of m2h_ros shows how\n"
        )
        return 2
    except KeyboardInterrupt:  # before the node listens to signals
        return 130
    return node.command()
