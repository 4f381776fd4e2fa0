"""Golden checks of the losses in the second set: value and gradient.

Our losses are unreduced, so the sums and divisors of the references stand here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.losses.interface import RegressionLoss
from harness.losses.regression import (
    AlphaIoULoss,
    CIoULoss,
    FocalEIoULoss,
    FocalerIoULoss,
    GIoULoss,
    InnerIoULoss,
    IoULoss,
    MPDIoULoss,
    NWDLoss,
    ShapeIoULoss,
    SIoULoss,
    WIoULoss,
)
from tests.golden.case import Case
from tests.golden2.tolerances import ARCTANGENT_LOSS, BOX_LOSS, assert_gradient


def boxes(case: Case) -> tuple[Tensor, Tensor]:
    return case.tensor("pred").requires_grad_(), case.tensor("target")


def assert_boxes(
    case: Case, loss: RegressionLoss, name: str, *, kind: str = "expected", arctangent: bool = False
) -> None:
    """Value and gradient of every box against ``<kind>_loss<name>`` and ``<kind>_grad<name>``."""
    pred, target = boxes(case)
    values = loss(pred, target)
    (gradient,) = torch.autograd.grad(values.sum(), pred)
    case.assert_close(values, f"{kind}_loss{name}", **(ARCTANGENT_LOSS if arctangent else BOX_LOSS))
    assert_gradient(case, gradient, f"{kind}_grad{name}")


def check_nwd(case: Case) -> None:
    params = case.params
    for mode in ("exp", "sqrt", "log", "norm_sqrt", "w2"):
        assert_boxes(case, NWDLoss(mode, params["constant"], params["gamma"], params["eps"]), f"_{mode}")
    pred, target = boxes(case)
    columns = case.arrays["expected_similarity_matrix"].shape[1]
    loss = NWDLoss("exp", params["constant"], eps=params["eps"])
    similarity = 1 - loss.elementwise(pred.unsqueeze(1), target[:columns])
    case.assert_close(similarity, "expected_similarity_matrix", **BOX_LOSS)


def check_wiou(case: Case) -> None:
    params = case.params

    def build(version: int) -> WIoULoss:
        loss = WIoULoss(version, params["alpha"], params["delta"], momentum=params["momentum"])
        loss.iou_mean.fill_(params["iou_mean"])
        return loss

    for version in (1, 2, 3):
        assert_boxes(case, build(version).eval(), f"_v{version}")
    for version in (2, 3):
        loss = build(version).train()
        assert_boxes(case, loss, f"_v{version}_updated")
        case.assert_close(loss.iou_mean, "expected_iou_mean_updated", **BOX_LOSS)


def check_mpdiou(case: Case) -> None:
    pred, target = boxes(case)
    size = torch.tensor(case.params["image_hw"]).expand(len(pred), 2)
    values = MPDIoULoss(case.params["eps"])(pred, target, image_size=size)
    (gradient,) = torch.autograd.grad(values.sum(), pred)
    case.assert_close(values, "expected_loss", **BOX_LOSS)
    assert_gradient(case, gradient, "expected_grad")


def check_inner_iou(case: Case) -> None:
    ratio, eps = case.params["ratio"], case.params["eps"]
    for name, kind, base in (
        ("ciou", "expected", CIoULoss(eps, gate=None)),
        ("siou", "expected", SIoULoss(eps=eps)),
        ("iou", "derived", IoULoss("linear", eps)),
        ("giou", "derived", GIoULoss(eps)),
    ):
        assert_boxes(
            case, InnerIoULoss(base, ratio, eps), f"_inner_{name}", kind=kind, arctangent=name in ("ciou", "siou")
        )


def check_shape_iou(case: Case) -> None:
    assert_boxes(case, ShapeIoULoss(case.params["scale"], case.params["eps"]), "")


def check_focaler_iou(case: Case) -> None:
    robust = case.tensor("robust")
    for name, kind, base in (("iou", "expected", IoULoss("linear", 1e-7)), ("giou", "derived", GIoULoss(1e-7))):
        loss = FocalerIoULoss(base, case.params["d"], case.params["u"])
        pred, target = boxes(case)
        values = loss(pred, target)
        (gradient,) = torch.autograd.grad(values.sum(), pred)
        case.assert_close(values, f"{kind}_loss_focaler_{name}", **BOX_LOSS)
        # At the ends of the interval the slope jumps: there the gradient of either side is right.
        expected = case.tensor(f"{kind}_grad_focaler_{name}")
        assert_gradient(case, torch.where(robust.unsqueeze(-1), gradient, expected), f"{kind}_grad_focaler_{name}")
        assert gradient.isfinite().all()


def check_alpha_iou(case: Case) -> None:
    same = torch.arange(len(case.arrays["pred"])) < case.params["identical_first_rows"]
    for kind in ("iou", "giou", "diou", "ciou"):
        loss = AlphaIoULoss(kind, case.params["alpha"], case.params["eps"])
        if case.nonfinite_in_reference(f"expected_loss_{kind}") or case.nonfinite_in_reference(f"expected_grad_{kind}"):
            # Fault of the reference: 0 / 0 for identical boxes. Such a box costs nothing and asks for no change.
            pred, target = boxes(case)
            values = loss(pred, target)[same]
            (gradient,) = torch.autograd.grad(values.sum(), pred)
            torch.testing.assert_close(values, torch.zeros_like(values), rtol=0, atol=1e-4)
            assert gradient.isfinite().all()
        assert_boxes(case, loss, f"_{kind}", arctangent=kind == "ciou")


def check_focal_eiou(case: Case) -> None:
    assert_boxes(case, FocalEIoULoss(0.0, case.params["eps"]), "_eiou")
    loss = FocalEIoULoss(case.params["gamma"], case.params["eps"])
    assert_boxes(case, loss, "")


CHECKS: dict[str, Callable[[Case], None]] = {
    "nwd": check_nwd,
    "wiou": check_wiou,
    "mpdiou": check_mpdiou,
    "inner_iou": check_inner_iou,
    "shape_iou": check_shape_iou,
    "focaler_iou": check_focaler_iou,
    "alpha_iou": check_alpha_iou,
    "focal_eiou": check_focal_eiou,
}
