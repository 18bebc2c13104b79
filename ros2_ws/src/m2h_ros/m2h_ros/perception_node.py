"""The lifecycle node's executable; everything is in m2h_runtime.ros.node."""

import sys

from m2h_ros.starting import start


def main() -> int:
    """Run the node; returns an exit code only if it cannot be run."""
    return start("perception_node", "m2h_runtime.ros.node")


if __name__ == "__main__":
    sys.exit(main())
