"""The multi-view transformer: who may attend to whom."""

from __future__ import annotations

import pytest
import torch
from scenes import cameras
from torch import Tensor, nn

from m2h_export.models.multi_view import MultiViewTransformer, Windows, nearest_views, sine_positions

WIDTH = 8


@pytest.fixture(scope="module")
def transformer() -> MultiViewTransformer:
    torch.manual_seed(0)
    model = MultiViewTransformer(WIDTH, layers=2, splits=2, expansion=2, adapter=12).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def features(views: int, size: tuple[int, int] = (6, 8)) -> Tensor:
    return torch.randn((1, views, WIDTH, *size), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def touched(
    model: MultiViewTransformer, x: Tensor, view: int, cell: tuple[int, int], **how: Tensor
) -> Tensor:
    """Where outputs change, (V, h, w), when one cell of one view does."""
    other = x.clone()
    other[0, view, :, cell[0], cell[1]] += 3
    return ((model(other, **how) - model(x, **how)).abs() > 1e-6).any(dim=2)[0]


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (5, 6), (1, 2)])
@pytest.mark.parametrize("shifted", [False, True])
def test_cutting_into_windows_and_joining_gives_the_map_back(size: tuple[int, int], shifted: bool) -> None:
    windows = Windows(*size, 2, shifted=shifted)
    x = torch.arange(2 * 3 * size[0] * size[1]).view(1, 2, *size, 3).float()
    assert torch.equal(windows.join(windows.cut(x)), x)


def test_windows_of_whole_maps_need_no_mask_and_shifted_or_padded_ones_do() -> None:
    device = torch.device("cpu")
    assert Windows(6, 8, 2, shifted=False).mask(device) is None
    mask = Windows(6, 8, 2, shifted=True).mask(device)
    assert mask is not None
    counts = mask.view(4, 3, 4, 12).sum(dim=-1)[:, 0, 0]
    assert counts.tolist() == [12, 6, 8, 4]  # what wraps around right, below, and both, keeps to itself
    padded = Windows(5, 8, 2, shifted=False).mask(device)
    assert padded is not None
    assert padded[2, 0].view(3, 4).tolist() == [[True] * 4, [True] * 4, [False] * 4]


def test_one_layer_mixes_windows_only_and_the_shifted_one_their_neighbours() -> None:
    torch.manual_seed(0)
    one = MultiViewTransformer(WIDTH, layers=1, splits=2, expansion=2, adapter=12).eval()
    changed = touched(one, features(2), 0, (1, 1))
    window = torch.zeros(6, 8, dtype=torch.bool)
    window[:3, :4] = True
    assert torch.equal(changed[1], window), "the neighbour's same window, all of it"
    assert torch.equal(changed[0], window)


def test_two_layers_reach_beyond_a_window_but_do_not_wrap_around(transformer: MultiViewTransformer) -> None:
    """The shifted windows are rows 1 to 3 and columns 2 to 5; the roll brings opposite edges together."""
    changed = touched(transformer, features(2), 1, (0, 0))
    reached = torch.zeros(6, 8, dtype=torch.bool)
    reached[:4, :6] = True
    assert torch.equal(changed, reached.expand(2, 6, 8))


def test_padding_is_never_seen(transformer: MultiViewTransformer) -> None:
    """A map whose sides are no multiple of the windows: random padding changes nothing."""
    x = features(2, (5, 7))
    inputs: list[Tensor] = []
    cut = Windows.cut

    def noisy(self: Windows, y: Tensor) -> Tensor:
        inputs.append(y)
        wide = torch.full((*y.shape[:2], 6, 8, y.shape[4]), 50.0)
        wide[:, :, :5, :7] = y
        whole = Windows(6, 8, 2, shifted=False)
        whole.shift = self.shift
        return cut(whole, wide)

    plain = transformer(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Windows, "cut", noisy)
        found = transformer(x)
    assert len(inputs) == 2
    torch.testing.assert_close(found, plain)


def test_swapping_views_swaps_what_they_get(transformer: MultiViewTransformer) -> None:
    x = features(3)
    order = [2, 0, 1]
    torch.testing.assert_close(transformer(x[:, order]), transformer(x)[:, order])


def test_one_view_is_the_same_as_itself_twice(transformer: MultiViewTransformer) -> None:
    x = features(1)
    torch.testing.assert_close(transformer(x)[:, 0], transformer(x.expand(1, 2, -1, -1, -1))[:, 1])


def test_the_last_cross_view_output_has_no_norm_and_the_adapter_follows(
    transformer: MultiViewTransformer,
) -> None:
    norms = [type(layer.cross.mlp_norm) for layer in transformer.layers]
    assert norms == [nn.LayerNorm, nn.Identity]
    assert all(isinstance(layer.own.norm, nn.LayerNorm) for layer in transformer.layers)
    kept: list[Tensor] = []
    hook = transformer.adapter.register_forward_hook(lambda _m, inputs, _out: kept.append(inputs[0]))
    transformer(features(2))
    hook.remove()
    assert kept[0].std(dim=-1).std() > 0.1, "not normalised"


# The nearest views


def test_three_views_attend_to_all_others() -> None:
    assert nearest_views(cameras(2, 3)[0]) is None


def test_of_four_views_each_attends_to_the_two_nearest(transformer: MultiViewTransformer) -> None:
    poses = torch.eye(4).repeat(1, 4, 4, 1, 1)
    places = torch.tensor([0.0, 0.1, 0.3, 5.0])
    poses[0, ..., 0, 3] = places[:, None] - places[None]
    nearest = nearest_views(poses)
    assert nearest is not None
    assert nearest[0].sort(dim=1).values.tolist() == [[1, 2], [0, 2], [0, 1], [1, 2]]
    one = MultiViewTransformer(WIDTH, layers=1, splits=1, expansion=2, adapter=12).eval()
    far = touched(one, features(4), 3, (1, 1), nearest=nearest)
    assert far[3].all()
    assert not far[:3].any(), "nobody looks at the far one"
    near = touched(one, features(4), 1, (1, 1), nearest=nearest)
    assert near.all()


def test_self_attention_sees_no_other_view() -> None:
    model = MultiViewTransformer(WIDTH, layers=2, splits=2, expansion=2, adapter=12, cross=False).eval()
    changed = touched(model, features(2), 1, (2, 3))
    assert not changed[0].any()
    assert changed[1].sum() == 4 * 6


def test_every_place_has_another_position() -> None:
    found = sine_positions(16, 7, 9, torch.zeros(1)).flatten(1).T
    assert found.shape == (63, 16)
    assert torch.cdist(found, found).fill_diagonal_(1).min() > 0.05
