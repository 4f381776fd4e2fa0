"""What is particular to SSD: where torchvision's mining counts a positive twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.criterion.stage import Selection
from harness.detectors.equip import equip
from harness.detectors.zoo.tiny_ssd import tiny_ssd
from tests.detectors.dense_parity import SCENES, images, losses_and_gradients, scene


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return tiny_ssd(6, score_thresh=0.0)


@pytest.mark.parametrize("kind", SCENES)
def test_the_scenes_of_the_contract_are_where_torchvisions_mining_is_right(tiny: nn.Module, kind: str) -> None:
    """3 x positives stays below the negatives."""
    seen: list[Selection] = []
    twin = equip(tiny, observers=[lambda _, selection: seen.append(selection)])
    losses_and_gradients(twin, images(), scene(kind))
    positives = seen[0].assignment.positive.sum(-1)
    assert (4 * positives <= seen[0].candidates.boxes.shape[1]).all()


def test_torchvision_counts_positives_twice_where_they_outnumber_the_negatives() -> None:
    """The fault, and what is right: every positive once, and every negative, as there are fewer than were asked for."""
    torch.manual_seed(0)
    host = tiny_ssd(6, image_size=32, anchor_sizes=(12.0, 20.0, 28.0))
    logits: list[Tensor] = []
    host.head.register_forward_hook(lambda module, inputs, output: logits.append(output["cls_logits"].detach()))
    batch, targets = images(32, 32, 1), scene("crowded", height=32, width=32)[:1]
    seen: list[Selection] = []
    twin = equip(host, observers=[lambda _, selection: seen.append(selection)])
    theirs, _ = losses_and_gradients(host, batch, targets)
    ours, _ = losses_and_gradients(twin, batch, targets)

    gt_index = seen[0].assignment.gt_index[0]
    positive = gt_index >= 0
    assert 3 * positive.sum() > (~positive).sum() > 0
    target = torch.where(positive, targets[0]["labels"][gt_index.clamp(min=0)], 0)
    losses = cross_entropy(logits[0][0], target, reduction="none")
    once = losses.sum() / positive.sum()
    twice = min(int(positive.sum()), int(3 * positive.sum() - (~positive).sum()))
    torch.testing.assert_close(ours["classification"], once, rtol=1e-6, atol=0)
    extra = losses[positive].sort().values
    low, high = extra[:twice].sum() / positive.sum(), extra[-twice:].sum() / positive.sum()
    assert once + low * 0.999 <= theirs["classification"] <= once + high * 1.001
    torch.testing.assert_close(ours["bbox_regression"], theirs["bbox_regression"], rtol=1e-6, atol=0)


def test_anchor_sizes_of_another_number_of_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="must be one longer than levels"):
        tiny_ssd(6, anchor_sizes=(20.0, 40.0))
