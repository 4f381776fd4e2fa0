"""Losses that look beyond their slots, inside detectors: class counts, box losses, the scale of the box term."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.assigners.yolo_ratio import YOLORatioAssigner
from harness.core.structures import ClassCounts
from harness.criterion.stage import Selection
from harness.detectors.equip import equip
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from harness.detectors.zoo.yolox import tiny_yolox
from harness.losses.class_counts import CountedClassificationLoss
from harness.losses.classification import (
    ACSLLoss,
    ALRPLoss,
    BinaryCrossEntropyLoss,
    EQLv1Loss,
    FederatedLoss,
    FocalLoss,
    RankSortLoss,
)
from harness.losses.pair import Loss
from harness.losses.regression import CIoULoss, GIoULoss, L1Loss
from harness.losses.terms import BoxTerm
from harness.samplers import AllSampler, ISRPSampler
from tests.detectors.rcnn_parity import scenes, step

IMAGES, TARGETS = scenes(96, 5)["ordinary"]
COUNTS = ClassCounts(torch.tensor([50, 40, 3, 1]), torch.tensor([90, 40, 5, 1]), num_images=60)


def trained(loss: Any, make: Any = tiny_retinanet, **options: Any) -> tuple[dict[str, Tensor], Any]:
    torch.manual_seed(0)
    twin = equip(make(5, min_size=96), loss=Loss(loss, GIoULoss(), "positives", **options), class_counts=COUNTS)
    return step(twin, IMAGES, TARGETS)[0], twin


@pytest.mark.parametrize(("make", "column"), [(tiny_retinanet, 0), (tiny_rcnn, 1)])
@pytest.mark.parametrize("loss", [EQLv1Loss(), FederatedLoss(3), ACSLLoss(background_column=False)])
def test_counts_stand_at_the_columns_of_their_classes(loss: CountedClassificationLoss, make: Any, column: int) -> None:
    losses, twin = trained(loss, make)
    assert all(value.isfinite() for value in losses.values())
    criterion = twin.criteria["dense" if make is tiny_retinanet else "roi"]
    first = criterion.head.first_column
    images = criterion.loss.classification.images
    assert len(images) == criterion.head.columns
    assert images[first : first + 4].tolist() == COUNTS.images.tolist()
    assert images.sum() == COUNTS.images.sum()


def test_counts_follow_a_background_column_to_the_end() -> None:
    _, twin = trained(ACSLLoss(), tiny_rcnn)
    assert twin.criteria["roi"].loss.classification.images.tolist() == [*COUNTS.images.tolist(), 0]


@pytest.mark.parametrize("loss", [RankSortLoss(), ALRPLoss()])
@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_the_box_term_takes_the_value_of_the_class_term(loss: Any, weight: float) -> None:
    losses, _ = trained(loss, regression_weight=weight)
    assert losses["bbox_regression"] == pytest.approx(weight * float(losses["classification"]), rel=1e-4)
    assert losses["classification"] > 0


class SeenLosses(ALRPLoss):
    """Keeps the box losses that it was given, and gives factors that are easily told."""

    def elementwise(self, logits: Tensor, target: Tensor, **inputs: Any) -> Tensor:
        self.seen, self.on, self.weight = inputs["box_loss"], target < logits.shape[-1], inputs["weight"]
        return super().elementwise(logits, target, **inputs)


def test_alrp_sees_the_plain_box_loss_of_each_positive() -> None:
    loss = SeenLosses()
    _, twin = trained(loss)
    values: list[Tensor] = []
    twin.criteria["dense"].loss_observers.append(lambda stage, selection, known: values.append(known.regression))
    step(twin, IMAGES, TARGETS)
    torch.testing.assert_close(loss.seen, values[0])
    assert ((loss.seen > 0) == loss.on).all()
    assert not loss.seen.requires_grad


def test_a_draw_belongs_to_the_training_steps_alone() -> None:
    """Ranking candidates does not advance it, and the checkpoint restores it."""
    _, twin = trained(FederatedLoss(3))
    state = twin.criteria_state_dict()["dense"]
    assert state["loss.classification.noise.state"][1] == 1
    _, other = trained(FederatedLoss(3))
    other.load_criteria_state_dict(twin.criteria_state_dict())
    first, second = step(twin, IMAGES, TARGETS)[0], step(other, IMAGES, TARGETS)[0]
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("beside", ["an importance", "a baseline"])
def test_a_further_term_trains_boxes_that_something_has_decoded_before(beside: str) -> None:
    """ISR-P's importance and the baseline of ``balance=equal`` decode the same slots, without gradient."""
    torch.manual_seed(0)
    model = tiny_retinanet(5, min_size=96)
    model.head.regression_head._loss_type = "giou"  # type: ignore[union-attr, assignment]
    balance = "equal" if beside == "a baseline" else "none"
    loss = Loss(FocalLoss(), L1Loss(), terms={"box": BoxTerm(GIoULoss())}, balance=balance)
    twin = equip(model, loss=loss, sampler=ISRPSampler(AllSampler()) if beside == "an importance" else None)
    twin.train()(IMAGES, TARGETS)["box"].backward()
    assert model.head.regression_head.bbox_reg.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


class TrainedOn(BinaryCrossEntropyLoss):
    """Keeps the shapes of the slots that would have advanced a state."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Size] = []

    def elementwise(self, logits: Tensor, target: Tensor, **inputs: Any) -> Tensor:
        if self.training:
            self.seen.append(target.shape)
        return super().elementwise(logits, target, **inputs)


def test_a_state_advances_once_where_every_match_trains() -> None:
    """The plain slots, which then only an observer sees, advance no state of GHM, EQLv2 or Wise-IoU."""
    torch.manual_seed(0)
    model = tiny_yolox(5, min_size=96, head="coupled", anchor_free=False, coding="yolov5")
    loss, seen = TrainedOn(), list[tuple[Selection, Tensor]]()
    twin = equip(
        model,
        assigner=YOLORatioAssigner(),
        loss=Loss(loss, CIoULoss(), "level_positives", every_match=True),
        loss_observers=[lambda _, selection, losses: seen.append((selection, losses.classification))],
    )
    step(twin, IMAGES, TARGETS)
    ((selection, slots),) = seen
    assert selection.matches is not None
    assert slots.shape == selection.sample.index.shape
    assert loss.seen == [selection.matches.gt_index.shape]
    assert loss.training
