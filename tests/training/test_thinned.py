"""Truth on a head's coarser grid."""

from __future__ import annotations

import pytest
import torch

from m2h_export.data.sample import IGNORE
from m2h_export.training.batches import Batch, thinned
from m2h_runtime.errors import InputError


def batch() -> Batch:
    values = torch.arange(24).view(1, 4, 6)
    edges = torch.zeros(1, 1, 4, 6, dtype=torch.uint8)
    edges[0, 0, 1, 1] = 1  # the first cell's last pixel
    edges[0, 0, 0:2, 4:6] = IGNORE
    edges[0, 0, 2:4, 0:2] = torch.tensor([[IGNORE, 1], [0, 0]])
    return {"semantics": values.to(torch.uint8), "depth": values[:, None].float(), "edges": edges}


def test_every_pixel_has_its_turn() -> None:
    seen = [thinned(batch(), (2, 3), step)["semantics"] for step in range(4)]
    assert sorted(torch.stack(seen).flatten().tolist()) == list(range(24))
    assert seen[0].tolist() == [[[0, 2, 4], [12, 14, 16]]]


def test_maps_stay_aligned() -> None:
    thin = thinned(batch(), (2, 3), 3)
    assert torch.equal(thin["semantics"].float(), thin["depth"][:, 0])


@pytest.mark.parametrize("step", range(4))
def test_an_edge_anywhere_in_a_cell_counts(step: int) -> None:
    edges = thinned(batch(), (2, 3), step)["edges"][0, 0]
    assert edges.tolist() == [[1, 0, IGNORE], [1, 0, 0]]


def test_a_batch_of_the_right_size_is_left_alone() -> None:
    whole = batch()
    assert thinned(whole, (4, 6), 1) is whole


def test_a_grid_that_does_not_divide_is_an_error() -> None:
    with pytest.raises(InputError, match=r"the heads' grid \(3, 3\) is no whole fraction of \(4, 6\)"):
        thinned(batch(), (3, 3), 0)
