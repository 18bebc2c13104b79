"""The lifecycle node's executable; everything is in m2h_runtime.ros.node."""

import sys


def main() -> int:
    """Run the node; returns an exit code only if it cannot be run."""
    try:
        from m2h_runtime.ros import node
    except ImportError as error:
        sys.stderr.write(
            f"perception_node: {error} (Python: {sys.executable}); install m2h-runtime for this Python, or build this "
            "workspace with the Python that has it: README.md of m2h_ros shows how\n"
        )
        return 2
    except KeyboardInterrupt:  # before the node listens to signals
        return 130
    return node.command()


if __name__ == "__main__":
    sys.exit(main())
