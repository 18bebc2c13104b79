"""The cross-view module (CvM, arXiv 2511.20646): features, transformer, cost volume, upsampling; for all tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.models.multi_view import MultiViewTransformer, nearest_views
from m2h_export.models.spatial import STRIDE, FromEncoder, Lora, SpatialCnn, SpatialKind
from m2h_export.models.warping import INDOORS, DepthRange, at_stride, cost_volume, plane_depths
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from m2h_export.models.encoders import Encoder


@dataclass(frozen=True)
class CvMConfig:
    """Sizes of the module and the switches of the papers' ablations.

    Attributes:
        spatial: where spatial-aware features come from (Table 5): the module's CNN, or the encoder, as it is, with
            LoRA of rank 16, or with adapters.
        interaction: "cross-view"; "self-attention" has layers of equal size on the encoder's features and no other
            view (Table A15).
        cost_volume: False leaves it out (Table A15, "w/o CV").
        cross_view_features: False hands only the cost volume to the heads (Table 4, "w/o CF"). Without either there
            is no module: the baseline.
        planes: L, depth planes (Table 6).
        depths: their range; `INDOORS`, or `PAPERS` for what the papers print (A2.2).
        views: V of a training sample and an engine, 1 to 4 (Table 7); the weights are the same for all.
        channels: K, of the spatial-aware features.
        cnn: channels of the CNN at strides 2, 4 and 8.
        layers: of the multi-view transformer.
        splits: attention windows along each side of a map.
        expansion: of the feed-forward networks.
        adapter: hidden width of the SwiGLU adapter.
        upsampled: channels of the upsampled cross-view features and cost volume.
    """

    spatial: SpatialKind = "cnn"
    interaction: Literal["cross-view", "self-attention"] = "cross-view"
    cost_volume: bool = True
    cross_view_features: bool = True
    planes: int = 128
    depths: DepthRange = INDOORS
    views: int = 2
    channels: int = 128
    cnn: tuple[int, int, int] = (64, 96, 128)
    layers: int = 6
    splits: int = 2
    expansion: int = 4
    adapter: int = 344
    upsampled: tuple[int, int] = (96, 32)

    def __post_init__(self) -> None:
        """Check what a user can set.

        Raises:
            InputError: a value that no network can have.
        """
        if not 0 < self.depths.near_m < self.depths.far_m:
            raise InputError(f"depths: {tuple(self.depths)} m, expected 0 < near < far")
        if self.interaction == "self-attention" and not self.cross_view_features:
            raise InputError(
                "interaction: 'self-attention' gives features only; leave cross_view_features on"
            )
        if self.planes < 2:
            raise InputError(f"planes: {self.planes}, expected 2 or more")
        if not 1 <= self.views <= 4:
            raise InputError(f"views: {self.views}, expected 1 to 4")

    @property
    def present(self) -> bool:
        """There is a module at all."""
        return self.cost_volume or self.cross_view_features

    @property
    def crossing(self) -> bool:
        """Other views are looked at."""
        return self.present and self.interaction == "cross-view"


SELF_ATTENTION_LAYERS = 2
"""More of them in the ablation "self-attention", for the CNN and the cost volume's upsampling that it has not."""


class Upsample4(nn.Module):
    """Learned 4× upsampling: twice a 3 × 3 convolution and pixel shuffle, then a residual of two convolutions.

    Normalised here: neither cross-view features nor costs have a norm of their own, and costs are large numbers.
    """

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        middle = min(cin // 2, 64)
        self.first = nn.Conv2d(cin, 4 * middle, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(middle)
        self.second = nn.Conv2d(middle, 4 * cout, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(cout)
        self.refine = nn.Sequential(
            nn.Conv2d(cout, cout, 3, padding=1), nn.ReLU(), nn.Conv2d(cout, cout, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, h, w) to (B, cout, 4h, 4w)."""
        x = F.relu(self.norm1(F.pixel_shuffle(self.first(x), 2)))
        x = F.relu(self.norm2(F.pixel_shuffle(self.second(x), 2)))
        out: Tensor = x + self.refine(x)
        return out


class CrossViewModule(nn.Module):
    """Views in, one map at half the picture's size for each out.

    Args:
        config: sizes and switches; `present`.
        encoder: whose maps the ablations read; the module keeps none of it.
    """

    def __init__(self, config: CvMConfig, encoder: Encoder | None) -> None:
        super().__init__()
        self.config = config
        self.reads_encoder = config.spatial != "cnn" or not config.crossing
        self.has_cost_volume = config.cost_volume and config.crossing
        if self.reads_encoder and encoder is None:
            raise InputError(f"spatial {config.spatial!r} and self-attention need one of the cvm- networks")
        if self.reads_encoder:
            adapter = config.spatial == "encoder-adapter"
            self.from_encoder = FromEncoder(cast("Encoder", encoder), config.channels, adapter=adapter)
            self.lora = Lora(cast("Encoder", encoder)) if config.spatial == "encoder-lora" else None
        else:
            self.cnn = SpatialCnn(config.cnn, config.channels)
        self.transformer = MultiViewTransformer(
            config.channels,
            config.layers + (0 if config.crossing else SELF_ATTENTION_LAYERS),
            config.splits,
            config.expansion,
            config.adapter,
            cross=config.crossing,
        )
        if config.cross_view_features:
            self.upsample_features = Upsample4(config.channels, config.upsampled[0])
        if self.has_cost_volume:
            self.register_buffer("depths", plane_depths(config.depths, config.planes), persistent=False)
            self.upsample_costs = Upsample4(config.planes, config.upsampled[1])

    @property
    def channels(self) -> int:
        """Of the map that the heads get."""
        features, costs = self.config.upsampled
        return features * self.config.cross_view_features + costs * self.has_cost_volume

    def spatial(
        self, image: Tensor, size: tuple[int, int], encoder: Encoder | None, maps: list[Tensor]
    ) -> Tensor:
        """Spatial-aware features (B, K, h, w) of pictures.

        Args:
            image: (B, 3, H, W), normalised, padded to at least (8h, 8w) and to whole strides of the encoder.
            size: (h, w).
            encoder: and in `maps` what it gave for these pictures; unused with the CNN.
            maps: see there.
        """
        if not self.reads_encoder:
            image = image[..., : STRIDE * size[0], : STRIDE * size[1]]
            return cast("Tensor", self.cnn(image))
        if self.lora is not None:
            maps = self.lora(encoder, image)
        return cast("Tensor", self.from_encoder(maps, size))

    def forward(
        self, features: Tensor, neighbour_from_camera: Tensor, intrinsics: Tensor, wanted: int
    ) -> Tensor:
        """What the heads get for the first `wanted` views.

        Args:
            features: spatial-aware (B, V, K, h, w). One view is its own neighbour.
            neighbour_from_camera: (B, V, V, 4, 4), [b, i, j] takes points of camera i to camera j, metres.
            intrinsics: (B, V, 4), pixels of the picture.
            wanted: how many of the views.

        Returns:
            (B, wanted, `channels`, 4h, 4w): cross-view features, then the cost volume, each upsampled.
        """
        views = self.transformer(features, nearest_views(neighbour_from_camera))
        parts = []
        if self.config.cross_view_features:
            parts.append(self.upsample_features(views[:, :wanted].flatten(0, 1)))
        if self.has_cost_volume:
            costs = self.costs(views, neighbour_from_camera, intrinsics, wanted)
            parts.append(self.upsample_costs(costs.flatten(0, 1)))
        return torch.unflatten(torch.cat(parts, dim=1), 0, (-1, wanted))

    def costs(self, views: Tensor, neighbour_from_camera: Tensor, intrinsics: Tensor, wanted: int) -> Tensor:
        """Cost volumes (B, wanted, L, h, w) of the first views against all others, from cross-view features."""
        cameras = at_stride(intrinsics, STRIDE)
        volumes = []
        for i in range(wanted):
            others = [j for j in range(views.shape[1]) if j != i] or [i]
            volumes.append(
                cost_volume(
                    views[:, i],
                    views[:, others],
                    neighbour_from_camera[:, i, others],
                    cameras[:, i],
                    cameras[:, others],
                    cast("Tensor", self.depths),
                )
            )
        return torch.stack(volumes, dim=1)
