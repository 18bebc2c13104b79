"""`m2h-export` for m2h-nano with its graphs traced beforehand: all but the tracing is real, and takes seconds.

python quick_export.py FOLDER [m2h-export options]; FOLDER holds published.onnx and deploy.onnx.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from m2h_export import build
from m2h_export.cli import main
from m2h_export.models import M2H

if TYPE_CHECKING:
    from m2h_export.deploy.contract_stage import ContractGraph


def traced_in(folder: Path) -> object:
    """A stand-in for `export_graph` that reads the graph instead of tracing it."""

    def export_graph(graph: ContractGraph, size: tuple[int, int]) -> onnx.ModelProto:
        return onnx.load(folder / ("published.onnx" if isinstance(graph.network, M2H) else "deploy.onnx"))

    return export_graph


if __name__ == "__main__":
    build.export_graph = traced_in(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
