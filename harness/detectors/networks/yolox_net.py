"""The YOLOX detector (Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021"), built of torchvision's parts.

It speaks torchvision's language: ``model(images, targets)`` gives losses in training and detections in evaluation,
boxes are xyxy px of the original image, labels count from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import batched_nms, clip_boxes_to_image

from harness.coders import DeltaCoder
from harness.core.structures import full_precision
from harness.detectors.networks.pafpn import PAFPN, NormLayer
from harness.detectors.networks.yolox_head import YOLOXHead

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
    """Boxes around the centre of every cell: a square of the cell's own size (a point), or YOLOv3's anchors.

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


class YOLOX(nn.Module):
    """A one-stage detector with an objectness branch.

    The box of a candidate of size ``(w, h)`` centred at ``c`` is decoded as ``c + (w, h) * (dx, dy)`` with size
    ``(w, h) * exp(dw, dh)``. For a point, a square of side stride, that is YOLOX's decoding; its offsets are counted
    from the middle of the cell rather than from the corner, which moves the bias of ``dx, dy`` by 1/2, nothing else.

    Args:
        backbone: images to a list of levels; has ``out_channels`` and ``strides``.
        num_classes: K + 1, with the background as torchvision counts it.
        head: ``decoupled`` (YOLOX) or ``coupled`` (YOLOv3).
        anchor_free: one point per cell (YOLOX); else anchors of ``anchor_sizes`` (YOLOv3).
        anchor_sizes: (width, height) px of a cell's anchors, level by level; without meaning where anchor-free.
        min_size: the shorter side of the resized image, px, as in torchvision's detectors.
        max_size: the bound of the longer side, px. Equal to ``min_size`` it is YOLOX's "letterbox".
        score_thresh: of the detections' class probability x objectness.
        nms_thresh: IoU of the per-class suppression.
        detections_per_img: at most so many.
        topk_candidates: at most so many per image enter the suppression.
        norm_layer: of the head.

    Raises:
        ValueError: an unknown head, or anchors for another number of levels.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        norm_layer: NormLayer,
        head: str = "decoupled",
        anchor_free: bool = True,
        anchor_sizes: AnchorSizes = YOLOV3_ANCHORS,
        min_size: int = 416,
        max_size: int = 416,
        score_thresh: float = 0.01,
        nms_thresh: float = 0.65,
        detections_per_img: int = 100,
        topk_candidates: int = 1000,
    ) -> None:
        super().__init__()
        strides: tuple[int, ...] = backbone.strides  # type: ignore[assignment]
        sizes: AnchorSizes = [[(stride, stride)] for stride in strides] if anchor_free else anchor_sizes
        if len(sizes) != len(strides) or len({len(level) for level in sizes}) != 1:
            raise ValueError(
                f"anchor_sizes={anchor_sizes} must be equally many (width, height) pairs for each of the "
                f"{len(strides)} levels"
            )
        self.anchor_free = anchor_free
        self.backbone = backbone
        self.anchor_generator = CellAnchors(sizes)
        channels: int = backbone.out_channels  # type: ignore[assignment]
        self.head = YOLOXHead(len(strides), channels, num_classes - 1, len(sizes[0]), head, norm_layer)
        self.coder = DeltaCoder()
        self.transform = GeneralizedRCNNTransform(min_size, max_size, MEAN, STD, size_divisible=max(strides))
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.detections_per_img = detections_per_img
        self.topk_candidates = topk_candidates

    def compute_loss(
        self, targets: Sequence[Mapping[str, Tensor]], head_outputs: Mapping[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """Given by ``equip``: the plain detector has no opinion on who trains."""
        raise RuntimeError("a plain YOLOX has no loss: equip(model, ...) gives it an assigner, a sampler and a loss")

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """As torchvision's detectors.

        Args:
            images: ``(3, H_i, W_i)`` float in [0, 1], of any sizes.
            targets: ``boxes (n, 4)`` xyxy px and ``labels (n,)`` from 1, one per image; needed in training.

        Returns:
            in training the named losses; in evaluation ``boxes``, ``labels`` and ``scores`` of every image.

        Raises:
            ValueError: training without targets.
        """
        if self.training and targets is None:
            raise ValueError("targets must be given in training")
        original = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        batch, targets = self.transform(images, targets)
        features = self.backbone(batch.tensors)
        outputs = self.head(features)
        anchors = self.anchor_generator(batch, features)
        if self.training:
            assert targets is not None
            return self.compute_loss(targets, outputs, anchors)
        detections = self._detections(outputs, anchors, batch.image_sizes)
        found: list[dict[str, Tensor]] = self.transform.postprocess(detections, batch.image_sizes, original)
        return found

    def _detections(
        self, outputs: Mapping[str, Tensor], anchors: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        scores = full_precision(outputs["cls_logits"]).sigmoid() * full_precision(
            outputs["objectness"]
        ).sigmoid().unsqueeze(-1)
        boxes = self.coder.decode(full_precision(outputs["bbox_regression"]), torch.stack(list(anchors)))
        return [self._suppressed(b, s, size) for b, s, size in zip(boxes, scores, sizes, strict=True)]

    def _suppressed(self, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """The detections of one image out of ``boxes (N, 4)`` and ``scores (N, K)``."""
        best, index = scores.flatten().topk(min(self.topk_candidates, scores.numel()))
        confident = best > self.score_thresh
        best, index = best[confident], index[confident]
        labels = index % scores.shape[-1]
        boxes = clip_boxes_to_image(boxes[index.div(scores.shape[-1], rounding_mode="floor")], size)
        keep = batched_nms(boxes, best, labels, self.nms_thresh)[: self.detections_per_img]
        return {"boxes": boxes[keep], "labels": labels[keep] + 1, "scores": best[keep]}
