"""Golden checks of the losses in the second set: value and gradient.

Our losses are unreduced, so the sums and divisors of the references stand here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.assigners.building_blocks.gaussian_boxes import normalized_wasserstein
from harness.core.structures import ClassCounts
from harness.losses.classification import (
    ACSLLoss,
    ALRPLoss,
    BucketedRankSortLoss,
    ClassBalancedFocalLoss,
    CrossEntropyLoss,
    EQLv1Loss,
    FederatedLoss,
    MALLoss,
    RankSortLoss,
)
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
from tests.golden2.tolerances import ARCTANGENT_LOSS, BOX_LOSS, LOSS, assert_gradient


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
    assigner = normalized_wasserstein(pred.detach(), target[:columns], params["constant"])
    case.assert_close(assigner, "expected_similarity_matrix", **BOX_LOSS)


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


def assert_loss(case: Case, loss: Tensor, pred: Tensor, name: str = "") -> None:
    (gradient,) = torch.autograd.grad(loss, pred)
    case.assert_close(loss, f"expected_{name}loss", **LOSS)
    assert_gradient(case, gradient, f"expected_{name}grad")


def binary_ranking(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of one column, their targets (column 0 or none), the weights of those that exist, and the qualities."""
    logits, targets = case.tensor("logits").requires_grad_(), case.tensor("targets")
    return logits, (targets <= 0).long(), (targets >= 0).float(), targets.clamp(min=0)


def assert_rank_sort(case: Case, loss: RankSortLoss) -> None:
    logits, target, weight, quality = binary_ranking(case)
    ranking, sorting = loss.terms(logits.unsqueeze(-1), target, quality, weight=weight)
    positives = (target == 0).sum().clamp(min=1)
    ranking, sorting = ranking.sum() / positives, sorting.sum() / positives
    case.assert_close(ranking, "expected_ranking_loss", **LOSS)
    case.assert_close(sorting, "expected_sorting_loss", **LOSS)
    (gradient,) = torch.autograd.grad(ranking + sorting, logits)
    assert_gradient(case, gradient, "expected_grad")


def check_rank_sort(case: Case) -> None:
    assert_rank_sort(case, RankSortLoss(case.params["delta_RS"]))


def check_bucketed_rank_sort(case: Case) -> None:
    if "reference_error" not in case.params:
        assert_rank_sort(case, BucketedRankSortLoss(case.params["delta_RS"]))
    logits, target, weight, quality = binary_ranking(case)
    loss = BucketedRankSortLoss(case.params.get("delta_ap", case.params["delta_RS"]))
    ranking, _ = loss.terms(logits.unsqueeze(-1), target, quality, weight=weight)
    ranking = ranking.sum() / (target == 0).sum().clamp(min=1)
    if "reference_error_ap" in case.params:
        # Fault of the reference: it raises where no negative reaches the lowest positive. Then nothing is out of order.
        (gradient,) = torch.autograd.grad(ranking, logits)
        assert ranking == 0
        assert (gradient == 0).all()
    else:
        assert_loss(case, ranking, logits, "bucketed_ap_")


def check_alrp(case: Case) -> None:
    logits, target, weight, _ = binary_ranking(case)
    column, positive = logits.unsqueeze(-1), target == 0
    errors = case.tensor("regression_losses").requires_grad_()
    box_loss = torch.zeros_like(logits).masked_scatter(positive, errors)
    loss, count = ALRPLoss(case.params["delta"]), positive.sum().clamp(min=1)
    case.assert_close(loss.ranks(column, target, weight=weight)[positive], "expected_rank", **LOSS)
    value = loss(column, target, weight=weight, box_loss=box_loss).sum() / count
    (gradient,) = torch.autograd.grad(value, logits)
    case.assert_close(value, "expected_cls_loss", **LOSS)
    assert_gradient(case, gradient, "expected_grad_logits")
    if case.arrays["robust_reg_loss"]:
        boxes_part = (loss.box_factor(column, target, weight=weight) * box_loss).sum() / count
        (gradient,) = torch.autograd.grad(boxes_part, errors)
        case.assert_close(boxes_part, "expected_reg_loss", **LOSS)
        assert_gradient(case, gradient, "expected_grad_regression_losses")


def check_mal(case: Case) -> None:
    params, logits = case.params, case.tensor("logits").requires_grad_()
    loss = MALLoss(params["gamma"], params["mal_alpha"])
    values = loss(logits, case.tensor("target_class"), quality=case.tensor("target_iou"))
    assert_loss(case, values.sum() / params["num_boxes"], logits)


def check_federated(case: Case) -> None:
    params, logits, target = case.params, case.tensor("logits").requires_grad_(), case.tensor("gt_classes")
    mask, columns = case.tensor("class_mask"), params["num_classes"]
    loss = FederatedLoss(params["fed_loss_num_classes"])
    values = loss.over(logits[:, :columns], target, mask)
    assert_loss(case, values.sum() / len(target), logits)
    # Fault of the reference: the background label takes the place of one class. Ours draws as many classes as asked.
    images = (case.tensor("class_weights").square() * 1e6).long()
    loss.prepare(columns)
    loss.set_class_counts(ClassCounts(images, images, 10**9))
    counted, seen = loss.counted(target, columns), target[target < columns].unique()
    assert counted[seen].all()
    available = torch.cat((seen, images.nonzero().squeeze(1))).unique()
    assert counted.sum() == max(min(params["fed_loss_num_classes"], len(available)), len(seen))


def check_eql_v1(case: Case) -> None:
    logits, target = case.tensor("logits").requires_grad_(), case.tensor("gt_classes")
    loss = EQLv1Loss(case.params["lambda_"])
    total = 2**40  # a power of two: the shares come back without rounding, one that equals lambda as well
    images = (case.tensor("class_frequency").double() * total).round().long()
    loss.set_class_counts(ClassCounts(images, images, total))
    assert_loss(case, loss(logits, target).sum() / len(target), logits)


def check_class_balanced(case: Case) -> None:
    params, target = case.params, case.tensor("labels")
    counts = case.tensor("samples_per_class")
    logits = case.tensor("logits").requires_grad_()
    loss = ClassBalancedFocalLoss(params["beta"], params["gamma"])
    loss.set_class_counts(ClassCounts(counts, counts, int(counts.sum())))
    weights = loss.class_weights()
    case.assert_close(weights, "expected_class_weights", **BOX_LOSS)
    assert_loss(case, loss(logits, target).sum() / len(target), logits, "focal_")
    # Fault of the reference: its "softmax" is a binary cross entropy on softmax outputs, which no loss here offers.
    logits = case.tensor("logits").requires_grad_()
    probability, one_hot = logits.softmax(-1), torch.nn.functional.one_hot(target, logits.shape[-1]).float()
    entropy = torch.nn.functional.binary_cross_entropy(probability, one_hot, reduction="none")
    assert_loss(case, (entropy * weights.float()[target].unsqueeze(-1)).mean(), logits, "softmax_")
    # The paper's softmax form is the cross entropy with our class weights.
    own = CrossEntropyLoss(weights.tolist())(logits, target)
    plain = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(own, plain * weights[target].float())


def check_acsl(case: Case) -> None:
    params = case.params
    logits, labels = case.tensor("logits").requires_grad_(), case.tensor("labels")
    columns = params["num_classes"] + 1
    images = torch.tensor([{"r": 5, "c": 50, "f": 500}[g] for g in params["frequency_group_of_class_1_to_K"]] + [0])
    loss = ACSLLoss(params["score_thr"])
    loss.set_class_counts(ClassCounts(images, images, 1000))
    drawn = torch.zeros(3, len(labels), dtype=torch.bool)
    for row, name in zip(drawn, ("rare", "common", "frequent"), strict=True):
        row[case.tensor(f"drawn_background_rows_{name}")] = True
    # The background is column 0 there, the last one here.
    values = loss.over(logits.roll(-1, -1), (labels - 1) % columns, drawn)
    assert_loss(case, values.sum() / len(labels), logits)
    counts = loss.train().drawn(logits, (labels - 1) % columns, None).sum(-1)
    assert counts.tolist() == drawn.sum(-1).tolist()


CHECKS: dict[str, Callable[[Case], None]] = {
    "rank_sort": check_rank_sort,
    "bucketed_rank_sort": check_bucketed_rank_sort,
    "alrp": check_alrp,
    "mal": check_mal,
    "federated": check_federated,
    "eql_v1": check_eql_v1,
    "class_balanced": check_class_balanced,
    "acsl": check_acsl,
    "nwd": check_nwd,
    "wiou": check_wiou,
    "mpdiou": check_mpdiou,
    "inner_iou": check_inner_iou,
    "shape_iou": check_shape_iou,
    "focaler_iou": check_focaler_iou,
    "alpha_iou": check_alpha_iou,
    "focal_eiou": check_focal_eiou,
}
