from __future__ import annotations

import pytest

from m2h_export.evaluation.gain import delta_mtl
from m2h_runtime.errors import InputError

STL = {"semantics": 54.19, "depth": 0.5560, "normals": 19.22, "edges": 78.09}
CVM = {"semantics": 64.98, "depth": 0.3909, "normals": 15.27, "edges": 81.58}


def test_the_row_of_the_cvm_paper() -> None:
    assert delta_mtl(CVM, STL) == pytest.approx(18.6566, abs=5e-5)  # printed 18.66


def test_lower_is_better_for_errors_only() -> None:
    assert delta_mtl({"depth": 0.5}, {"depth": 1.0}) == 50
    assert delta_mtl({"saliency": 0.5}, {"saliency": 1.0}) == -50
    assert delta_mtl(
        {"semantics": 1.1, "normals": 11.0}, {"semantics": 1.0, "normals": 10.0}
    ) == pytest.approx(0)


def test_a_missing_baseline_is_told() -> None:
    with pytest.raises(InputError, match="no usable depth"):
        delta_mtl({"depth": 1.0}, {"semantics": 1.0})
    with pytest.raises(InputError, match="no task"):
        delta_mtl({}, STL)
