"""What a ranking pass has pooled is not pooled again, and the losses and gradients stay the same, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from harness.core.structures import Candidates, SamplingResult
from harness.detectors import equip
from harness.detectors.adapters import box_branch
from harness.detectors.adapters.box_branch import BoxBranch
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.samplers.ohem import OHEMSampler
from tests.detectors.rcnn_parity import scenes, step

SHAPES = [(64, 64), (64, 48)]


def features_of(levels: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {str(n): torch.randn(2, 6, 16 >> n, 16 >> n, requires_grad=True) for n in range(levels)}


def candidates_of(sizes: tuple[int, int]) -> Candidates:
    """Boxes of 4 to 60 px, so that every level has some; the last of the second image are padding."""
    torch.manual_seed(1)
    sides = 4 + 56 * torch.rand(2, sizes[0], 2)
    corner = torch.rand(2, sizes[0], 2) * 10
    valid = torch.arange(sizes[0]) < torch.tensor(sizes).unsqueeze(1)
    return Candidates(torch.cat((corner, corner + sides), -1), valid)


def sample_of(*, full: bool) -> SamplingResult:
    index = torch.tensor([[7, 0, 3, 3], [4, 2, 1, 1]])
    used = torch.tensor([[True, True, True, full], [True, True, full, full]])
    return SamplingResult(index, used & (index > 2), used.float())


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("sizes", [(8, 8), (8, 5)])
def test_the_outputs_and_the_gradients_are_those_of_pooling_anew(
    levels: int, full: bool, sizes: tuple[int, int]
) -> None:
    torch.manual_seed(2)
    names = [str(n) for n in range(levels)]
    pool = MultiScaleRoIAlign(names, 3, 2, canonical_scale=15, canonical_level=2)
    branch = nn.ModuleList([pool, TwoMLPHead(6 * 9, 8), FastRCNNPredictor(8, 3)])
    candidates, sample = candidates_of(sizes), sample_of(full=full)

    def run(*, peeks: bool) -> list[Tensor]:
        features, parts = features_of(levels), BoxBranch(*branch)
        branch.zero_grad()
        if peeks:
            parts.peek(features, candidates.boxes, candidates.valid, SHAPES)
            assert parts._peeked is not None
        outputs = parts.chosen(features, candidates, sample, SHAPES)
        (outputs.logits.square().sum() + outputs.deltas.square().sum()).backward()
        assert parts._peeked is None  # it is large, and of this step alone
        found = [outputs.logits, outputs.deltas, *(f.grad for f in features.values())]
        return [*found, *(p.grad.clone() for p in branch.parameters() if p.grad is not None)]  # type: ignore[list-item]

    again, anew = run(peeks=True), run(peeks=False)
    assert len(again) == 2 + levels + 8
    assert all(torch.equal(one, other) for one, other in zip(again, anew, strict=True))
    assert all(gradient.any() for gradient in again[2 : 2 + levels])


def test_a_detector_with_ohem_pools_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images, targets = scenes(96, 5)["ordinary"]

    def trained(*, repools: bool) -> tuple[int, Any, Any]:
        calls = []
        torch.manual_seed(0)
        model: Any = tiny_rcnn(5, min_size=96)
        model.roi_heads.box_roi_pool = MultiScaleRoIAlign(["0"], 5, 1)
        model.roi_heads.box_roi_pool.register_forward_hook(lambda *_: calls.append(None))
        with monkeypatch.context() as patch:
            if not repools:
                patch.setattr(box_branch, "can_repool", lambda *_: False)
            torch.manual_seed(3)
            losses, gradients = step(equip(model, sampler=OHEMSampler(16, 0.25)), images, targets)
        return len(calls), losses, gradients

    calls, losses, gradients = trained(repools=True)
    before, plain_losses, plain_gradients = trained(repools=False)
    assert (calls, before) == (1, 2)
    assert all(torch.equal(losses[name], plain_losses[name]) for name in plain_losses)
    assert all(torch.equal(gradients[name], plain_gradients[name]) for name in plain_gradients)


def test_where_values_would_differ_it_pools_anew() -> None:
    features = {"0": torch.zeros(1, 6, 8, 8)}
    assert box_branch.can_repool(MultiScaleRoIAlign(["0"], 3, 2), features)
    assert not box_branch.can_repool(nn.Identity(), features)
    assert not box_branch.can_repool(MultiScaleRoIAlign(["0"], 3, 2), {"0": features["0"].bfloat16()})
    with torch.autocast("cpu", torch.bfloat16):
        assert not box_branch.can_repool(MultiScaleRoIAlign(["0"], 3, 2), features)
