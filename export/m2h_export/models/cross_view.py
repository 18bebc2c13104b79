"""Networks with a cross-view module: on any encoder with light heads, and on M2H."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.models.cvm import CrossViewModule, CvMConfig
from m2h_export.models.layers import fit, nearest
from m2h_export.models.m2h import M2HConfig, M2HHead
from m2h_export.models.spatial import STRIDE
from m2h_export.models.task_heads import HEAD_STRIDE, TASK_SETS, TaskHead, TaskSet, as_predicted, outputs_of
from m2h_export.models.vit import DinoV2, Encoded
from m2h_export.models.warping import product
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from m2h_export.models.encoders import Encoder

MAX_VIEWS = 4
LABEL_TASKS = ("semantics", "human_parts", "saliency")


@dataclass(frozen=True)
class CrossViewConfig:
    """Everything that tells the cvm- networks apart.

    Attributes:
        name: as `build_model` and the manifest call it.
        encoder: makes the encoder, with fresh weights.
        head_channels: of a task head, where the encoder's maps meet, and where the cross-view maps join them.
        cvm: the module.
        tasks: which predictions.
        num_classes: of the semantic head.
        labels: "smooth" resizes logits to the picture bilinearly; "grid" takes the nearest of the head's grid.
        mean, std: what the network's input was normalised with, per RGB channel of 0..1.
    """

    name: str
    encoder: Callable[[], Encoder]
    head_channels: tuple[int, int]
    cvm: CvMConfig
    tasks: TaskSet = "nyud"
    num_classes: int = 41
    labels: Literal["smooth", "grid"] = "smooth"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class CrossView(nn.Module, ABC):
    """A network that may look at other views: what is the same for any encoder and any heads.

    Attributes:
        config: of the network; has name, num_classes, labels, mean and std.
        cvm: the module; None in the baseline without one.
    """

    config: CrossViewConfig | M2HConfig
    cvm: CrossViewModule | None

    @property
    @abstractmethod
    def backbone(self) -> nn.Module:
        """What published encoder weights are loaded into."""

    @abstractmethod
    def encode(self, image: Tensor) -> Any:
        """What the encoder gives for normalised pictures (B, 3, H, W); `decode` knows what it is."""

    @abstractmethod
    def spatial(self, image: Tensor, encoded: Any) -> Tensor:
        """Spatial-aware features (B, K, h, w) of pictures; `encoded` matters where the module reads the encoder."""

    @abstractmethod
    def decode(self, encoded: Any, cross_view: Tensor | None, size: tuple[int, int]) -> dict[str, Tensor]:
        """Predictions on the heads' own grid, from the encoder's and the module's maps of pictures of (H, W)."""

    @abstractmethod
    def resize(self, outputs: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """Predictions on the heads' grid, at the pictures' size (H, W)."""

    def encode_spatial(self, image: Tensor) -> Tensor:
        """Spatial-aware features (B, K, ceil(H/8), ceil(W/8)) of normalised pictures (B, 3, H, W).

        Raises:
            InputError: a network without a cross-view module.
        """
        module = self._module()
        return self.spatial(image, self.encode(image) if module.reads_encoder else None)

    def predict(self, image: Tensor) -> dict[str, Tensor]:
        """What `forward` gives, but on the heads' own, coarser grid: for losses that need not pay for resizing."""
        encoded = self.encode(image)
        maps = None if self.cvm is None else self._alone(self.spatial(image, encoded))
        return self.decode(encoded, maps, _size(image))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Predict from single views: each is its own neighbour.

        Args:
            image: float (B, 3, H, W), RGB, normalised with the config's mean and std; any H and W.

        Returns:
            `depth` (B, 1, H, W) metres, >= 0.001; `semantics` (B, K, H, W) logits; `normals` (B, 3, H, W), about unit
            length; `edges` (B, 1, H, W) logits; of the PASCAL tasks also `human_parts` (B, 7, H, W) and `saliency`
            (B, 2, H, W), logits, and no depth.
        """
        return self.resize(self.predict(image), _size(image))

    def predict_views(
        self, images: Tensor, neighbour_from_camera: Tensor, intrinsics: Tensor
    ) -> dict[str, Tensor]:
        """What `forward_views` gives, on the heads' own grid."""
        batch, views = images.shape[:2]
        if views > MAX_VIEWS:
            raise InputError(f"images: {views} views, expected 1 to {MAX_VIEWS}")
        flat = images.flatten(0, 1)
        encoded, maps = self.encode(flat), None
        if self.cvm is not None:
            features = torch.unflatten(self.spatial(flat, encoded), 0, (batch, views))
            maps = self.cvm(features, neighbour_from_camera, intrinsics, views).flatten(0, 1)
        outputs = self.decode(encoded, maps, _size(images))
        return {task: torch.unflatten(x, 0, (batch, views)) for task, x in outputs.items()}

    def forward_views(
        self, images: Tensor, neighbour_from_camera: Tensor, intrinsics: Tensor
    ) -> dict[str, Tensor]:
        """Predict for all of several views of a scene.

        Args:
            images: float (B, V, 3, H, W), normalised; 1 to 4 views.
            neighbour_from_camera: (B, V, V, 4, 4), [b, i, j] takes points of camera i's optical frame to camera j's,
                metres.
            intrinsics: (B, V, 4): fx, fy, cx, cy, pixels of the pictures, pixel centres at integers.

        Returns:
            What `forward` returns, for each view: (B, V, ·, H, W).

        Raises:
            InputError: more than four views.
        """
        views, size = images.shape[1], _size(images)
        outputs = self.predict_views(images, neighbour_from_camera, intrinsics)
        flat = {task: x.flatten(0, 1) for task, x in outputs.items()}
        return {task: torch.unflatten(x, 0, (-1, views)) for task, x in self.resize(flat, size).items()}

    def forward_stream(
        self, image: Tensor, neighbour_features: Tensor, neighbour_from_camera: Tensor, intrinsics: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Predict for one frame whose neighbours' features are known from before: encoder, CNN and heads run once.

        Args:
            image: float (1, 3, H, W), normalised.
            neighbour_features: (N, K, h, w), what this function gave for earlier frames. Where the pose is exactly the
                identity the frame's own features are taken instead.
            neighbour_from_camera: (N, 3, 4), from this camera's optical frame to each neighbour's, metres.
            intrinsics: (4,), of this camera and the neighbours': fx, fy, cx, cy in pixels of the picture.

        Returns:
            What `forward` returns, and the frame's own features (1, K, h, w).

        Raises:
            InputError: a network without a cross-view module.
        """
        module, size = self._module(), _size(image)
        encoded = self.encode(image)
        features = self.spatial(image, encoded)
        alone = (neighbour_from_camera == torch.eye(4)[:3].to(neighbour_from_camera)).flatten(1).all(dim=1)
        seen = torch.where(alone[:, None, None, None], features, neighbour_features)
        views = torch.cat([features, seen])[None]
        cameras = intrinsics.expand(1, views.shape[1], 4)
        maps = module(views, between_all(neighbour_from_camera)[None], cameras, 1)[:, 0]
        return self.resize(self.decode(encoded, maps, size), size), features

    def _alone(self, features: Tensor) -> Tensor:
        """The module's maps of pictures that are their own neighbours, from their features (B, K, h, w)."""
        batch, device = len(features), features.device
        poses = torch.eye(4, device=device).expand(batch, 1, 1, 4, 4)
        intrinsics = torch.tensor([1.0, 1.0, 0.0, 0.0], device=device).expand(batch, 1, 4)
        maps: Tensor = self._module()(features[:, None], poses, intrinsics, 1)
        return maps[:, 0]

    def _module(self) -> CrossViewModule:
        if self.cvm is None:
            raise InputError(f"{self.config.name} without cost volume and cross-view features has no module")
        return self.cvm


def between_all(neighbour_from_camera: Tensor) -> Tensor:
    """Poses (V, V, 4, 4) between a camera, the first, and its N = V - 1 neighbours, from (N, 3, 4)."""
    own = torch.eye(4).to(neighbour_from_camera)
    last = own[3:].expand(len(neighbour_from_camera), 1, 4)
    from_camera = torch.cat([own[None], torch.cat([neighbour_from_camera, last], dim=1)])  # (V, 4, 4)
    back = from_camera[:, :3, :3].transpose(1, 2)
    shift = -product(back, from_camera[:, :3, 3:])
    to_camera = torch.cat([torch.cat([back, shift], dim=2), own[3:].expand(len(back), 1, 4)], dim=1)
    return product(from_camera[None], to_camera[:, None])


class CrossViewNetwork(CrossView):
    """Any encoder, light task heads, and the cross-view module between them."""

    def __init__(self, config: CrossViewConfig) -> None:
        super().__init__()
        self.config: CrossViewConfig = config
        self.encoder = config.encoder()
        self.cvm = CrossViewModule(config.cvm, self.encoder) if config.cvm.present else None
        cross_view = self.cvm.channels if self.cvm is not None else 0
        self.heads = nn.ModuleDict(
            {
                task: TaskHead(
                    self.encoder.scales,
                    cross_view,
                    config.head_channels,
                    outputs_of(task, config.num_classes),
                )
                for task in TASK_SETS[config.tasks]
            }
        )
        if "depth" in self.heads:
            # Training starts at a room's depth: below zero the ReLU after it would have no slope.
            nn.init.constant_(cast("Tensor", cast("TaskHead", self.heads["depth"]).linear.bias), 2.0)

    @property
    def backbone(self) -> nn.Module:
        """The encoder's network."""
        return self.encoder.backbone

    def encode(self, image: Tensor) -> list[Tensor]:
        """The encoder's maps of the padded pictures."""
        maps: list[Tensor] = self.encoder(self._padded(image))
        return maps

    def spatial(self, image: Tensor, encoded: list[Tensor]) -> Tensor:
        """From the module's CNN, or the encoder."""
        return self._module().spatial(self._padded(image), cells(_size(image)), self.encoder, encoded)

    def _padded(self, image: Tensor) -> Tensor:
        """Padded to whole cells of the features, then to whole strides of the encoder."""
        stride = self.encoder.stride
        sides = [-(-STRIDE * n // stride) * stride for n in cells(_size(image))]
        return _padded(image, (sides[0], sides[1]))

    def decode(
        self, encoded: list[Tensor], cross_view: Tensor | None, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Predictions (B, ·, 4h, 4w) at half the padded pictures' size."""
        rows, cols = cells(size)
        grid = (rows * STRIDE // HEAD_STRIDE, cols * STRIDE // HEAD_STRIDE)
        return {
            task: as_predicted(task, head(encoded, cross_view, grid)) for task, head in self.heads.items()
        }

    def resize(self, outputs: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """Enlarge to the padded pictures and cut the padding off."""
        rows, cols = cells(size)
        resized = {}
        for task, x in outputs.items():
            enlarge = nearest if self.config.labels == "grid" and task in LABEL_TASKS else fit
            resized[task] = enlarge(x, (STRIDE * rows, STRIDE * cols))[..., : size[0], : size[1]]
        return resized


class M2HCrossView(CrossView):
    """M2H with the cross-view module's map added to the finest level of its pyramid; at first nothing is added.

    The state dict is M2H's and the module's: `cvm.` and `join.`.
    """

    def __init__(self, config: M2HConfig, cvm: CvMConfig) -> None:
        super().__init__()
        self.config: M2HConfig = config
        self._modules["backbone"] = DinoV2(config.backbone)  # the weights' name, which a property has here
        self.mlt_head = M2HHead(config)
        self.cvm = CrossViewModule(cvm, None) if cvm.present else None
        if self.cvm is not None:
            self.join = nn.Conv2d(self.cvm.channels, config.channels, 1)
            nn.init.zeros_(self.join.weight)
            nn.init.zeros_(cast("Tensor", self.join.bias))

    @property
    def backbone(self) -> DinoV2:
        """M2H's."""
        return cast("DinoV2", self._modules["backbone"])

    def encode(self, image: Tensor) -> Encoded:
        """What M2H's backbone gives."""
        encoded: Encoded = self.backbone(image)
        return encoded

    def spatial(self, image: Tensor, encoded: object) -> Tensor:  # noqa: ARG002 - M2H's module has its own CNN
        """From the module's CNN."""
        rows, cols = cells(_size(image))
        return self._module().spatial(_padded(image, (STRIDE * rows, STRIDE * cols)), (rows, cols), None, [])

    def decode(self, encoded: Encoded, cross_view: Tensor | None, size: tuple[int, int]) -> dict[str, Tensor]:
        """M2H's predictions, on its heads' grid."""
        finest = None if cross_view is None else self._joined(cross_view, size)
        return self.mlt_head.predict(*encoded, finest)

    def _joined(self, cross_view: Tensor, size: tuple[int, int]) -> Tensor:
        """The module's map (B, C, 4h, 4w) on the grid of the finest pyramid level, four times the patches'.

        M2H pads its pictures on all sides; so is this map, to whole cells of two pixels.
        """
        left, right, top, bottom = (n // 2 for n in self.backbone.padding(*size))
        inside = cross_view[..., : (size[0] + 1) // 2, : (size[1] + 1) // 2]
        rows, cols = self.backbone.grid(*size)
        out: Tensor = self.join(fit(F.pad(inside, (left, right, top, bottom)), (4 * rows, 4 * cols)))
        return out

    def resize(self, outputs: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """As M2H does."""
        return self.mlt_head.resize(outputs, size)


def cells(size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the spatial-aware features of pictures of (H, W)."""
    return -(-size[0] // STRIDE), -(-size[1] // STRIDE)


def _padded(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Zeros right and down, to a size."""
    return F.pad(image, (0, size[1] - image.shape[-1], 0, size[0] - image.shape[-2]))


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]
