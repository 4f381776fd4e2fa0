"""A backbone that learns from scratch in two minutes on two cores.

GroupNorm, because batches of four are too small for BatchNorm without pretrained statistics.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

WIDTHS = {4: 32, 8: 64, 16: 128}  # stride -> channels of the body
POOLED = 32  # the stride that only a pooled level has
group_norm = partial(nn.GroupNorm, 8)


class TinyBody(nn.Module):
    """A stem of stride 2 and one residual block (He et al. 2016) at each of the strides 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), group_norm(16), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleDict()
        inputs = 16
        for stride, outputs in WIDTHS.items():
            shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), group_norm(outputs))
            self.blocks[str(stride)] = BasicBlock(inputs, outputs, stride=2, downsample=shortcut, norm_layer=group_norm)
            inputs = outputs
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Stride -> feature map of ``images (B, 3, H, W)``."""
        features = self.stem(images)
        maps: dict[int, Tensor] = {}
        for stride, block in self.blocks.items():
            features = maps[int(stride)] = block(features)
        return maps


class TinyFPN(nn.Module):
    """:class:`TinyBody` under a feature pyramid (Lin et al. 2017).

    Attributes:
        out_channels: channels of every level, as torchvision's detectors ask for it.
        strides: the stride of each level, px.
    """

    def __init__(self, channels: int, levels: Sequence[int]) -> None:
        super().__init__()
        choices = (*WIDTHS, POOLED)
        if not levels or list(levels) != sorted(set(levels)) or any(level not in choices for level in levels):
            raise ValueError(f"levels={list(levels)} must be increasing strides out of {', '.join(map(str, choices))}")
        if POOLED in levels and 16 not in levels:
            raise ValueError(f"levels={list(levels)}: level {POOLED} is pooled from level 16, which is missing")
        self.strides = tuple(levels)
        self.out_channels = channels
        self.body = TinyBody()
        self.fpn = FeaturePyramidNetwork(
            [WIDTHS[level] for level in levels if level != POOLED],
            channels,
            extra_blocks=LastLevelMaxPool() if POOLED in levels else None,
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``"0", "1", ...`` -> ``(B, channels, H / stride, W / stride)``, finest first; a pooled one is ``"pool"``."""
        maps = self.body(images)
        levels = OrderedDict((str(i), maps[s]) for i, s in enumerate(s for s in self.strides if s != POOLED))
        pyramid: dict[str, Tensor] = self.fpn(levels)
        return pyramid


def tiny_fpn(channels: int = 64, levels: Sequence[int] = (8, 16)) -> TinyFPN:
    """The pyramid of the ``tiny_*`` detectors, about 0.39 M parameters.

    Args:
        channels: of every level.
        levels: their strides, px, increasing, out of 4, 8, 16 and 32 (32 is pooled from 16).

    Raises:
        ValueError: levels that do not exist.
    """
    return TinyFPN(channels, levels)
