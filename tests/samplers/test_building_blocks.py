"""Quotas, independent noise, suppression: what several samplers are made of."""

from __future__ import annotations

import math

import pytest
import torch

from harness.samplers.building_blocks.quota import Quota
from harness.samplers.building_blocks.slots import second_noise
from harness.samplers.building_blocks.suppression import match_leaders, suppress


def test_second_noise_is_uniform_and_independent() -> None:
    noise = torch.rand(400_000, generator=torch.Generator().manual_seed(0))
    other = second_noise(noise)
    assert other.min() >= 0
    assert other.max() < 1
    for low in (0.0, 0.001, 0.3, 0.99):  # also among those that have nearly the same noise
        part = other[(noise >= low) & (noise < low + 0.005)]
        counts = torch.histc(part, 10, 0, 1)
        expected = len(part) / 10
        assert ((counts - expected) ** 2 / expected).sum() < 33.7  # chi^2 of 9 degrees, p = 1e-4
    assert torch.corrcoef(torch.stack((noise, other)))[0, 1].abs() < 5 / 400_000**0.5


def test_negatives_of_a_quota() -> None:
    positives = torch.tensor([[0], [1], [3]])
    assert Quota(10, 0.5).negatives_beside(positives).squeeze(-1).tolist() == [10, 9, 7]
    assert Quota(10, 0.5, neg_pos_ub=2.5).negatives_beside(positives).squeeze(-1).tolist() == [2, 2, 7]
    assert Quota(10, 0.5, neg_pos_ub=0).negatives_beside(positives).squeeze(-1).tolist() == [0, 0, 0]
    assert Quota(7, 0.5).num_pos == 3


def test_suppression_keeps_groups_and_images_apart() -> None:
    box = torch.tensor([10.0, 10.0, 50.0, 50.0])
    boxes = torch.stack((box, box + 1, box + 2, box + 1000)).expand(2, 4, 4)
    everyone = torch.ones(2, 4, dtype=torch.bool)
    priority = torch.tensor([[1.0, 3.0, 2.0, math.nan], [3.0, 2.0, 1.0, 0.0]])
    together = torch.zeros(2, 4, dtype=torch.int64)
    assert suppress(boxes, priority, everyone, together, 0.7).tolist() == [
        [False, True, False, True],
        [True, False, False, True],
    ]
    apart = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 1]])
    assert suppress(boxes, priority, everyone, apart, 0.7).tolist() == [
        [False, True, True, True],
        [True, False, True, True],
    ]
    allowed = everyone.clone()
    allowed[0, 1] = False
    assert suppress(boxes, priority, allowed, together, 0.7)[0].tolist() == [False, False, True, True]
    broken = boxes.clone()
    broken[0, 1] = math.nan
    assert suppress(broken, priority, everyone, together, 0.7)[0].tolist() == [False, True, True, True]


def test_a_box_belongs_to_its_first_survivor_at_the_threshold() -> None:
    # IoU of neighbours 0.5 exactly, of the next ones 0.2.
    start = torch.arange(4.0) * 10
    boxes = torch.stack((start, torch.zeros(4), start + 30, torch.ones(4)), -1)
    alive = torch.tensor([True, True, True, True])
    assert match_leaders(boxes, alive, 0.5).tolist() == [0, 0, 2, 2]
    assert match_leaders(boxes, alive, 0.51).tolist() == [0, 1, 2, 3]
    assert match_leaders(boxes, torch.tensor([True, True, False, False]), 0.5).tolist() == [0, 0, 2, 3]
    empty = match_leaders(boxes[:0].expand(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool), 0.5)
    assert empty.shape == (2, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_match_leaders_is_a_correct_operator(dtype: torch.dtype) -> None:
    boxes = torch.tensor([[[0, 0, 9, 9], [1, 1, 9, 9], [20, 20, 30, 30]]], dtype=dtype)
    torch.library.opcheck(match_leaders, (boxes, torch.tensor([[True, True, False]]), 0.5))
