"""What the second set is held to, as its README states. Nothing may be looser."""

from __future__ import annotations

from torch import Tensor

from tests.golden.case import Case

LOSS = {"rtol": 1e-4, "atol": 1e-6}  # sums of many float32 terms
BOX_LOSS = {"rtol": 1e-5, "atol": 1e-6}  # one value per box
ARCTANGENT_LOSS = {"rtol": 1e-4, "atol": 1e-6}  # CIoU and SIoU, which take an arc tangent or sine of single precision


def assert_gradient(case: Case, actual: Tensor, key: str) -> None:
    """``actual`` equals the gradient ``key`` within 1e-3, relative, plus 1e-6 of its largest finite entry."""
    expected = case.tensor(key)
    largest = expected[expected.isfinite()].abs().max().item() if expected.numel() else 0.0
    case.assert_close(actual, key, rtol=1e-3, atol=1e-6 * largest)
