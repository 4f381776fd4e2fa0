"""A loss that needs the size of the image gets each image's own, in every stage of every kind of detector."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harness.core.structures import Candidates, GroundTruth
from harness.criterion.heads import Outputs
from harness.criterion.stage import StageComponents
from harness.detectors.equip import equip, family_of, planned
from harness.detectors.zoo.cascade_rcnn import tiny_cascade
from harness.detectors.zoo.tiny_fcos import tiny_fcos
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from harness.losses.classification import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss
from harness.losses.pair import Loss
from harness.losses.regression import MPDIoULoss


class SeenSizes(MPDIoULoss):
    """Keeps the sizes that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[Tensor] = []

    def elementwise(self, prediction: Tensor, target: Tensor, **inputs: Tensor) -> Tensor:
        self.sizes.append(inputs["image_size"])
        return super().elementwise(prediction, target, **inputs)


@pytest.mark.parametrize("make", [tiny_rcnn, tiny_cascade, tiny_retinanet, tiny_fcos])
def test_every_stage_gives_the_size_of_each_image(make: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    model = make(4, min_size=64, max_size=96)
    family = family_of(model)
    seen: dict[str, SeenSizes] = {}
    components = {}
    for stage, head in planned(model, StageComponents(), {})[0].items():
        seen[stage] = SeenSizes()
        binary = BinaryCrossEntropyLoss() if stage == "rpn" else FocalLoss()
        classification = CrossEntropyLoss() if head.background is not None else binary
        components[stage] = StageComponents(loss=Loss(classification, seen[stage]))
    twin = equip(model, loss=components.pop(family.ROOT).loss, stages=components)
    images = [torch.rand(3, 64, 80), torch.rand(3, 90, 60)]  # the second one becomes 96 x 64
    boxes = torch.tensor([[5.0, 5.0, 40.0, 50.0]])
    losses = twin(images, [{"boxes": boxes, "labels": torch.tensor([1])} for _ in images])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    for stage, loss in seen.items():
        assert loss.sizes, stage
        for sizes in loss.sizes:
            assert sizes.shape[0] == 2
            assert (sizes[0] == torch.tensor([64.0, 80.0])).all(), stage
            assert (sizes[1] == torch.tensor([96.0, 64.0])).all(), stage


def test_candidates_without_sizes_are_refused() -> None:
    twin = equip(tiny_retinanet(4, min_size=64), loss=Loss(FocalLoss(), MPDIoULoss()))
    boxes = torch.tensor([[[5.0, 5.0, 40.0, 50.0]]])
    candidates = Candidates(boxes, torch.ones(1, 1, dtype=torch.bool))
    criterion = twin.criteria["dense"]
    selection = criterion.select(GroundTruth.pad([boxes[0]], [torch.tensor([0])]), candidates)
    outputs = Outputs(torch.zeros(1, 1, criterion.head.columns), torch.zeros(1, 1, 4))
    with pytest.raises(ValueError, match="stage dense: a loss needs the size of the images"):
        criterion(outputs.take(selection.sample), selection)
