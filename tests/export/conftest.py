"""What the export tests share. Tracing a graph takes seconds, so each is traced once per session."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest

sys.path.append(str(Path(__file__).parent))  # for golden, at the end: `import conftest` means the one above
from golden import NANO_SIZE, filled

from m2h_export.deploy.contract_stage import ContractGraph, published_graph
from m2h_export.deploy.graph import export_graph
from m2h_export.deploy.network import DeployM2H

if TYPE_CHECKING:
    from m2h_export.models import M2H


@dataclass(frozen=True)
class Traced:
    """m2h-nano with the filled weights of seed 0 at `NANO_SIZE`: both graphs, and the folder that they lie in."""

    model: M2H
    reference: ContractGraph
    published: onnx.ModelProto
    deploy: onnx.ModelProto
    folder: Path


@pytest.fixture(scope="session")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    model, folder = filled("m2h-nano"), tmp_path_factory.mktemp("traced")
    reference = published_graph(model, None, (1, 1, 1))
    deployed = ContractGraph(DeployM2H(model, NANO_SIZE), model.config.mean, model.config.std)
    graphs = {"published": export_graph(reference, NANO_SIZE), "deploy": export_graph(deployed, NANO_SIZE)}
    for name, graph in graphs.items():
        onnx.save(graph, folder / f"{name}.onnx")
    return Traced(model, reference, graphs["published"], graphs["deploy"], folder)
