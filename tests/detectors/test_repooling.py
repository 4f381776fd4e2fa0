"""What a ranking pass has pooled is not pooled again: the choice stays the same, losses and gradients up to rounding.

The ranking pass pools by sums of rows, whose values differ from torchvision's by rounding. So do the outputs and the
gradients, which follow from them; in float64 by 1e-10 at most. Exact are the kept values, which are those that ranked,
and the gradient of the pooling, which is torchvision's.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign, poolers

from harness.core.structures import Candidates, SamplingResult
from harness.criterion.stage import Selection
from harness.detectors import equip
from harness.detectors.adapters import box_branch
from harness.detectors.adapters.box_branch import BoxBranch
from harness.detectors.adapters.first_layer import can_split, first_layer, known_first_layer
from harness.detectors.adapters.repooling import pooled_once, repooled
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.samplers.ohem import OHEMSampler
from tests.detectors.rcnn_parity import Recorder, scenes, step

SHAPES = [(64, 64), (64, 48)]


def features_of(levels: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes = [(2, 6, 16 >> n, 16 >> n) for n in range(levels)]
    return {str(n): torch.randn(shape, dtype=torch.float64, requires_grad=True) for n, shape in enumerate(shapes)}


class OtherHead(TwoMLPHead):
    """A head of one's own, whose first layer is not known."""


def branch_of(levels: int, head: type[TwoMLPHead] = TwoMLPHead) -> nn.ModuleList:
    torch.manual_seed(2)
    pool = MultiScaleRoIAlign([str(n) for n in range(levels)], 3, 2, canonical_scale=15, canonical_level=2)
    return nn.ModuleList([pool, head(6 * 9, 8), FastRCNNPredictor(8, 3)]).double()


def candidates_of(sizes: tuple[int, int]) -> Candidates:
    """Boxes of 4 to 60 px, so that every level has some; the last of the second image are padding."""
    torch.manual_seed(1)
    sides = 4 + 56 * torch.rand(2, sizes[0], 2, dtype=torch.float64)
    corner = torch.rand(2, sizes[0], 2, dtype=torch.float64) * 10
    valid = torch.arange(sizes[0]) < torch.tensor(sizes).unsqueeze(1)
    return Candidates(torch.cat((corner, corner + sides), -1), valid)


def sample_of(*, full: bool) -> SamplingResult:
    index = torch.tensor([[7, 0, 3, 3], [4, 2, 1, 1]])
    used = torch.tensor([[True, True, True, full], [True, True, full, full]])
    return SamplingResult(index, used & (index > 2), used.float())


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("sizes", [(8, 8), (8, 5)])
@pytest.mark.parametrize("head", [TwoMLPHead, OtherHead])
def test_the_outputs_and_the_gradients_are_those_of_pooling_anew(
    levels: int, full: bool, sizes: tuple[int, int], head: type[TwoMLPHead]
) -> None:
    branch = branch_of(levels, head)
    candidates, sample = candidates_of(sizes), sample_of(full=full)

    def run(*, peeks: bool) -> list[Tensor]:
        features, parts = features_of(levels), BoxBranch(*branch)
        branch.zero_grad()
        if peeks:
            parts.peek(features, candidates.boxes, candidates.valid, SHAPES)
            assert parts._peeked is not None
            assert (parts._peeked.hidden is None) == (head is OtherHead)
        outputs = parts.chosen(features, candidates, sample, SHAPES)
        (outputs.logits.square().sum() + outputs.deltas.square().sum()).backward()
        assert parts._peeked is None  # it is large, and of this step alone
        found = [outputs.logits, outputs.deltas, *(f.grad for f in features.values())]
        return [*found, *(p.grad.clone() for p in branch.parameters() if p.grad is not None)]  # type: ignore[list-item]

    again, anew = run(peeks=True), run(peeks=False)
    assert len(again) == 2 + levels + 8
    for one, other in zip(again, anew, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert all(gradient.any() for gradient in again[2 : 2 + levels])


@pytest.mark.parametrize("levels", [1, 2])
def test_the_kept_values_are_those_that_ranked_and_their_gradient_is_torchvisions(levels: int) -> None:
    """Bit for bit both: what is given comes back, and torchvision's backward runs on the very same boxes."""
    pool, features, candidates = branch_of(levels)[0], features_of(levels), candidates_of((8, 5))
    assert isinstance(pool, MultiScaleRoIAlign)
    rows = [image[keep] for image, keep in zip(candidates.boxes, candidates.valid, strict=True)]
    known = pooled_once(pool, features, rows, SHAPES)
    assert not known.requires_grad
    kept, host = repooled(pool, features, rows, known), pool(features, rows, SHAPES)
    assert torch.equal(kept, known)
    gradient = torch.randn_like(known)
    pairs = [torch.autograd.grad(values, list(features.values()), gradient) for values in (kept, host)]
    assert all(torch.equal(own, other) for own, other in zip(*pairs, strict=True))


def test_the_maps_come_in_the_order_of_the_backbone() -> None:
    """As in torchvision, whatever the order of the pooling's names."""
    features, candidates = features_of(2), candidates_of((8, 8))
    rows = list(candidates.boxes)
    pool = MultiScaleRoIAlign(["1", "0"], 3, 2, canonical_scale=15, canonical_level=2)
    known = pooled_once(pool, features, rows, SHAPES)
    torch.testing.assert_close(known, pool(features, rows, SHAPES), rtol=1e-10, atol=1e-10)
    kept = repooled(pool, features, rows, known)
    pairs = [
        torch.autograd.grad(values.sum(), list(features.values())) for values in (kept, pool(features, rows, SHAPES))
    ]
    assert all(torch.equal(own, other) for own, other in zip(*pairs, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_a_detector_with_ohem_chooses_the_same_and_pools_once(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Its losses agree with those of torchvision's pooling to 1e-5: they are of features that differ by rounding."""
    images, targets = scenes(96, 5)["ordinary"]
    counted: list[int] = []
    kernel = poolers.roi_align

    def counting(features: Tensor, rois: Tensor, **options: Any) -> Tensor:
        counted.append(len(rois))
        return kernel(features, rois, **options)

    monkeypatch.setattr(poolers, "roi_align", counting)

    def trained(*, repools: bool) -> tuple[int, Selection, Any, Any]:
        counted.clear()
        torch.manual_seed(seed)
        model: Any = tiny_rcnn(5, min_size=96)
        model.roi_heads.box_roi_pool = MultiScaleRoIAlign(["0", "1"], 5, 2, canonical_scale=40, canonical_level=3)
        recorder = Recorder()
        with monkeypatch.context() as patched:
            if not repools:
                patched.setattr(box_branch, "can_repool", lambda *_: False)
            losses, gradients = step(equip(model, sampler=OHEMSampler(16, 0.25), observers=[recorder]), images, targets)
        return sum(counted), recorder.selections["roi"], losses, gradients

    pooled, own, losses, gradients = trained(repools=True)
    pooled_by_host, host, host_losses, host_gradients = trained(repools=False)
    assert pooled == 0
    assert pooled_by_host == int(host.candidates.valid.sum() + host.sample.used.sum())
    for field in ("index", "positive", "negative"):
        assert torch.equal(getattr(own.sample, field), getattr(host.sample, field))
    for name, loss in host_losses.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-5, atol=0)
    for name, gradient in host_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_what_it_does_not_know_it_pools_anew() -> None:
    features = {"0": torch.zeros(1, 6, 8, 8)}
    assert box_branch.can_repool(MultiScaleRoIAlign(["0"], 3, 2), features)
    assert not box_branch.can_repool(nn.Identity(), features)
    assert not box_branch.can_repool(MultiScaleRoIAlign(["0"], 3, 2), {"0": features["0"].bfloat16()})
    with torch.autocast("cpu", torch.bfloat16):
        assert not box_branch.can_repool(MultiScaleRoIAlign(["0"], 3, 2), features)
    hooked = MultiScaleRoIAlign(["0"], 3, 2)
    hooked.register_forward_hook(lambda pool, inputs, pooled: 2 * pooled)
    assert not box_branch.can_repool(hooked, features)


def test_the_first_layer_runs_once() -> None:
    branch, features, candidates = branch_of(1), features_of(1), candidates_of((8, 8))
    parts, counted, product = BoxBranch(*branch), [0], nn.functional.linear
    sample = sample_of(full=True)
    with patch.object(
        nn.functional, "linear", lambda rows, *weights: counted.append(len(rows)) or product(rows, *weights)
    ):
        parts.peek(features, candidates.boxes, candidates.valid, SHAPES)
        assert counted == [0, 16, 16, 16, 16]  # fc6, fc7, logits, deltas
        parts.chosen(features, candidates, sample, SHAPES)
    assert counted[5:] == [8, 8, 8]


def test_a_head_that_is_not_called_plainly_stays_whole() -> None:
    assert can_split(TwoMLPHead(54, 8))
    assert not can_split(OtherHead(54, 8))
    for part in ("", "fc6"):
        for attach in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
            head = TwoMLPHead(54, 8)
            getattr(head.get_submodule(part), attach)(lambda *_: None)
            assert not can_split(head)
        head = TwoMLPHead(54, 8)
        head.get_submodule(part).compile()
        assert not can_split(head)
    parametrized = TwoMLPHead(54, 8)
    nn.utils.parametrizations.weight_norm(parametrized.fc6)
    assert not can_split(parametrized)


def test_a_frozen_first_layer_gets_no_gradient() -> None:
    head = TwoMLPHead(54, 8).requires_grad_(False)
    pooled = torch.randn(3, 6, 3, 3, requires_grad=True)
    known_first_layer(head, pooled, first_layer(head, pooled).detach()).sum().backward()
    assert pooled.grad is not None
    torch.testing.assert_close(pooled.grad.flatten(1), head.fc6.weight.sum(0).expand(3, -1))
    assert head.fc6.weight.grad is None
