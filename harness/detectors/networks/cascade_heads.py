"""Cascade R-CNN's chain of RoI heads (Cai & Vasconcelos 2018): each stage refines the boxes of the one before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import clip_boxes_to_image

from harness.core.structures import Candidates
from harness.criterion.heads import HeadSpec, Outputs
from harness.detectors.adapters.box_branch import BoxBranch, proposal_candidates
from harness.detectors.adapters.postprocess import class_detections
from harness.detectors.adapters.rcnn_facts import roi_head

STAGES = ("roi", "roi2", "roi3")
IOU_THRESHOLDS = (0.5, 0.6, 0.7)
# The factors of the deltas grow as the boxes get closer to the objects (the authors' released configuration).
CODER_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
LOSS_WEIGHTS = (1.0, 0.5, 0.25)


class ClassAgnosticPredictor(FastRCNNPredictor):
    """torchvision's predictor with one box per candidate instead of one per class, as in the paper (section 4.1)."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes)
        self.bbox_pred = nn.Linear(in_channels, 4)


class CascadeStage(nn.Module):
    """One stage's box head and predictor, and the facts of its training.

    Args:
        box_head: features of the pooled boxes.
        box_predictor: logits ``(n, num_classes)`` and deltas ``(n, 4)``.
        head: the stage's facts.
        iou_threshold: of its default assigner.
        loss_weight: of both of its default losses.
    """

    def __init__(
        self,
        box_head: nn.Module,
        box_predictor: ClassAgnosticPredictor,
        head: HeadSpec,
        iou_threshold: float,
        loss_weight: float,
    ) -> None:
        super().__init__()
        self.box_head = box_head
        self.box_predictor = box_predictor
        self.head = head
        self.iou_threshold = iou_threshold
        self.loss_weight = loss_weight


class CascadeRoIHeads(nn.Module):
    """Three stages in a row; in evaluation mode their scores are averaged and the last one's boxes count.

    Args:
        box_roi_pool: pools for every stage.
        box_heads: one per stage.
        predictors: one per stage.
        num_classes: background included.
        batch_size_per_image: default quota of every stage.
        positive_fraction: default share of positives.
        score_thresh: detections below it are dropped.
        nms_thresh: of the class-wise suppression.
        detections_per_img: at most.
    """

    def __init__(
        self,
        box_roi_pool: nn.Module,
        box_heads: Sequence[nn.Module],
        predictors: Sequence[ClassAgnosticPredictor],
        num_classes: int,
        *,
        batch_size_per_image: int = 512,
        positive_fraction: float = 0.25,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        detections_per_img: int = 100,
    ) -> None:
        super().__init__()
        self.box_roi_pool = box_roi_pool
        self.stages = nn.ModuleDict()
        for name, box_head, predictor, threshold, weights, loss_weight in zip(
            STAGES, box_heads, predictors, IOU_THRESHOLDS, CODER_WEIGHTS, LOSS_WEIGHTS, strict=True
        ):
            facts = roi_head(name, num_classes, weights, class_specific=False)
            self.stages[name] = CascadeStage(box_head, predictor, facts, threshold, loss_weight)
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.detections_per_img = detections_per_img

    def stage(self, name: str) -> CascadeStage:
        """The stage called ``roi``, ``roi2`` or ``roi3``."""
        stage = self.stages[name]
        assert isinstance(stage, CascadeStage)
        return stage

    def branch(self, name: str) -> BoxBranch:
        """What turns the boxes of a stage into its outputs."""
        stage = self.stage(name)
        return BoxBranch(self.box_roi_pool, stage.box_head, stage.box_predictor)

    def probabilities(self, name: str, logits: Tensor) -> Tensor:
        """``(*, N, K)`` of the foreground classes in a stage."""
        return logits.float().softmax(-1)[..., 1:]

    def refined(self, name: str, outputs: Outputs, boxes: Tensor, image_shapes: list[tuple[int, int]]) -> Tensor:
        """``(B, N, 4)``: the boxes as the stage corrects them, inside their images; no gradient."""
        decoded = self.stage(name).head.coder.decode(outputs.deltas.detach().float(), boxes)
        return torch.stack(
            [clip_boxes_to_image(image, shape) for image, shape in zip(decoded, image_shapes, strict=True)]
        )

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections as torchvision's RoI heads return them, and no losses."""
        if self.training:
            raise RuntimeError("a cascade has no losses of its own: train what harness.detectors.equip returns")
        candidates = proposal_candidates(proposals)
        boxes, scores = candidates.boxes, []
        for name in STAGES:
            outputs = self.branch(name)(features, boxes, candidates.valid, image_shapes)
            scores.append(self.probabilities(name, outputs.logits))
            boxes = self.refined(name, outputs, boxes, image_shapes)
        mean = sum(scores[1:], scores[0]) / len(scores)
        return self._detections(candidates, boxes, mean, image_shapes), {}

    def _detections(
        self, candidates: Candidates, boxes: Tensor, scores: Tensor, image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        found = []
        for image_boxes, image_scores, valid, shape in zip(boxes, scores, candidates.valid, image_shapes, strict=True):
            image_boxes, image_scores, labels = class_detections(
                image_boxes[valid].unsqueeze(1).expand(-1, scores.shape[-1], 4),
                image_scores[valid],
                shape,
                score_thresh=self.score_thresh,
                nms_thresh=self.nms_thresh,
                limit=self.detections_per_img,
            )
            found.append({"boxes": image_boxes, "labels": labels, "scores": image_scores})
        return found
