"""The RoI head with a criterion (Girshick 2015, section 2.3): sampling precedes the box head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import (
    RoIHeads,
    keypointrcnn_loss,
    keypoints_to_heatmap,
    maskrcnn_loss,
)

from harness.core.precision import out_of_autocast
from harness.core.processes import process_count
from harness.criterion.criterion import Criterion
from harness.criterion.stage import Selection
from harness.detectors.adapters.box_branch import BoxBranch, proposal_candidates, with_truth
from harness.detectors.adapters.loss_names import named_losses
from harness.detectors.adapters.postprocess import class_detections, is_plain_softmax
from harness.detectors.adapters.targets import ground_truth
from harness.losses.reduction import mean_over_processes

ImageShapes = list[tuple[int, int]]
Targets = list[dict[str, Tensor]]


class EquippedRoIHeads(RoIHeads):
    """Trains by its criterion, which chooses among the proposals; masks and keypoints train on its positives.

    The host's matcher and sampler are not called in training. In evaluation mode everything is the host's own, but
    for the scores of a loss whose probabilities are no softmax, and for boxes under autocast, which stay in float32.
    """

    YIELDS_TO_SUBCLASSES = True
    BYPASSED = ("assign_targets_to_proposals", "select_training_samples", "subsample", "add_gt_proposals")

    criterion: Criterion

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: ImageShapes,
        targets: Targets | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        if not self.training:
            result: Any = super().forward(features, proposals, image_shapes, targets)
            return result
        self.check_targets(targets)
        assert targets is not None
        branch = BoxBranch(self.box_roi_pool, self.box_head, self.box_predictor)
        truth = ground_truth(targets, proposals[0].dtype, self.criterion.head.num_classes)
        candidates = proposal_candidates(proposals, image_shapes)
        if self.criterion.sampler.add_gt_as_proposals:
            candidates = with_truth(candidates, truth)
        selection = self.criterion.select(
            truth, candidates, lambda: branch.peek(features, candidates.boxes, candidates.valid, image_shapes)
        )
        sample = selection.sample
        boxes = sample.take(candidates.boxes)
        losses = self.criterion(branch.chosen(features, candidates, sample, image_shapes), selection)
        named = named_losses("roi", losses)
        if self.has_mask() or self.has_keypoint():
            named.update(self._branch_losses(features, boxes, selection, image_shapes, targets))
        return [], named

    def _branch_losses(
        self,
        features: dict[str, Tensor],
        boxes: Tensor,
        selection: Selection,
        image_shapes: ImageShapes,
        targets: Targets,
    ) -> dict[str, Tensor]:
        """Mask and keypoint losses on the positive slots, by torchvision's functions; ragged, so a GPU waits here."""
        positive = selection.sample.positive
        gt_index = selection.sample.take(selection.assignment.gt_index)
        positives = [image[keep] for image, keep in zip(boxes, positive, strict=True)]
        matched = [image[keep] for image, keep in zip(gt_index, positive, strict=True)]
        losses = {}
        if self.has_mask():
            logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, positives, image_shapes)))
            masks, labels = [t["masks"] for t in targets], [t["labels"] for t in targets]
            loss = maskrcnn_loss(logits, positives, masks, labels, matched)
            losses["loss_mask"] = mean_over_processes(loss, positive.sum())
        if self.has_keypoint():
            pooled = self.keypoint_roi_pool(features, positives, image_shapes)
            logits = self.keypoint_predictor(self.keypoint_head(pooled))
            keypoints = [t["keypoints"] for t in targets]
            # torchvision views the heat maps as rows, which channels-last memory does not allow.
            loss = keypointrcnn_loss(logits.contiguous(), positives, keypoints, matched)
            if process_count() > 1:
                loss = mean_over_processes(loss, count_keypoints(keypoints, matched, positives, logits.shape[-1]))
            losses["loss_keypoint"] = loss
        return losses

    def postprocess_detections(
        self, class_logits: Tensor, box_regression: Tensor, proposals: list[Tensor], image_shapes: ImageShapes
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        class_logits, box_regression = out_of_autocast(class_logits), out_of_autocast(box_regression)
        head, loss = self.criterion.head, self.criterion.loss.classification
        if is_plain_softmax(loss):
            result: Any = super().postprocess_detections(class_logits, box_regression, proposals, image_shapes)
            return result
        scores = head.probabilities(class_logits, loss)
        boxes = self.box_coder.decode(box_regression, proposals)[:, head.first_column :]
        lengths = [len(image) for image in proposals]
        detections = [
            class_detections(
                image_boxes,
                image_scores,
                shape,
                score_thresh=self.score_thresh,
                nms_thresh=self.nms_thresh,
                limit=self.detections_per_img,
            )
            for image_boxes, image_scores, shape in zip(
                boxes.split(lengths), scores.split(lengths), image_shapes, strict=True
            )
        ]
        return tuple(list(parts) for parts in zip(*detections, strict=True))  # type: ignore[return-value]


def count_keypoints(keypoints: list[Tensor], matched: list[Tensor], boxes: list[Tensor], side: int) -> Tensor:
    """How many keypoints torchvision's loss averages over: the visible ones inside of their boxes.

    Args:
        keypoints: ``(G, K, 3)`` of each image.
        matched: ``(n,)`` int64 of each image, the objects of its boxes.
        boxes: ``(n, 4)`` of each image, xyxy px.
        side: of the heat maps.
    """
    found = [
        keypoints_to_heatmap(own[index], proposals, side)[1].sum()
        for own, index, proposals in zip(keypoints, matched, boxes, strict=True)
    ]
    return torch.stack(found).sum()
