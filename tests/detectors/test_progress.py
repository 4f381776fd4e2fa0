"""What is scheduled over the training is a function of the share that is done, and of nothing else."""

from __future__ import annotations

import pytest
import torch

from harness.assigners.atss import ATSSAssigner
from harness.assigners.task_aligned import TaskAlignedAssigner
from harness.criterion.stage import WarmUp
from harness.detectors import equip
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from harness.detectors.zoo.yolox import tiny_yolox
from harness.losses import BinaryCrossEntropyLoss, FocalLoss, GIoULoss, IoULoss, L1Loss, Loss, QualityFocalLoss
from harness.losses.terms import BoxTerm
from tests.detectors.dense_parity import images, losses_and_gradients, scene


def losses_at(model: torch.nn.Module, share: float) -> dict[str, float]:
    model.set_progress(share)  # type: ignore[operator]
    return {name: float(value) for name, value in losses_and_gradients(model, images(), scene("ordinary"))[0].items()}


def test_a_warm_up_trains_with_its_own_pieces_until_its_share() -> None:
    torch.manual_seed(0)
    model = tiny_retinanet(6, min_size=96)
    warm, late = Loss(FocalLoss(), GIoULoss(), "positives"), Loss(QualityFocalLoss(), GIoULoss(), "positives")
    both = equip(model, TaskAlignedAssigner(), loss=late, warmup=WarmUp(0.25, ATSSAssigner(), warm))
    first, second = equip(model, ATSSAssigner(), loss=warm), equip(model, TaskAlignedAssigner(), loss=late)
    assert losses_at(both, 0.0) == losses_at(both, 0.2499) == losses_at(first, 0.5)
    assert losses_at(both, 0.25) == losses_at(both, 1.0) == losses_at(second, 0.0)
    assert equip(model).criteria["dense"].progress == 1.0, "a loop that tells nothing trains without warm-up"


def test_a_term_counts_from_its_start() -> None:
    torch.manual_seed(0)
    pair = Loss(
        BinaryCrossEntropyLoss(soft=True), IoULoss("square"), "positives", terms={"l1": BoxTerm(L1Loss(), start=0.95)}
    )
    model = equip(tiny_yolox(6, min_size=96), loss=pair)
    early, late = losses_at(model, 0.94), losses_at(model, 0.95)
    assert late["l1"] > 0
    assert early == {name: value for name, value in late.items() if name != "l1"}


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="share=0 must be"):
        WarmUp(0)
