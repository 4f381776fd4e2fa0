"""The neck of the YOLO family: features mixed from coarse to fine, then from fine to coarse.

Source: path aggregation, Liu et al. 2018 ("Path Aggregation Network for Instance Segmentation"), section 3.1; used by
YOLOX (Ge et al. 2021). Where YOLOX mixes with a CSP block, this one has a 1x1 and a 3x3 convolution: the ladder asks
about heads and assigners, and a neck of simple parts keeps that the only difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import Conv2dNormActivation

NormLayer = Callable[[int], nn.Module]


def conv(channels: int, out_channels: int, kernel: int, norm_layer: NormLayer, stride: int = 1) -> nn.Module:
    """Convolution, normalization, SiLU: the one block that the neck and the heads are made of."""
    return Conv2dNormActivation(
        channels, out_channels, kernel, stride, norm_layer=norm_layer, activation_layer=nn.SiLU, inplace=True
    )


class PAFPN(nn.Module):
    """Path aggregation over any number of levels, each half the size of the one before.

    Args:
        in_channels: of the levels, finest first.
        out_channels: of every level that comes out.
        norm_layer: from a number of channels to a normalization.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, norm_layer: NormLayer) -> None:
        super().__init__()
        steps = len(in_channels) - 1

        def mix() -> nn.Module:
            return nn.Sequential(
                conv(2 * out_channels, out_channels, 1, norm_layer), conv(out_channels, out_channels, 3, norm_layer)
            )

        self.lateral = nn.ModuleList(conv(channels, out_channels, 1, norm_layer) for channels in in_channels)
        self.down_mix = nn.ModuleList(mix() for _ in range(steps))
        self.stride = nn.ModuleList(conv(out_channels, out_channels, 3, norm_layer, stride=2) for _ in range(steps))
        self.up_mix = nn.ModuleList(mix() for _ in range(steps))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """``(B, C_l, H_l, W_l)`` levels, finest first, to as many of ``out_channels``."""
        levels = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        for i in reversed(range(len(self.down_mix))):
            # The size is the finer level's own: a factor of 2 is wrong by one cell on odd sizes.
            coarse = interpolate(levels[i + 1], size=levels[i].shape[-2:], mode="nearest")
            levels[i] = self.down_mix[i](torch.cat((levels[i], coarse), 1))
        for i, (stride, mix) in enumerate(zip(self.stride, self.up_mix, strict=True)):
            levels[i + 1] = mix(torch.cat((stride(levels[i]), levels[i + 1]), 1))
        return levels
