"""A one-stage detector of torchvision's parts whose head may regress distances or distributions, and rate its boxes.

It speaks torchvision's language: ``model(images, targets)`` gives losses in training and detections in evaluation,
boxes are xyxy px of the original image, labels count from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from harness.core.precision import full_precision, without_autocast
from harness.core.structures import Candidates
from harness.criterion.heads import Geometry, HeadSpec, Outputs
from harness.detectors.networks.pyramid import PyramidAnchors
from harness.losses.terms import Branch

VOTING_SIGMA = 0.025  # PAA (Kim & Lee 2020), section 3.4
VOTING_LEAST_IOU = 0.01


class DenseDetector(nn.Module):
    """A backbone, anchors or points, a head, and the facts of how to read the head.

    Args:
        backbone: images to levels, as a list or as a mapping in order; finest first.
        anchor_generator: boxes of every level, as :class:`~harness.detectors.networks.pyramid.PyramidAnchors`.
        head: from levels to ``cls_logits (B, N, columns)``, ``bbox_regression (B, N, 4 or 4 * bins)``, and where the
            facts say so ``branch (B, N)`` and ``bbox_refined (B, N, 4)``.
        transform: torchvision's.
        spec: the facts of the head.
        score_thresh: of the detections: the class probability; with an objectness its product with that, with a
            centerness or IoU branch the square root of the product.
        nms_thresh: IoU of the per-class suppression.
        detections_per_img: at most so many.
        topk_candidates: at most so many per image enter the suppression.
        score_voting: replace a kept box by the mean of the boxes that overlap it, weighted by score and overlap (PAA,
            Kim & Lee 2020, section 3.4).
    """

    BRANCH: ClassVar[str] = "branch"  # key of the branch's logits in the head's outputs

    def __init__(
        self,
        backbone: nn.Module,
        anchor_generator: nn.Module,
        head: nn.Module,
        transform: nn.Module,
        *,
        spec: HeadSpec,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.6,
        detections_per_img: int = 100,
        topk_candidates: int = 1000,
        score_voting: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.anchor_generator = anchor_generator
        self.head = head
        self.transform = transform
        self.spec = spec
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.detections_per_img = detections_per_img
        self.topk_candidates = topk_candidates
        self.score_voting = score_voting

    def compute_loss(
        self, targets: Sequence[Mapping[str, Tensor]], head_outputs: Mapping[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """Given by ``equip``: the plain detector has no opinion on who trains."""
        raise RuntimeError(
            f"a plain {type(self).__name__} has no loss: equip(model, ...) gives it an assigner, a sampler and a loss"
        )

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
        levels = self.backbone(batch.tensors)
        features = list(levels.values()) if isinstance(levels, Mapping) else levels
        outputs = self.head(features)
        anchors = self.anchor_generator(batch, features)
        if self.training:
            assert targets is not None
            return self.compute_loss(targets, outputs, anchors)
        detections = self._detections(read_outputs(outputs, self.BRANCH), anchors, batch.image_sizes)
        found: list[dict[str, Tensor]] = self.transform.postprocess(detections, batch.image_sizes, original)  # type: ignore[operator]
        return found

    def _detections(
        self, outputs: Outputs, anchors: PyramidAnchors, sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        spec = self.spec
        scores = full_precision(outputs.logits).sigmoid()
        scores = scores[..., spec.first_column : spec.first_column + spec.num_classes]
        if outputs.branch is not None:
            scores = scores * full_precision(outputs.branch).sigmoid().unsqueeze(-1)
            scores = scores if spec.branch is Branch.OBJECTNESS else scores.sqrt()
        deltas = full_precision(outputs.deltas if outputs.refined is None else outputs.refined)
        labels = torch.zeros_like(deltas[..., 0], dtype=torch.int64)  # no dense head has boxes for each class
        boxes = spec.coder.decode(spec.deltas_of(deltas, labels), spec.references(self._candidates(anchors)))
        return [self._suppressed(b, s, size) for b, s, size in zip(boxes, scores, sizes, strict=True)]

    def _candidates(self, anchors: PyramidAnchors) -> Candidates:
        return anchors.candidates(stride_is_side=self.spec.geometry is Geometry.POINTS)

    def _suppressed(self, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """The detections of one image out of ``boxes (N, 4)`` and ``scores (N, K)``."""
        best, index = scores.flatten().topk(min(self.topk_candidates, scores.numel()))
        confident = best > self.score_thresh
        best, index = best[confident], index[confident]
        labels = index % scores.shape[-1]
        boxes = clip_boxes_to_image(boxes[index.div(scores.shape[-1], rounding_mode="floor")], size)
        keep = batched_nms(boxes, best, labels, self.nms_thresh)[: self.detections_per_img]
        kept = voted(boxes, best, labels, keep) if self.score_voting else boxes[keep]
        return {"boxes": kept, "labels": labels[keep] + 1, "scores": best[keep]}


def read_outputs(head_outputs: Mapping[str, Tensor], branch: str = "branch") -> Outputs:
    """The outputs of a head as the criterion reads them; ``branch`` is the key of its branch's logits."""
    logits = head_outputs["cls_logits"]
    rated = head_outputs.get(branch)
    if rated is not None and rated.dim() == logits.dim():
        rated = rated.squeeze(-1)  # torchvision's FCOS keeps a column of one
    return Outputs(logits, head_outputs["bbox_regression"], rated, head_outputs.get("bbox_refined"))


def voted(boxes: Tensor, scores: Tensor, labels: Tensor, keep: Tensor) -> Tensor:
    """``(n, 4)``: each kept box as the weighted mean of the boxes of its class that overlap it.

    The weight is ``score * exp(-(1 - IoU)^2 / 0.025)`` (Kim & Lee 2020, equations 8 and 9).

    Args:
        boxes: ``(N, 4)`` before suppression.
        scores: ``(N,)``.
        labels: ``(N,)`` int64.
        keep: ``(n,)`` int64, which of them suppression has kept.
    """
    # A box that lies outside of the image has no area once it is clipped: it overlaps nothing but itself.
    iou = box_iou(boxes[keep], boxes).nan_to_num(nan=0.0).scatter(1, keep.unsqueeze(1), 1.0)
    same = (labels[keep].unsqueeze(1) == labels) & (iou > VOTING_LEAST_IOU)
    weight = (-(1 - iou).square() / VOTING_SIGMA).exp() * scores * same
    weight = weight / weight.sum(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    with without_autocast(boxes.device):
        return cast(Tensor, weight @ boxes)
