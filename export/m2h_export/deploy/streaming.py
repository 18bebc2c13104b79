"""Networks that look at neighbours, for one picture size: a frame and N neighbours whose features are known."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch.nn.functional as F
from torch import Tensor, nn

from m2h_export.deploy.cross_view import DeployCrossView
from m2h_export.deploy.encoder import DeployDinoV3, DeployEncoder, DeployStem
from m2h_export.deploy.network import DeployM2H
from m2h_export.deploy.task_heads import DeployTaskHeads
from m2h_export.models import CrossViewNetwork, M2HCrossView
from m2h_export.models.cross_view import LABEL_TASKS, cells
from m2h_export.models.encoders import ConvEncoder, DinoV2Encoder, DinoV3Encoder
from m2h_export.models.layers import fit, nearest
from m2h_export.models.spatial import STRIDE
from m2h_export.models.task_heads import TASK_SETS, as_predicted
from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from m2h_export.models import CrossView
    from m2h_export.models.cvm import CrossViewModule
    from m2h_export.models.encoders import Encoder
    from m2h_export.models.task_heads import TaskHead
    from m2h_export.models.vit import StemStage

Grid = tuple[int, int]


def deploy_stream(published: CrossView, size: Grid, neighbours: int) -> DeployStream:
    """The deploy form of a network with a cross-view module.

    Raises:
        InputError: a network that no engine can be made of.
    """
    check_streams(published)
    if isinstance(published, M2HCrossView):
        return DeployM2HStream(published, size, neighbours)
    return DeployCvM(cast("CrossViewNetwork", published), size, neighbours)


def check_streams(network: CrossView) -> None:
    """Can an engine be made of it.

    Raises:
        InputError: it has no module, one that reads the encoder, or other tasks than an engine has outputs for.
    """
    name, module = network.config.name, network.cvm
    if isinstance(network, CrossViewNetwork) and tuple(network.heads) != TASK_SETS["nyud"]:
        raise InputError(
            f"{name}: has the tasks {', '.join(network.heads)}; an engine gives {', '.join(TASK_SETS['nyud'])}"
        )
    if module is None or module.reads_encoder:
        raise InputError(
            f"{name}: this ablation becomes no engine: it has no cross-view module, or one that reads the encoder"
        )


class DeployStream(nn.Module):
    """What both kinds share; `forward_stream` is that of the published networks."""

    cvm: DeployCrossView

    def __init__(self, size: Grid) -> None:
        super().__init__()
        self.size, self.cells = size, cells(size)

    def forward_stream(
        self, picture: Tensor, neighbours: Tensor, neighbour_from_camera: Tensor, intrinsics: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Batch 1 and the sizes that it was made for; see `CrossView.forward_stream`."""
        features = self.spatial(picture)
        cross_view, zero = self.cvm(features, neighbours, neighbour_from_camera, intrinsics)
        return self.predict(picture, cross_view), features + zero

    def spatial(self, picture: Tensor) -> Tensor:
        """Normalised (1, 3, H, W) to spatial-aware features (1, K, h, w)."""
        return self.cvm.spatial(_padded(picture, (STRIDE * self.cells[0], STRIDE * self.cells[1])))

    def predict(self, picture: Tensor, cross_view: Tensor) -> dict[str, Tensor]:
        """Normalised (1, 3, H, W) and the module's map (1, C, 4h, 4w) to the outputs."""
        raise NotImplementedError


class DeployCvM(DeployStream):
    """Any encoder with light heads."""

    def __init__(self, published: CrossViewNetwork, size: Grid, neighbours: int) -> None:
        super().__init__(size)
        model = copy.deepcopy(published).eval()
        stride = model.encoder.stride
        self.padded = tuple(-(-STRIDE * n // stride) * stride for n in self.cells)
        self.encoder, grids = deploy_encoder(model.encoder, (self.padded[0], self.padded[1]))
        self.cvm = DeployCrossView(cast("CrossViewModule", model.cvm), self.cells, neighbours)
        heads = {task: cast("TaskHead", head) for task, head in model.heads.items()}
        self.heads = DeployTaskHeads(heads, model.encoder.scales, grids)
        self.labels = model.config.labels
        self.requires_grad_(requires_grad=False)
        self.eval()

    def predict(self, picture: Tensor, cross_view: Tensor) -> dict[str, Tensor]:
        """At the picture's size, but "grid" logits of an even size at half of it."""
        return self.decode(self.encode(picture), cross_view)

    def encode(self, picture: Tensor) -> list[Tensor]:
        """Normalised (1, 3, H, W) to what the heads read."""
        maps: list[Tensor] = self.encoder(_padded(picture, (self.padded[0], self.padded[1])))
        return maps

    def decode(self, maps: list[Tensor], cross_view: Tensor) -> dict[str, Tensor]:
        """The encoder's maps and the module's to the outputs of `predict`."""
        return {
            task: self._finished(task, as_predicted(task, x))
            for task, x in self.heads(maps, cross_view).items()
        }

    def _finished(self, task: str, x: Tensor) -> Tensor:
        """Enlarge to the padded picture and cut the padding off."""
        height, width = self.size
        if self.labels == "grid" and task in LABEL_TASKS and height % 2 == width % 2 == 0:
            return x[..., : height // 2, : width // 2]  # decided there; the nearest decision is the network's
        whole = (STRIDE * self.cells[0], STRIDE * self.cells[1])
        larger = nearest if self.labels == "grid" and task in LABEL_TASKS else fit
        return larger(x, whole)[..., :height, :width]


class DeployM2HStream(DeployStream):
    """M2H with the module's map joined to the finest level of its pyramid."""

    def __init__(self, published: M2HCrossView, size: Grid, neighbours: int) -> None:
        super().__init__(size)
        model = copy.deepcopy(published).eval()
        self.m2h = DeployM2H(model, size)
        self.cvm = DeployCrossView(cast("CrossViewModule", model.cvm), self.cells, neighbours)
        self.join = model.join
        rows, cols = model.backbone.grid(*size)
        self.finest = (4 * rows, 4 * cols)
        self.margins = tuple(n // 2 for n in model.backbone.padding(*size))
        self.requires_grad_(requires_grad=False)
        self.eval()

    def predict(self, picture: Tensor, cross_view: Tensor) -> dict[str, Tensor]:
        """What `DeployM2H` gives."""
        inside = cross_view[..., : (self.size[0] + 1) // 2, : (self.size[1] + 1) // 2]
        joined = self.join(fit(F.pad(inside, self.margins), self.finest))
        out: dict[str, Tensor] = self.m2h(picture, joined)
        return out


def deploy_encoder(encoder: Encoder, size: Grid) -> tuple[nn.Module, list[Grid | None]]:
    """The deploy form of an encoder for padded pictures, and the patch grid of each output that comes as tokens.

    Raises:
        InputError: an encoder of somebody else.
    """
    if isinstance(encoder, DinoV3Encoder):
        dino = DeployDinoV3(encoder.vit, size)
        return dino, [dino.grid] * len(encoder.scales)
    if isinstance(encoder, DinoV2Encoder):
        vit = DeployNormedDinoV2(encoder, size)
        stem = len(encoder.scales) - len(encoder.vit.config.tapped)
        return vit, [None] * stem + [vit.grid] * len(encoder.vit.config.tapped)
    if isinstance(encoder, ConvEncoder):
        return DeployConv(encoder), [None] * len(encoder.scales)
    raise InputError(
        f"no deploy form of the encoder {type(encoder).__name__}; write one in deploy/streaming.py"
    )


class DeployNormedDinoV2(nn.Module):
    """DINOv2's normed patch tokens, and what its stem saw at strides 4 and 8 if it has one."""

    def __init__(self, encoder: DinoV2Encoder, size: Grid) -> None:
        super().__init__()
        self.vit, self.norm = DeployEncoder(encoder.vit, size), encoder.vit.norm
        self.grid = self.vit.grid

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(1, 3, H, W) to maps (1, c, ·, ·), then tokens (1, h·w, D)."""
        tapped, details = self.vit(picture)
        return [*details[1:-1], *(self.norm(tokens[:, 1:]) for tokens in tapped)]


class DeployConv(nn.Module):
    """The convolutional encoder with its norms folded in."""

    def __init__(self, encoder: ConvEncoder) -> None:
        super().__init__()
        self.stages = DeployStem([cast("StemStage", stage) for stage in encoder.stages])

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(1, 3, H, W) to maps at strides 4 to 32."""
        maps: list[Tensor] = self.stages(picture)
        return maps[1:]


def _padded(picture: Tensor, size: Grid) -> Tensor:
    """Zeros right and down."""
    right, down = size[1] - picture.shape[-1], size[0] - picture.shape[-2]
    return F.pad(picture, (0, right, 0, down)) if right or down else picture
