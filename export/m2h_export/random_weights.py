"""Reproducible weights for a network that has none: enough to prove parity and speed, useless as perception."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

_COMPUTED = ("num_batches_tracked", "rope_embed.periods", "bias_mask")
"""Buffers that a network has by itself."""


def fill_weights(model: nn.Module, seed: int) -> None:
    """Fill a network's state dict; every value depends on (seed, key, shape) only, not on module order."""
    state = model.state_dict()
    model.load_state_dict({name: _filled(name, value, seed) for name, value in state.items()})


def _filled(name: str, value: Tensor, seed: int) -> Tensor:
    if name.endswith(_COMPUTED):
        return value
    return torch.from_numpy(np.asarray(values_for(name, tuple(value.shape), seed))).to(value.dtype)


def values_for(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Well-scaled float32 values for one parameter or buffer."""
    rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    noise = rng.standard_normal(shape, dtype=np.float32)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return np.asarray(0.75 + 0.5 * rng.random(shape, dtype=np.float32), np.float32)
    if leaf == "running_mean":
        return 0.1 * noise
    if leaf == "gamma":  # LayerScale
        return np.asarray(0.2 + 0.4 * rng.random(shape, dtype=np.float32), np.float32)
    if leaf in ("cls_token", "mask_token", "pos_embed", "storage_tokens"):
        return 0.2 * noise
    if name.endswith(("conv_depth.final_conv.bias", "heads.depth.linear.bias")):
        return np.full(shape, 3.0, np.float32)  # keeps the depth head's ReLU away from zero
    if name.endswith(("heads.depth.linear.weight", "join.weight")):  # and depth away from it, too
        return 0.03 * noise / np.float32(math.sqrt(math.prod(shape[1:])))
    if len(shape) >= 2:
        return noise / np.float32(math.sqrt(math.prod(shape[1:])))
    if leaf == "weight":  # the scale of a norm
        return 1.0 + 0.1 * noise
    return 0.05 * noise
