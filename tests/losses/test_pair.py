"""What the two terms of a stage are divided by."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.core.structures import SamplingResult
from harness.detectors import equip
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from harness.detectors.zoo.yolox import tiny_yolox
from harness.losses.classification import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss, GHMCLoss
from harness.losses.pair import Loss
from harness.losses.reduction import Counts, Normalizer, reduce
from harness.losses.regression import CIoULoss, GHMRLoss, GIoULoss, L1Loss
from tests.detectors.rcnn_parity import scenes, step

IMAGES, TARGETS = scenes(96, 5)["ordinary"]


def sample() -> SamplingResult:
    weight = torch.tensor([[1.0, 0.5, 1.0, 0.0], [0.5, 1.0, 0.0, 0.0]])
    positive = torch.tensor([[True, True, False, False], [True, False, False, False]])
    return SamplingResult(torch.arange(4).expand(2, 4), positive, weight)


BOX_WEIGHT = torch.tensor([[0.5, 0.5, 9.0, 9.0], [0.75, 9.0, 9.0, 9.0]])
LEVEL = torch.tensor([[0, 1, 0, 0], [0, 1, 0, 0]])


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    [
        ("sampled", 9 / 5),
        ("positives", 9 / 3),
        ("image_positives", (5 / 2 + 4) / 2),
        ("avg_factor", 9 / 3),
        ("positives_or_images", 9 / 3),
        ("quality", 9 / 1.125),
        ("weights", 9 / 4),
        ("level_positives", 6 / 1.5 + 3 / 1),
        ("level_sampled", 6 / 3 + 3 / 2),
        ("one", 9),
    ],
)
def test_the_normaliser(normalizer: str, expected: float) -> None:
    value = torch.tensor([[2.0, 2, 1, 0], [3, 1, 0, 0]])
    counts = Counts(sample(), BOX_WEIGHT, LEVEL, 2)
    assert float(reduce(value, counts, Normalizer(normalizer))) == pytest.approx(expected)
    pair = Loss(FocalLoss(), L1Loss(), normalizer)
    assert float(pair.reduce_classification(value, counts)) == pytest.approx(expected)
    assert float(pair.reduce_boxes(value, counts)) == pytest.approx(expected)


def of_step(model: Any, loss: Loss) -> dict[str, float]:
    """The losses of one step of the model's twin."""
    return {name: float(value) for name, value in step(equip(model, loss=loss), IMAGES, TARGETS)[0].items()}


def test_ghm_is_a_mean_over_its_examples_in_every_stage() -> None:
    """RetinaNet divides by the positives: over all anchors that would be hundreds."""
    torch.manual_seed(0)
    model = tiny_retinanet(5, min_size=96)
    by_stage = {n: of_step(model, Loss(GHMCLoss(), GHMRLoss(), n)) for n in Normalizer}
    assert all(losses == by_stage["sampled"] for losses in by_stage.values())
    assert 0 < by_stage["image_positives"]["classification"] < 10
    others = {n: of_step(model, Loss(FocalLoss(), L1Loss(), n)) for n in Normalizer}
    assert len({losses["classification"] for losses in others.values()}) > 1


def test_ghm_c_counts_what_the_head_shows_it() -> None:
    """YOLOX classifies its positives only."""
    torch.manual_seed(0)
    model = tiny_yolox(5, min_size=96)
    mean, plain = (
        of_step(model, Loss(loss, L1Loss(), "positives"))["classification"]
        for loss in (GHMCLoss(bins=1), BinaryCrossEntropyLoss())
    )
    assert mean == pytest.approx(plain / 4, rel=1e-5)  # one bin: all weights are 1, the mean is over 4 columns


def test_published_weights_count_where_none_is_given() -> None:
    torch.manual_seed(0)
    model = tiny_retinanet(5, min_size=96)
    plain = of_step(model, Loss(FocalLoss(), GIoULoss()))
    published = of_step(model, Loss(FocalLoss(), GIoULoss(), balance="published"))
    given = of_step(model, Loss(FocalLoss(), GIoULoss(), regression_weight=3.0, balance="published"))
    assert published["bbox_regression"] == pytest.approx(2 * plain["bbox_regression"])
    assert given["bbox_regression"] == pytest.approx(3 * plain["bbox_regression"])
    assert published["classification"] == given["classification"] == plain["classification"]
    pair = Loss(CrossEntropyLoss(), CIoULoss(), balance="published")
    assert pair.weights("roi2") == (1, 12)
    assert pair.weights("rpn") == (1, 1)
