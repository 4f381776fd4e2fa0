"""The YOLOX detector (Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021"), built of torchvision's parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from harness.coders import Coder, DeltaCoder, YOLOv3Coder, YOLOv5Coder
from harness.core import limits
from harness.core.structures import Activation
from harness.criterion.heads import Geometry, HeadSpec
from harness.detectors.networks.dense_detector import DenseDetector
from harness.detectors.networks.pafpn import PAFPN, NormLayer
from harness.detectors.networks.pyramid import PyramidGenerator
from harness.detectors.networks.yolox_head import YOLOXHead
from harness.losses.terms import Branch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's backbones expect
AnchorSizes = Sequence[Sequence[tuple[float, float]]]
YOLOV3_ANCHORS = (  # Redmon & Farhadi 2018, section 2.3: clusters of COCO's boxes, for strides 8, 16 and 32
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)


class YOLOXBackbone(nn.Module):
    """A body whose chosen maps go through a :class:`~harness.detectors.networks.pafpn.PAFPN`.

    Args:
        body: from images to a mapping of feature maps.
        keys: of the maps to use, finest first.
        in_channels: of these maps.
        strides: of these maps, px.
        out_channels: of every level that comes out.
        norm_layer: of the neck.
    """

    def __init__(
        self,
        body: nn.Module,
        keys: Sequence[str | int],
        in_channels: Sequence[int],
        strides: Sequence[int],
        out_channels: int,
        norm_layer: NormLayer,
    ) -> None:
        super().__init__()
        self.body = body
        self.keys = tuple(keys)
        self.strides = tuple(strides)
        self.out_channels = out_channels
        self.neck = PAFPN(in_channels, out_channels, norm_layer)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to levels ``(B, out_channels, H / stride, W / stride)``, finest first."""
        maps = self.body(images)
        return list(self.neck([maps[key] for key in self.keys]))


class CellAnchors(nn.Module):
    """Boxes around the center of every cell: a square of the cell's own size (a point), or YOLOv3's anchors.

    Args:
        sizes: (width, height) of the boxes, px, level by level.
    """

    def __init__(self, sizes: AnchorSizes) -> None:
        super().__init__()
        self.sizes = [[(float(w), float(h)) for w, h in level] for level in sizes]

    def num_anchors_per_location(self) -> list[int]:
        """Boxes per cell, level by level."""
        return [len(level) for level in self.sizes]

    def forward(self, image_list: ImageList, feature_maps: Sequence[Tensor]) -> list[Tensor]:
        """``(N, 4)`` boxes for every image, the same tensor for all of them."""
        image = image_list.tensors.shape[-2:]
        boxes = torch.cat(
            [self._level(feature, sizes, image) for feature, sizes in zip(feature_maps, self.sizes, strict=True)]
        )
        return [boxes] * len(image_list.image_sizes)

    @staticmethod
    def _level(feature: Tensor, sizes: Sequence[tuple[float, float]], image: Sequence[int]) -> Tensor:
        height, width = feature.shape[-2:]
        y = (torch.arange(height, dtype=feature.dtype, device=feature.device) + 0.5) * (image[0] / height)
        x = (torch.arange(width, dtype=feature.dtype, device=feature.device) + 0.5) * (image[1] / width)
        y, x = torch.meshgrid(y, x, indexing="ij")
        boxes = [torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), -1) for w, h in sizes]
        return torch.stack(boxes, 2).reshape(-1, 4)


CODERS: Mapping[str, type[Coder]] = {"yolox": DeltaCoder, "yolov3": YOLOv3Coder, "yolov5": YOLOv5Coder}


class LeveledCells(PyramidGenerator, CellAnchors):
    """:class:`CellAnchors` that remember the pyramid they come from."""


class YOLOX(DenseDetector):
    """A one-stage detector with an objectness branch.

    With ``coding=yolox`` the box of a candidate of size ``(w, h)`` centered at ``c`` is decoded as
    ``c + (w, h) * (dx, dy)`` with size ``(w, h) * exp(dw, dh)``. For a point, a square of side stride, that is YOLOX's
    decoding; its offsets are counted from the middle of the cell rather than from the corner, which moves the bias of
    ``dx, dy`` by 1/2, nothing else.

    Args:
        backbone: images to a list of levels; has ``out_channels`` and ``strides``.
        num_classes: K + 1, with the background as torchvision counts it.
        head: ``decoupled`` (YOLOX) or ``coupled`` (YOLOv3).
        anchor_free: one point per cell (YOLOX); else anchors of ``anchor_sizes`` (YOLOv3).
        anchor_sizes: (width, height) px of a cell's anchors, level by level; without meaning where anchor-free.
        coding: ``yolox``, ``yolov3`` (:class:`~harness.coders.YOLOv3Coder`) or ``yolov5``
            (:class:`~harness.coders.YOLOv5Coder`, YOLOv7's as well).
        min_size: the shorter side of the resized image, px, as in torchvision's detectors.
        max_size: the bound of the longer side, px. Equal to ``min_size`` it is YOLOX's "letterbox".
        score_thresh: of the detections' class probability x objectness.
        nms_thresh: IoU of the per-class suppression.
        detections_per_img: at most so many.
        topk_candidates: at most so many per image enter the suppression.
        norm_layer: of the head.

    Raises:
        ValueError: an unknown head or coding, or anchors for another number of levels.
    """

    BRANCH: ClassVar[str] = "objectness"

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        norm_layer: NormLayer,
        head: str = "decoupled",
        anchor_free: bool = True,
        anchor_sizes: AnchorSizes = YOLOV3_ANCHORS,
        coding: str = "yolox",
        min_size: int = 416,
        max_size: int = 416,
        score_thresh: float = 0.01,
        nms_thresh: float = 0.65,
        detections_per_img: int = 100,
        topk_candidates: int = 1000,
    ) -> None:
        strides: tuple[int, ...] = backbone.strides  # type: ignore[assignment]
        sizes: AnchorSizes = [[(stride, stride)] for stride in strides] if anchor_free else anchor_sizes
        if len(sizes) != len(strides) or len({len(level) for level in sizes}) != 1:
            raise ValueError(
                f"anchor_sizes={anchor_sizes} must be equally many (width, height) pairs for each of the "
                f"{len(strides)} levels"
            )
        limits.one_of("coding", coding, CODERS)
        channels: int = backbone.out_channels  # type: ignore[assignment]
        classes = num_classes - 1
        super().__init__(
            backbone,
            LeveledCells(sizes),
            YOLOXHead(len(strides), channels, classes, len(sizes[0]), head, norm_layer),
            GeneralizedRCNNTransform(min_size, max_size, MEAN, STD, size_divisible=max(strides)),
            spec=HeadSpec(
                stage="dense",
                num_classes=classes,
                columns=classes,
                first_column=0,
                background=None,
                activation=Activation.SIGMOID,
                geometry=Geometry.POINTS if anchor_free else Geometry.ANCHORS,
                coder=CODERS[coding](),
                classify_positives_only=True,
                branch=Branch.OBJECTNESS,
            ),
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
            topk_candidates=topk_candidates,
        )
