"""The small R-CNN and its pooling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from harness.detectors.networks.point_roi_align import PointRoIAlign
from harness.detectors.networks.tiny_backbone import tiny_fpn
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn


def test_size() -> None:
    assert sum(p.numel() for p in tiny_rcnn(7).parameters()) == 911_357


@pytest.mark.parametrize(("height", "width"), [(16, 16), (12, 20)])
def test_pooling_is_torchvisions(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(height * 8, width * 8), (height * 8 - 16, width * 8 - 8)]
    corner = torch.rand(40, 2, generator=generator) * torch.tensor([width, height]) * 6
    many = torch.cat((corner, corner + torch.rand(40, 2, generator=generator) * 60), 1).clamp(0, 8 * min(width, height))
    special = torch.tensor(
        [
            [0.0, 0.0, width * 8.0, height * 8.0],  # the whole image
            [10.0, 10.0, 10.5, 11.0],  # under one cell
            [width * 8.0 - 3, height * 8.0 - 3, width * 8.0, height * 8.0],  # in the last cell
        ]
    )
    boxes = [many, special]
    results: list[tuple[Tensor, Tensor]] = []
    for pool in (MultiScaleRoIAlign(["0"], 5, sampling_ratio=1), PointRoIAlign("0", 5)):
        features = torch.randn(2, 8, height, width, generator=torch.Generator().manual_seed(1)).requires_grad_()
        pooled = pool({"0": features}, boxes, shapes)
        pooled.backward(torch.randn(pooled.shape, generator=torch.Generator().manual_seed(2)))
        assert features.grad is not None
        results.append((pooled.detach(), features.grad))
    assert results[1][0].shape == (43, 8, 5, 5)
    for own, host in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(own, host, rtol=0, atol=1e-4)


def test_pooling_of_nothing() -> None:
    pooled = PointRoIAlign("0", 5)({"0": torch.randn(2, 8, 16, 16)}, [torch.zeros(0, 4)] * 2, [(128, 128)] * 2)
    assert pooled.shape == (0, 8, 5, 5)


def test_levels() -> None:
    image = torch.zeros(1, 3, 64, 96)
    backbone = tiny_fpn(32, (4, 8, 16, 32))
    maps = backbone(image)
    assert [(name, tuple(level.shape[1:])) for name, level in maps.items()] == [
        ("0", (32, 16, 24)),
        ("1", (32, 8, 12)),
        ("2", (32, 4, 6)),
        ("pool", (32, 2, 3)),
    ]
    assert tiny_fpn().strides == (8, 16)
    for levels in ((), (16, 8), (8, 9), (8, 32)):
        with pytest.raises(ValueError, match=r"levels="):
            tiny_fpn(32, levels)


def test_larger_images_by_a_parameter() -> None:
    model = tiny_rcnn(4, min_size=256, max_size=384).eval()
    image = torch.rand(3, 480, 640)
    with torch.no_grad():
        (found,) = model([image])
    assert found["boxes"].shape[-1] == 4
    assert model.transform([image])[0].tensors.shape[-2:] == (256, 352)
