"""Multi-view transformer: windows of one view attend to themselves, then to the same window of its neighbours.

Of the family of GMFlow and UniMatch (arXiv 2111.13680, 2211.05783), whose sizes it has: one head, no norm before but
after a layer, a feed-forward network that reads a token beside what it was told.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEAREST_VIEWS = 2
"""Views that a view attends to, if there are more."""


class Attend(nn.Module):
    """Single-head attention and what it adds to a token, with or without a feed-forward network after it."""

    def __init__(self, width: int, expansion: int, *, normed: bool = True) -> None:
        super().__init__()
        self.query, self.key, self.value, self.merge = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.norm = nn.LayerNorm(width)
        self.mlp: nn.Sequential | None = None
        self.mlp_norm: nn.Module = nn.Identity()
        if expansion:
            hidden = 2 * expansion * width
            self.mlp = nn.Sequential(
                nn.Linear(2 * width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, width, bias=False)
            )
            if normed:
                self.mlp_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """(M, t, C), context (M, s, C) and which may attend to which (1 or M, t, s), to (M, t, C)."""
        told = F.scaled_dot_product_attention(
            self.query(x)[:, None],
            self.key(context)[:, None],
            self.value(context)[:, None],
            attn_mask=None if mask is None else mask[:, None],
        )[:, 0]
        message = self.norm(self.merge(told))
        if self.mlp is not None:
            message = self.mlp_norm(self.mlp(torch.cat([x, message], dim=-1)))
        out: Tensor = x + message
        return out


class MultiViewLayer(nn.Module):
    """Self-attention, then cross-attention with the feed-forward network."""

    def __init__(self, width: int, expansion: int, *, normed: bool) -> None:
        super().__init__()
        self.own = Attend(width, 0)
        self.cross = Attend(width, expansion, normed=normed)


class SwiGlu(nn.Module):
    """Gated MLP (arXiv 2002.05202) that hands the transformer's features to the heads: x + W3 (SiLU(W1 x) * W2 x)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) to (…, C)."""
        out: Tensor = x + self.down(F.silu(self.gate(x)) * self.up(x))
        return out


class MultiViewTransformer(nn.Module):
    """Spatial-aware features of V views to cross-view features.

    Args:
        width: K, channels.
        layers: of self- and cross-attention; every second one has its windows shifted by half a window.
        splits: windows along each side of a map.
        expansion: of the feed-forward networks.
        adapter: hidden width of the SwiGLU adapter after the last layer, which has no norm at its end.
        cross: False attends to a view's own tokens in the cross-attention's place (the papers' ablation "Self-Attn").
    """

    def __init__(
        self, width: int, layers: int, splits: int, expansion: int, adapter: int, *, cross: bool = True
    ) -> None:
        super().__init__()
        self.splits, self.crossing = splits, cross
        self.layers = nn.ModuleList(
            MultiViewLayer(width, expansion, normed=index < layers - 1) for index in range(layers)
        )
        self.adapter = SwiGlu(width, adapter)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, features: Tensor, nearest: Tensor | None = None) -> Tensor:
        """Exchange what the views see.

        Args:
            features: (B, V, K, h, w). One view is its own neighbour.
            nearest: int64 (B, V, n), the views that each attends to; None: all others.

        Returns:
            (B, V, K, h, w).
        """
        width, rows, cols = features.shape[2:]
        x = features + sine_positions(width, rows, cols, features)
        x = x.movedim(2, -1)  # (B, V, h, w, C)
        for index, layer in enumerate(self.layers):
            windows = Windows(rows, cols, self.splits, shifted=index % 2 == 1)
            x = self._layer(cast("MultiViewLayer", layer), windows, x, nearest)
        out: Tensor = self.adapter(x).movedim(-1, 2)
        return out

    def _layer(self, layer: MultiViewLayer, windows: Windows, x: Tensor, nearest: Tensor | None) -> Tensor:
        batch, views = x.shape[:2]
        mask = windows.mask(x.device)
        tokens = windows.cut(x)  # (B, V, M, t, C)
        flat = tokens.flatten(0, 2)
        repeated = None if mask is None else mask.repeat(batch * views, 1, 1)
        flat = layer.own(flat, flat, repeated)
        tokens = flat.view(tokens.shape)
        context = _context(tokens, nearest) if self.crossing else tokens  # (B, V, M, n·t, C)
        if repeated is not None:
            repeated = repeated.repeat(1, 1, context.shape[3] // tokens.shape[3])
        flat = layer.cross(flat, context.flatten(0, 2), repeated)
        return windows.join(flat.view(tokens.shape))


def _context(tokens: Tensor, nearest: Tensor | None) -> Tensor:
    """(B, V, M, t, C) to what each view attends to, (B, V, M, n·t, C)."""
    batch, views = tokens.shape[:2]
    if views == 1:
        return tokens
    if nearest is None:
        others = [torch.cat([tokens[:, j] for j in range(views) if j != i], dim=2) for i in range(views)]
        return torch.stack(others, dim=1)
    chosen = tokens[torch.arange(batch, device=tokens.device)[:, None, None], nearest]  # (B, V, n, M, t, C)
    return chosen.transpose(2, 3).flatten(3, 4)


def nearest_views(neighbour_from_camera: Tensor) -> Tensor | None:
    """The `NEAREST_VIEWS` cameras that are closest to each, int64 (B, V, n); None where there are no more than those.

    Args:
        neighbour_from_camera: (B, V, V, 4, 4), [b, i, j] takes points of camera i to camera j.
    """
    views = neighbour_from_camera.shape[1]
    if views <= NEAREST_VIEWS + 1:
        return None
    distance = neighbour_from_camera[..., :3, 3].norm(dim=-1)  # (B, V, V)
    own = torch.eye(views, dtype=torch.bool, device=distance.device)
    nearest: Tensor = distance.masked_fill(own, math.inf).topk(NEAREST_VIEWS, largest=False).indices
    return nearest


class Windows:
    """`splits`² windows of a map of rows × cols cells, padded right and down, shifted by half a window or not."""

    def __init__(self, rows: int, cols: int, splits: int, *, shifted: bool) -> None:
        self.rows, self.cols, self.splits = rows, cols, splits
        self.height, self.width = -(-rows // splits), -(-cols // splits)
        self.shift = (self.height // 2, self.width // 2) if shifted and splits > 1 else (0, 0)

    def cut(self, x: Tensor) -> Tensor:
        """(B, V, h, w, C) to (B, V, windows, t, C), both row-major."""
        n = self.splits
        x = F.pad(x, (0, 0, 0, n * self.width - self.cols, 0, n * self.height - self.rows))
        if any(self.shift):
            x = x.roll((-self.shift[0], -self.shift[1]), (2, 3))
        x = torch.unflatten(
            torch.unflatten(x, 3, (n, self.width)), 2, (n, self.height)
        )  # (B, V, n, p, n, q, C)
        return x.transpose(3, 4).flatten(4, 5).flatten(2, 3)

    def join(self, tokens: Tensor) -> Tensor:
        """The way back."""
        n = self.splits
        x = torch.unflatten(tokens, 3, (self.height, self.width))
        x = torch.unflatten(x, 2, (n, n))  # (B, V, n, n, p, q, C)
        x = x.transpose(3, 4).flatten(4, 5).flatten(2, 3)
        if any(self.shift):
            x = x.roll(self.shift, (2, 3))
        return x[:, :, : self.rows, : self.cols]

    def mask(self, device: torch.device) -> Tensor | None:
        """Which tokens of a window may meet, bool (windows, t, t): padding, and what only the roll brought together.

        None where all may.
        """
        n = self.splits
        padded = n * self.height > self.rows or n * self.width > self.cols
        if not padded and not any(self.shift):
            return None
        rows = self._regions(self.rows, n * self.height, self.shift[0], device)
        cols = self._regions(self.cols, n * self.width, self.shift[1], device)
        region = rows[:, None] * 4 + cols  # (n·p, n·q)
        region = region.view(n, self.height, n, self.width).transpose(1, 2).reshape(n * n, -1)
        return region[:, :, None] == region[:, None]

    @staticmethod
    def _regions(real: int, padded: int, shift: int, device: torch.device) -> Tensor:
        """Along one axis, after the roll: 1 for padding, 2 for what the roll brought from the front, else 0."""
        at = torch.arange(padded, device=device).roll(-shift)
        front = torch.arange(padded, device=device) >= padded - shift
        return torch.where(at >= real, 1, torch.where(front, 2, 0))


def sine_positions(width: int, rows: int, cols: int, like: Tensor) -> Tensor:
    """(C, rows, cols): sines and cosines of y, then of x, each going once around over the map."""
    wavelength = 10000 ** (torch.arange(width // 4, device=like.device, dtype=torch.float32) * (4 / width))

    def waves(count: int) -> Tensor:
        """(C/2, count)."""
        at = (torch.arange(count, device=like.device, dtype=torch.float32) + 1) * (2 * math.pi / count)
        angle = at / wavelength[:, None]
        return torch.cat([angle.sin(), angle.cos()])

    y = waves(rows)[:, :, None].expand(-1, -1, cols)
    x = waves(cols)[:, None].expand(-1, rows, -1)
    return torch.cat([y, x]).to(like.dtype)
