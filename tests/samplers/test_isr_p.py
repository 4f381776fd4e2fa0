"""ISR-P's weights against PISA's loops over classes and objects, and that they reach the classification loss only."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.core.structures import Need, SamplingResult
from harness.detectors.equip import equip
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.samplers.all import AllSampler
from harness.samplers.isr_p import ISRPSampler
from harness.samplers.matched_random import MatchedRandomSampler
from harness.samplers.random import RandomSampler
from tests.detectors.rcnn_parity import scenes as pictures

Slots = tuple[SamplingResult, Tensor, Tensor, Tensor, Tensor]  # sample, gt_index, labels, iou, losses


def slots(seed: int, images: int, size: int, coarse: bool) -> Slots:
    g = torch.Generator().manual_seed(seed)
    gt_index = torch.randint(-2, 4, (images, size), generator=g)
    weight = torch.where(gt_index == -2, 0.0, 0.5 + torch.rand(images, size, generator=g))
    labels = torch.randint(0, 3, (images, 4), generator=g).gather(1, gt_index.clamp(min=0))
    iou = torch.rand(images, size, generator=g)
    iou = (iou * 4).floor() / 4 if coarse else iou
    losses = torch.rand(images, size, generator=g) * weight
    index = torch.arange(size).expand(images, size)
    return SamplingResult(index, gt_index >= 0, weight), gt_index, labels, iou, losses


def naive(drawn: Slots, k: float, bias: float) -> list[list[float]]:
    """Class by class: first by the rank within the own object, then by IoU."""
    sample, gt_index, labels, iou, losses = drawn
    positives = [tuple(slot) for slot in sample.positive.nonzero().tolist()]
    factor = torch.ones(losses.shape).tolist()
    if not positives:
        return factor
    most = max(Counter(int(labels[s]) for s in positives).values())
    local: dict[tuple[int, ...], int] = {}
    for b, g in {(s[0], int(gt_index[s])) for s in positives}:
        own = [s for s in positives if s[0] == b and int(gt_index[s]) == g]
        local |= {s: rank for rank, s in enumerate(sorted(own, key=lambda s: (-float(iou[s]), s)))}
    importance = {}
    for label in {int(labels[s]) for s in positives}:
        own = [s for s in positives if int(labels[s]) == label]
        for place, s in enumerate(sorted(own, key=lambda s: (local[s], -float(iou[s]), s))):
            share = float(sample.weight[s]) * (most - place) / most
            importance[s] = (bias + (1 - bias) * share) ** k / float(sample.weight[s])
    total = sum(float(losses[s]) for s in positives)
    weighted = sum(float(losses[s]) * importance[s] for s in positives)
    for b, i in positives:
        factor[b][i] = importance[b, i] * (total / weighted if weighted > 0 else 1.0)
    return factor


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    images=st.sampled_from((1, 2, 3)),
    size=st.sampled_from((0, 1, 12)),
    coarse=st.booleans(),
    k=st.sampled_from((0.5, 2.0)),
    bias=st.sampled_from((0.0, 0.2)),
)
def test_equals_the_loops(seed: int, images: int, size: int, coarse: bool, k: float, bias: float) -> None:
    drawn = slots(seed, images, size, coarse)
    factor = ISRPSampler(AllSampler(), k, bias).class_weights(*drawn)
    expected = naive(drawn, k, bias)
    assert [[pytest.approx(v, rel=1e-4) for v in row] for row in expected] == factor.tolist()


def test_the_sum_of_the_positives_losses_stays_and_odd_numbers_do_no_harm() -> None:
    sample, gt_index, labels, iou, losses = slots(3, 2, 20, False)
    sampler = ISRPSampler(AllSampler())
    factor = sampler.class_weights(sample, gt_index, labels, iou, losses)
    positive = sample.positive
    assert (losses * factor)[positive].sum().item() == pytest.approx(losses[positive].sum().item(), rel=1e-5)
    assert (factor[~positive] == 1).all()
    odd = iou.clone()
    odd[0, :5] = torch.nan
    losses[1, :5] = torch.nan
    assert sampler.class_weights(sample, gt_index, labels, odd, losses).isfinite().all()


def test_compiles_without_a_graph_break() -> None:
    torch.compiler.reset()
    sampler = ISRPSampler(AllSampler(), 2.0, 0.1)
    compiled = torch.compile(sampler.class_weights, fullgraph=True, dynamic=True, backend="eager")
    for size in (12, 30):
        drawn = slots(1, 2, size, False)
        assert torch.equal(compiled(*drawn), sampler.class_weights(*drawn))


def test_the_weights_reach_the_classification_loss_only() -> None:
    """A factor of 3 for every slot makes the classification loss three times as large, and nothing else."""

    class Threefold(ISRPSampler):
        def class_weights(self, sample, gt_index, labels, iou, losses):
            assert gt_index.shape == labels.shape == iou.shape == losses.shape == sample.index.shape
            assert ((iou >= 0) & (iou <= 1)).all()
            return torch.full_like(losses, 3.0)

    torch.manual_seed(0)
    model = tiny_rcnn(5, min_size=96).train()
    images, targets = pictures(96, 5)["ordinary"]
    quota = {"num": 16, "pos_fraction": 0.25}
    found = []
    for sampler in (RandomSampler(**quota), Threefold(RandomSampler(**quota))):
        twin = equip(model, sampler=sampler, generator=torch.Generator().manual_seed(1))
        found.append(twin(images, targets))
    plain, weighed = found
    assert weighed["loss_classifier"].item() == pytest.approx(3 * plain["loss_classifier"].item(), rel=1e-6)
    assert weighed["loss_box_reg"].item() == plain["loss_box_reg"].item()


def test_what_wraps_it() -> None:
    sampler = ISRPSampler(RandomSampler(8, 0.5))
    assert sampler.needs == {Need.NOISE, Need.REWEIGHTING}
    assert Need.REWEIGHTING not in MatchedRandomSampler(sampler).needs, "the control weighs nothing"
    twice = ISRPSampler(sampler)
    drawn = slots(2, 2, 10, False)
    once = sampler.class_weights(*drawn)
    again = ISRPSampler(AllSampler()).class_weights(*replace_losses(drawn, drawn[4] * once))
    assert torch.allclose(twice.class_weights(*drawn), once * again, rtol=1e-5)
    with pytest.raises(ValueError, match="of='int' must be a sampler"):
        ISRPSampler(3)
    with pytest.raises(ValueError, match=f"k={-1} must be"):
        ISRPSampler(AllSampler(), k=-1)
    assert math.isclose(ISRPSampler(AllSampler()).k, 2.0)


def replace_losses(drawn: Slots, losses: Tensor) -> Slots:
    return (replace(drawn[0]), *drawn[1:4], losses)
