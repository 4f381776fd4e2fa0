"""Under autocast the network computes in bfloat16; boxes never do: at 300 px bfloat16 has steps of 2 px."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from harness.criterion.stage import Selection
from harness.detectors import equip
from harness.detectors.networks.dense_detector import voted
from harness.detectors.networks.point_roi_align import PointRoIAlign
from harness.detectors.zoo.cascade_rcnn import tiny_cascade
from harness.detectors.zoo.tiny_branches import tiny_maskrcnn
from harness.detectors.zoo.tiny_fcos import tiny_fcos
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from harness.detectors.zoo.tiny_ssd import tiny_ssd
from harness.detectors.zoo.yolox import tiny_yolox

SIDE, CLASSES = 320, 4
BOX = [301.3, 249.7, 315.1, 271.9]
SIZE = {"min_size": SIDE, "max_size": SIDE}
DISTRIBUTION = {"regression": "distribution", "reg_max": 15, "quality_branch": "iou", "score_voting": True}


def torchvision_pooling(**options: Any) -> Any:
    """A Mask R-CNN whose boxes are pooled by torchvision's own kernel."""
    model = tiny_maskrcnn(CLASSES, **SIZE, **options)
    model.roi_heads.box_roi_pool = MultiScaleRoIAlign(["0"], 5, 1)
    return model


DETECTORS: dict[str, Any] = {
    "rcnn": lambda **options: tiny_rcnn(CLASSES, **SIZE, **options),
    "mask": torchvision_pooling,
    "cascade": lambda **options: tiny_cascade(CLASSES, **SIZE, **options),
    "retinanet": lambda **options: tiny_retinanet(CLASSES, **SIZE, **options),
    "distribution": lambda **options: tiny_retinanet(CLASSES, **SIZE, **DISTRIBUTION, **options),
    "fcos": lambda **options: tiny_fcos(CLASSES, **SIZE, **options),
    "ssd": lambda **options: tiny_ssd(CLASSES, image_size=SIDE, **options),
    "yolox": lambda **options: tiny_yolox(CLASSES, **SIZE, **options),
}


def targets() -> list[dict[str, Tensor]]:
    return [
        {
            "boxes": torch.tensor([BOX]),
            "labels": torch.tensor([1]),
            "masks": torch.ones(1, SIDE, SIDE, dtype=torch.uint8),
        }
    ]


@pytest.mark.parametrize("name", DETECTORS)
def test_boxes_stay_in_single_precision(name: str) -> None:
    torch.manual_seed(0)
    seen: list[tuple[str, Selection]] = []
    twin = equip(DETECTORS[name](score_thresh=0.0), observers=[lambda *selection: seen.append(selection)])
    pictures = [torch.rand(3, SIDE, SIDE)]
    twin.train()(pictures, targets())
    full, seen[:] = list(seen), []
    with torch.autocast("cpu", torch.bfloat16):
        losses = twin(pictures, targets())
        with torch.no_grad():
            found = twin.eval()(pictures)[0]
    assert [stage for stage, _ in seen] == [stage for stage, _ in full]
    for (stage, half), (_, whole) in zip(seen, full, strict=True):
        assert half.candidates.boxes.dtype == torch.float32
        assert torch.equal(half.truth.boxes, whole.truth.boxes)
        if not stage.startswith("roi"):  # proposals follow the network, anchors and points do not
            assert torch.equal(half.candidates.boxes, whole.candidates.boxes)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert len(found["boxes"])
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32


def test_an_expected_distance_is_no_product_in_half_precision() -> None:
    spec = DETECTORS["distribution"]().spec
    logits, labels = torch.randn(1, 9, 4 * 16), torch.zeros(1, 9, dtype=torch.int64)
    expected = spec.deltas_of(logits, labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(spec.deltas_of(logits, labels), expected)


def test_voted_boxes_are_no_product_in_half_precision() -> None:
    boxes = torch.tensor([BOX, [300.1, 250.3, 316.2, 270.8]])
    inputs = boxes, torch.tensor([0.9, 0.6]), torch.tensor([1, 1]), torch.tensor([0])
    expected = voted(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(voted(*inputs), expected)


def test_pooled_points_are_not_rounded() -> None:
    """At the end of a map of 64 cells bfloat16 has steps of an eighth of a cell."""
    stripes = torch.arange(64) % 2
    features = {"0": stripes.to(torch.bfloat16).expand(1, 1, 64, 64)}
    boxes = [torch.tensor([[401.0, 401.0, 409.0, 409.0]])]  # a cell of 8 px, its middle at 50.625
    pooled = PointRoIAlign("0", 1)(features, boxes, [(512, 512)])
    assert pooled.dtype == torch.bfloat16
    assert float(pooled) == 0.625
