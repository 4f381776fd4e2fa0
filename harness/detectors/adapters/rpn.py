"""The region proposal network with a criterion (Ren et al. 2015, section 3.1)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

from harness.core.precision import autocasts, out_of_autocast
from harness.core.structures import Candidates
from harness.criterion.criterion import Criterion
from harness.criterion.heads import Outputs
from harness.detectors.adapters.loss_names import named_losses
from harness.detectors.adapters.targets import ground_truth
from harness.detectors.networks.pyramid import full_precision_maps


class EquippedRPN(RegionProposalNetwork):
    """Trains by its criterion; proposals are the host's own.

    The host's matcher, sampler and ``compute_loss`` are not called in training: predictions never reach them. Under
    autocast anchors and proposals are in float32, where the host rounds them to the type of the features.
    """

    YIELDS_TO_SUBCLASSES = True
    BYPASSED = ("assign_targets_to_anchors", "compute_loss")

    criterion: Criterion

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        if self.training and targets is None:
            raise ValueError("targets are needed in training mode")
        maps = list(features.values())
        logits, deltas = self.head(maps)
        seen = full_precision_maps(maps) if autocasts(maps[0].device) else maps
        anchors = self.anchor_generator(images, seen)
        sizes = [level[0].numel() for level in logits]
        flat_logits, flat_deltas = map(out_of_autocast, concat_box_prediction_layers(logits, deltas))
        boxes = self.box_coder.decode(flat_deltas.detach(), anchors).view(len(anchors), -1, 4)
        proposals, _ = self.filter_proposals(boxes, flat_logits, images.image_sizes, sizes)
        if targets is None or not self.training:
            return proposals, {}

        candidates = anchor_candidates(torch.stack(anchors), maps, sizes, images.tensors.shape[-1])
        candidates = replace(candidates, image_sizes=tuple(images.image_sizes))
        outputs = Outputs(flat_logits.view(len(anchors), -1, 1), flat_deltas.view(len(anchors), -1, 4))
        selection = self.criterion.select(ground_truth(targets, boxes.dtype), candidates, lambda: outputs)
        losses = self.criterion(outputs.take(selection.sample), selection)
        return proposals, named_losses("rpn", losses)


def anchor_candidates(boxes: Tensor, maps: list[Tensor], sizes: list[int], image_width: int) -> Candidates:
    """The anchors of a batch, ``boxes (B, N, 4)``, with the level and stride of each.

    Args:
        boxes: of all levels, finest first.
        maps: the feature map of each level.
        sizes: anchors of each level.
        image_width: of the padded batch, px; over the map's width it is the stride.
    """
    device = boxes.device
    level = torch.cat([torch.full((size,), i, device=device) for i, size in enumerate(sizes)])
    strides = [float(image_width // level_map.shape[-1]) for level_map in maps]
    stride = torch.cat([torch.full((size,), s, device=device) for size, s in zip(sizes, strides, strict=True)])
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool, device=device)
    return Candidates(boxes, valid, level, stride, num_levels=len(sizes))
