"""The scene graph node's executable; everything is in m2h_runtime.ros.graph_node."""

import sys

from m2h_ros.starting import start


def main() -> int:
    """Run the node; returns an exit code only if it cannot be run."""
    return start("graph_node", "m2h_runtime.ros.graph_node")


if __name__ == "__main__":
    sys.exit(main())
