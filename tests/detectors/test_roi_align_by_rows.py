"""RoIAlign by sums of rows gives torchvision's values up to rounding, wherever the boxes lie."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from harness.detectors.adapters.repooling import pooled_once
from harness.detectors.networks import roi_align_by_rows

SHAPES = [(128, 96), (112, 128)]
SIDE = 128.0  # of the padded images
SPECIAL = [
    [0.0, 0.0, SIDE, SIDE],  # the whole image
    [10.0, 10.0, 10.0, 10.0],  # no area
    [40.0, 60.0, 30.0, 20.0],  # turned around: an area, but no extent
    [40.0, 20.0, 30.0, 60.0],  # a negative area, which belongs to no level
    [50.01, 20.02, 50.03, 20.04],
    [SIDE - 0.5, SIDE - 0.5, SIDE, SIDE],  # one cell at least: reaches over the edge
    [-3.0, -3.0, 2.0, 2.0],
    [-40.0, -50.0, 60.0, 70.0],
    [100.0, 90.0, 180.0, 200.0],
    [-900.0, -1000.0, 1100.0, 1200.0],
    [-90.0, -80.0, -50.0, -20.0],  # outside altogether
    [300.0, 300.0, 400.0, 350.0],
]


def boxes_of(dtype: torch.dtype) -> list[Tensor]:
    """Random boxes of all sizes, and the special ones in the second image."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(60, 2, generator=generator, dtype=dtype) * SIDE * 1.2 - SIDE * 0.1
    sides = torch.exp(torch.rand(60, 2, generator=generator, dtype=dtype) * 6)
    return [torch.cat((corner, corner + sides), 1), torch.tensor(SPECIAL, dtype=dtype)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("names", [("0",), ("0", "1", "2"), ("0", "2")])
@pytest.mark.parametrize(("size", "ratio"), [(7, 2), ((3, 5), 1), (2, 3)])
def test_the_values_are_torchvisions(
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    size: int | tuple[int, int],
    ratio: int,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    """One of the pyramids skips a level, whose boxes torchvision leaves at 0; the boxes do not fit one chunk."""
    monkeypatch.setattr(roi_align_by_rows, "TERMS", 5_000)
    torch.manual_seed(1)
    features = {str(n): torch.randn(2, 6, 32 >> n, 32 >> n, dtype=dtype) for n in range(3)}
    features["1"] = features["1"].to(memory_format=torch.channels_last)
    boxes = boxes_of(dtype)
    host, own = (MultiScaleRoIAlign(list(names), size, ratio, canonical_scale=40, canonical_level=3) for _ in range(2))
    expected = host(features, boxes, SHAPES)
    assert expected.flatten(1).any(1).float().mean() > 0.5
    pooled = pooled_once(own, features, boxes, SHAPES)
    torch.testing.assert_close(pooled, expected, rtol=tolerance, atol=tolerance)
    assert own.scales == host.scales


def test_no_boxes() -> None:
    features = {"0": torch.randn(2, 6, 8, 8)}
    assert pooled_once(MultiScaleRoIAlign(["0"], 3, 2), features, [torch.zeros(0, 4)] * 2, SHAPES).shape == (0, 6, 3, 3)


def test_points_that_follow_the_size_of_the_box_are_left_to_torchvision() -> None:
    features, pool = {"0": torch.randn(2, 6, 32, 32)}, MultiScaleRoIAlign(["0"], 3, 0)
    boxes = boxes_of(torch.float32)
    assert torch.equal(pooled_once(pool, features, boxes, SHAPES), pool(features, boxes, SHAPES))
