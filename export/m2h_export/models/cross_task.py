"""Windowed multi-task cross-attention (WMCA, M2H paper III.A.1, eq. 6 to 10), and its ablations."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mixing = Literal["wmca", "mha", "none"]
"""wmca: windows of 7 × 7, as published; mha: the same attention over whole maps; none: tasks do not meet."""


class CrossTaskLayer(nn.Module):
    """All tasks' tokens of one window attend to each other.

    The residual starts from the normalised tokens. Padded tokens take part as keys and values: no mask.
    """

    def __init__(self, width: int, heads: int, tasks: int, window: int | None) -> None:
        super().__init__()
        self.window = window
        self.norm_layers = nn.ModuleList(nn.LayerNorm(width) for _ in range(tasks))
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ffn_fc1 = nn.Linear(width, 4 * width)
        self.ffn_fc2 = nn.Linear(4 * width, width)
        self.norm2_layers = nn.ModuleList(nn.LayerNorm(width) for _ in range(tasks))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """One map (B, D, H, W) per task, to the same shapes."""
        height, width = maps[0].shape[-2:]
        # One window of the whole map is plain multi-head attention (the paper's ablation in Table VI).
        window = (self.window, self.window) if self.window else (height, width)
        rows, cols = -(-height // window[0]), -(-width // window[1])
        tokens = [
            norm(_to_windows(x, rows, cols, window)) for x, norm in zip(maps, self.norm_layers, strict=True)
        ]
        z = torch.cat(tokens, dim=1)  # (B·M, tasks·p², D)
        z = z + self.attn(z, z, z, need_weights=False)[0]
        z = z + self.ffn_fc2(F.gelu(self.ffn_fc1(z)))
        parts = z.chunk(len(maps), dim=1)
        return [
            _to_map(norm(part), rows, cols, window)[..., :height, :width]
            for part, norm in zip(parts, self.norm2_layers, strict=True)
        ]


def _to_windows(x: Tensor, rows: int, cols: int, window: tuple[int, int]) -> Tensor:
    """(B, D, H, W), zero-padded right and down, to (B·rows·cols, p², D), both row-major."""
    p, s = window
    x = F.pad(x, (0, cols * s - x.shape[-1], 0, rows * p - x.shape[-2]))
    x = x.reshape(*x.shape[:2], rows, p, cols, s)  # (B, D, rows, p, cols, s)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, p * s, x.shape[1])


def _to_map(tokens: Tensor, rows: int, cols: int, window: tuple[int, int]) -> Tensor:
    """(B·rows·cols, p², D) back to (B, D, rows·p, cols·p)."""
    p, s = window
    x = tokens.view(-1, rows, cols, p, s, tokens.shape[-1]).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(x.shape[0], x.shape[1], rows * p, cols * s)
