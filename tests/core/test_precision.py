"""In which precision numbers are computed."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.core.precision import double_precision, full_precision, out_of_autocast, without_autocast


def test_double_precision_is_what_the_device_has() -> None:
    assert double_precision(torch.ones(2, dtype=torch.int64)).dtype == torch.float64
    with FakeTensorMode():
        assert double_precision(torch.ones(2, device="mps")).dtype == torch.float32


def test_autocast_is_left() -> None:
    half, whole = torch.ones(2, dtype=torch.bfloat16), torch.full((2, 2), 300.3)
    assert full_precision(half).dtype == torch.float32
    assert full_precision(whole.double()).dtype == torch.float64
    assert out_of_autocast(half) is half
    assert out_of_autocast(half.to("meta")).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert out_of_autocast(half).dtype == torch.float32
        assert (whole @ whole).dtype == torch.bfloat16
        with without_autocast(whole.device):
            product = whole @ whole
    assert torch.equal(product, whole @ whole)
