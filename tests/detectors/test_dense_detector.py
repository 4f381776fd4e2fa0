"""RetinaNet and FCOS with another head: what is predicted, how it is decoded, what stays torchvision's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.ops import box_iou

from harness.coders import StrideDistanceCoder
from harness.detectors import equip
from harness.detectors.networks.dense_detector import DenseDetector, voted
from harness.detectors.zoo.tiny_fcos import tiny_fcos
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from tests.detectors.dense_parity import images, losses_and_gradients, scene

BUILDERS = {"retinanet": tiny_retinanet, "fcos": tiny_fcos}
OPTIONS: dict[str, dict[str, Any]] = {
    "distances": {"regression": "distances", "quality_branch": "none"},
    "distribution": {"regression": "distribution", "reg_max": 7, "quality_branch": "iou"},
    "deltas and centerness": {"regression": "deltas", "quality_branch": "centerness", "score_voting": True},
    "refined": {"regression": "distances", "refinement": True, "quality_branch": "none"},
}


def built(builder: str, option: str) -> DenseDetector:
    torch.manual_seed(0)
    model = BUILDERS[builder](6, min_size=64, max_size=96, score_thresh=0.0, **OPTIONS[option])
    assert isinstance(model, DenseDetector)
    return model


@pytest.mark.parametrize("builder", BUILDERS)
def test_options_of_the_detections_stay(builder: str) -> None:
    limits = {"score_thresh": 0.3, "nms_thresh": 0.4, "detections_per_img": 7, "topk_candidates": 20}
    model = BUILDERS[builder](6, regression="distribution", quality_branch="none", **limits)
    assert {name: getattr(model, name) for name in limits} == limits


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("option", OPTIONS)
def test_it_trains_and_detects(builder: str, option: str) -> None:
    model = built(builder, option)
    twin = equip(model)
    assert list(twin.state_dict()) == list(model.state_dict())
    losses, gradients = losses_and_gradients(twin, images(), scene("ordinary"))
    branch = OPTIONS[option]["quality_branch"]
    assert set(losses) == {"classification", "bbox_regression"} | ({branch} - {"none"})
    assert all(torch.isfinite(value) for value in losses.values())
    untrained = {"head.regression_head.bbox_refine.weight", "head.regression_head.bbox_refine.bias"}
    assert {name for name, _ in twin.named_parameters()} - set(gradients) <= untrained
    model.eval()
    twin.eval()
    with torch.no_grad():
        found, again = twin(images()), model(images())
    assert all(len(image["boxes"]) > 0 and torch.isfinite(image["boxes"]).all() for image in found)
    for ours, plain in zip(found, again, strict=True):
        assert all(torch.equal(ours[key], plain[key]) for key in ours)


def test_the_unchanged_ones_are_torchvisions() -> None:
    assert type(tiny_retinanet(6)) is RetinaNet
    assert type(tiny_fcos(6)) is FCOS
    names = {name for name in tiny_retinanet(6).state_dict() if "regression_head" not in name}
    assert names <= set(built("retinanet", "distances").state_dict()), "the other parts keep their names"


def test_a_distribution_is_read_by_its_mean() -> None:
    """All mass of each side in one bin: the box lies so many strides around the cell's center."""
    spec = built("fcos", "distribution").spec
    bins = torch.tensor([1, 2, 3, 4])
    logits = torch.nn.functional.one_hot(bins, spec.regression_bins).float().mul(50).flatten().view(1, 1, -1)
    distances = spec.deltas_of(logits, torch.zeros(1, 1, dtype=torch.int64))
    torch.testing.assert_close(distances, bins.float().view(1, 1, 4))
    reference = torch.tensor([[[12.0, 12.0, 20.0, 20.0, 8.0]]])  # a cell of stride 8 around (16, 16)
    box = spec.coder.decode(distances, reference)
    torch.testing.assert_close(box, torch.tensor([[[8.0, 0.0, 40.0, 48.0]]]))
    torch.testing.assert_close(StrideDistanceCoder(2.5).encode(box, reference)[0, 0], torch.tensor([1, 2, 2.5, 2.5]))


def test_a_branch_multiplies_the_scores() -> None:
    model = built("retinanet", "deltas and centerness").eval()
    branch = model.head.regression_head.bbox_branch
    with torch.no_grad():
        branch.weight.zero_()
        branch.bias.fill_(-100.0)
        model.score_thresh = -1.0
        assert all((image["scores"] < 1e-6).all() for image in model(images()))


def test_votes_are_weighted_by_score_and_overlap() -> None:
    """Kim & Lee 2020, equations 8 and 9, box by box."""
    generator = torch.Generator().manual_seed(0)
    corner = 8 * torch.rand(12, 2, generator=generator)
    boxes = torch.cat((corner, corner + 10 + 4 * torch.rand(12, 2, generator=generator)), 1)
    scores, labels = torch.rand(12, generator=generator), torch.arange(12) % 2
    keep = torch.tensor([3, 8])
    for box, index in zip(voted(boxes, scores, labels, keep), keep.tolist(), strict=True):
        total, weights = torch.zeros(4), 0.0
        for other in range(12):
            iou = float(box_iou(boxes[index, None], boxes[other, None]))
            if labels[other] == labels[index] and iou > 0.01:
                weight = float(scores[other]) * float(torch.tensor(-((1 - iou) ** 2) / 0.025).exp())
                total, weights = total + weight * boxes[other], weights + weight
        torch.testing.assert_close(box, total / weights)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"regression": "boxes"}, "regression='boxes' must be one of deltas, distances, distribution"),
        ({"quality_branch": "objectness"}, "quality_branch='objectness' must be one of none, centerness, iou"),
        ({"refinement": True}, "refinement=True must be false unless regression=distances"),
        ({"regression": "distribution", "reg_max": 0}, "reg_max=0 must be a whole number of at least 1"),
    ],
)
def test_what_no_head_has_is_refused(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        tiny_retinanet(6, **options)


def test_a_coupled_head_has_no_tower_for_another_one() -> None:
    with pytest.raises(ValueError, match="need head=decoupled"):
        tiny_fcos(6, head="coupled", quality_branch="none")
