"""Each regression loss against its paper's formula, one number or one box at a time, and its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from harness.losses.interface import RegressionLoss
from harness.losses.regression import (
    BalancedL1Loss,
    BoundedIoULoss,
    CIoULoss,
    DIoULoss,
    DistributionFocalLoss,
    EIoULoss,
    GHMRLoss,
    GIoULoss,
    IoULoss,
    L1Loss,
    SIoULoss,
    SmoothL1Loss,
)

Box = tuple[float, float, float, float]


@pytest.fixture
def deltas() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    prediction, target = (torch.randn(9, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    return prediction, target


@pytest.fixture
def boxes() -> tuple[Tensor, Tensor]:
    """Overlapping, apart, nested and far boxes."""
    generator = torch.Generator().manual_seed(6)
    near = 30 * torch.rand(30, 2, dtype=torch.float64, generator=generator)
    target = torch.cat((near, near + 5 + 30 * torch.rand(30, 2, dtype=torch.float64, generator=generator)), -1)
    prediction = target + 3 * torch.randn(30, 4, dtype=torch.float64, generator=generator)
    prediction[20:25] += 40
    prediction[25:] = target[25:] + torch.tensor([1.0, 2.0, -1.5, -0.5], dtype=torch.float64)
    prediction[:, 2:] = torch.maximum(prediction[:, 2:], prediction[:, :2] + 1)
    return prediction, target


def same(ours: Tensor, oracle: list) -> None:
    torch.testing.assert_close(ours, torch.tensor(oracle, dtype=ours.dtype), rtol=1e-7, atol=1e-8)


def elementwise(values: tuple[Tensor, Tensor], formula) -> list[list[float]]:
    return [
        [formula(p - t) for p, t in zip(*rows, strict=True)] for rows in zip(*(v.tolist() for v in values), strict=True)
    ]


def each_pair(values: tuple[Tensor, Tensor], formula) -> list[float]:
    return [formula(tuple(p), tuple(t)) for p, t in zip(*(v.tolist() for v in values), strict=True)]


def differentiable(loss: RegressionLoss, values: tuple[Tensor, Tensor]) -> bool:
    prediction, target = values
    return gradcheck(lambda x: loss.elementwise(x, target), prediction.clone().requires_grad_(), atol=1e-4)


def area(b: Box) -> float:
    return (b[2] - b[0]) * (b[3] - b[1])


def overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def iou(a: Box, b: Box) -> float:
    return overlap(a, b) / (area(a) + area(b) - overlap(a, b))


def hull(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def center(b: Box) -> tuple[float, float]:
    return (b[0] + b[2]) / 2, (b[1] + b[3]) / 2


def test_l1(deltas: tuple[Tensor, Tensor]) -> None:
    same(L1Loss().elementwise(*deltas), elementwise(deltas, abs))
    assert differentiable(L1Loss(), deltas)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1(deltas: tuple[Tensor, Tensor], beta: float) -> None:
    def formula(x: float) -> float:
        return x * x / (2 * beta) if abs(x) < beta else abs(x) - beta / 2

    same(SmoothL1Loss(beta).elementwise(*deltas), elementwise(deltas, formula))
    assert differentiable(SmoothL1Loss(beta), deltas)


@pytest.mark.parametrize(("alpha", "gamma", "beta"), [(0.5, 1.5, 1.0), (0.3, 1.2, 0.7)])
def test_balanced_l1(deltas: tuple[Tensor, Tensor], alpha: float, gamma: float, beta: float) -> None:
    b = math.exp(gamma / alpha) - 1

    def formula(x: float) -> float:
        x = abs(x)
        if x < beta:
            return alpha / b * (b * x + 1) * math.log(b * x / beta + 1) - alpha * x
        return gamma * x + gamma / b - alpha * beta

    loss = BalancedL1Loss(alpha, gamma, beta)
    same(loss.elementwise(*deltas), elementwise(deltas, formula))
    assert differentiable(loss, deltas)


def test_ghm_r_over_two_steps(deltas: tuple[Tensor, Tensor]) -> None:
    mu, bins, momentum = 0.3, 4, 0.6
    loss = GHMRLoss(mu, bins, momentum).double()
    weight = [0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 1.0, 0.5, 1.0]
    past = [0.0] * bins
    for step in range(2):
        values = deltas[0] * (step + 1), deltas[1]
        norm = elementwise(values, lambda d: abs(d) / math.sqrt(d * d + mu * mu))
        counts = [
            sum(int(g * bins) == b for row, w in zip(norm, weight, strict=True) if w for g in row) for b in range(bins)
        ]
        for b in range(bins):
            if counts[b]:
                past[b] = momentum * past[b] + (1 - momentum) * counts[b]
        used, total = sum(c > 0 for c in counts), 4 * sum(weight)
        smooth = elementwise(values, lambda d: math.sqrt(d * d + mu * mu) - mu)
        oracle = [
            [s * total / past[int(g * bins)] / used if w else 0.0 for s, g in zip(smooth_row, norm_row, strict=True)]
            for smooth_row, norm_row, w in zip(smooth, norm, weight, strict=True)
        ]
        same(loss.elementwise(*values, weight=torch.tensor(weight, dtype=torch.float64)), oracle)


def test_distribution_focal() -> None:
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(6, 4 * 5, dtype=torch.float64, generator=generator)
    target = 4 * torch.rand(6, 4, dtype=torch.float64, generator=generator)
    target[0] = torch.tensor([0.0, 4.0, 3.0, 9.0])  # both ends, a whole number, beyond the end
    oracle = []
    for row, distances in zip(logits.view(6, 4, 5), target.tolist(), strict=True):
        oracle.append([])
        for side, y in zip(row, distances, strict=True):
            y = min(y, 4.0)
            low = min(int(y), 3)
            p = [math.exp(x) / sum(math.exp(z) for z in side.tolist()) for x in side.tolist()]
            oracle[-1].append(-((low + 1 - y) * math.log(p[low]) + (y - low) * math.log(p[low + 1])))
    loss = DistributionFocalLoss()
    same(loss.elementwise(logits, target), oracle)
    same(loss.elementwise(logits.view(6, 4, 5), target), oracle)
    assert differentiable(loss, (logits, target))


@pytest.mark.parametrize(
    ("mode", "formula"),
    [("log", lambda x: -math.log(max(x, 1e-6))), ("linear", lambda x: 1 - x), ("square", lambda x: 1 - x * x)],
)
def test_iou(boxes: tuple[Tensor, Tensor], mode: str, formula) -> None:
    touching = tuple(side[:20] for side in boxes)
    same(IoULoss(mode).elementwise(*touching), each_pair(touching, lambda a, b: formula(iou(a, b))))
    assert differentiable(IoULoss(mode), touching)


def test_giou(boxes: tuple[Tensor, Tensor]) -> None:
    def formula(a: Box, b: Box) -> float:
        enclosure = area(hull(a, b))
        return 1 - iou(a, b) + (enclosure - (area(a) + area(b) - overlap(a, b))) / enclosure

    same(GIoULoss().elementwise(*boxes), each_pair(boxes, formula))
    assert differentiable(GIoULoss(), boxes)


def diou(a: Box, b: Box) -> float:
    h = hull(a, b)
    return iou(a, b) - math.dist(center(a), center(b)) ** 2 / math.dist(h[:2], h[2:]) ** 2


def test_diou(boxes: tuple[Tensor, Tensor]) -> None:
    same(DIoULoss().elementwise(*boxes), each_pair(boxes, lambda a, b: 1 - diou(a, b)))
    assert differentiable(DIoULoss(), boxes)


@pytest.mark.parametrize("gate", [None, 0.5])
def test_ciou(boxes: tuple[Tensor, Tensor], gate: float | None) -> None:
    def penalty(a: Box, b: Box) -> tuple[float, float]:
        angle = math.atan((b[2] - b[0]) / (b[3] - b[1])) - math.atan((a[2] - a[0]) / (a[3] - a[1]))
        v = 4 / math.pi**2 * angle**2
        counts = gate is None or iou(a, b) > gate
        return v, v / (1 - iou(a, b) + v) if counts else 0.0

    loss = CIoULoss(gate=gate)
    oracle = each_pair(boxes, lambda a, b: 1 - diou(a, b) + math.prod(penalty(a, b)))
    same(loss.elementwise(*boxes), oracle)

    # Its trade-off is a constant of the gradient, so differences are taken with it held fixed.
    prediction, target = boxes[0].clone().requires_grad_(), boxes[1]
    (gradient,) = torch.autograd.grad(loss.elementwise(prediction, target).sum(), prediction)
    step = 1e-6
    for row in (0, 7, 26):
        fixed = penalty(*(tuple(side[row].tolist()) for side in boxes))[1]
        for side in range(4):
            values = []
            for sign in (1, -1):
                moved = boxes[0][row].clone()
                moved[side] += sign * step
                a, b = tuple(moved.tolist()), tuple(target[row].tolist())
                values.append(1 - diou(a, b) + fixed * penalty(a, b)[0] if fixed else 1 - diou(a, b))
            if fixed or gate is None:
                assert gradient[row, side].item() == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-6)


def test_eiou(boxes: tuple[Tensor, Tensor]) -> None:
    def formula(a: Box, b: Box) -> float:
        width, height = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1))
        if width >= 0 and height >= 0:
            signed = width * height
        else:  # the strips between boxes that are apart, counted from the least corner
            x, y = min(a[0], b[0]), min(a[1], b[1])
            near, far = (max(a[0], b[0]) - x, max(a[1], b[1]) - y), (min(a[2], b[2]) - x, min(a[3], b[3]) - y)
            low, high = (
                [min(n, f) for n, f in zip(near, far, strict=True)],
                [max(n, f) for n, f in zip(near, far, strict=True)],
            )
            signed = far[0] * far[1] + low[0] * low[1] - near[0] * high[1] - high[0] * near[1]
        gap = 1 - signed / (area(a) + area(b) - signed)
        return gap * gap / 0.2 if gap < 0.1 else gap - 0.05

    same(EIoULoss().elementwise(*boxes), each_pair(boxes, formula))
    assert differentiable(EIoULoss(), boxes)
    apart = each_pair(boxes, overlap)
    assert (EIoULoss().elementwise(*boxes)[torch.tensor(apart) == 0] > 0.95).all()


@pytest.mark.parametrize("neg_gamma", [True, False])
def test_siou(boxes: tuple[Tensor, Tensor], neg_gamma: bool) -> None:
    def formula(a: Box, b: Box) -> float:
        x, y = (center(b)[k] - center(a)[k] for k in (0, 1))
        sine = min(abs(x), abs(y)) / math.hypot(x, y)
        angle = 1 - 2 * math.sin(math.asin(sine) - math.pi / 4) ** 2
        h = hull(a, b)
        gamma = 2 - angle if not neg_gamma else angle - 2
        distance = sum(
            1 - math.exp(gamma * (offset / side) ** 2) for offset, side in ((x, h[2] - h[0]), (y, h[3] - h[1]))
        )
        shape = 0.0
        for k in (0, 1):
            first, second = a[k + 2] - a[k], b[k + 2] - b[k]
            shape += (1 - math.exp(-abs(first - second) / max(first, second))) ** 4
        return min(2.0, max(0.0, 1 - iou(a, b) + (distance + shape) / 2))

    loss = SIoULoss(neg_gamma, eps=1e-9)
    torch.testing.assert_close(
        loss.elementwise(*boxes), torch.tensor(each_pair(boxes, formula), dtype=torch.float64), rtol=1e-6, atol=1e-7
    )
    assert differentiable(loss, boxes)


def test_bounded_iou(boxes: tuple[Tensor, Tensor]) -> None:
    beta, eps = 0.2, 1e-3

    def smooth(x: float) -> float:
        return x * x / (2 * beta) if x < beta else x - beta / 2

    def formula(a: Box, b: Box) -> list[float]:
        bounds = []
        for k in (0, 1):
            side, shift = b[k + 2] - b[k], abs(center(a)[k] - center(b)[k])
            bounds.append(1 - max(0.0, (side - 2 * shift) / (side + 2 * shift + eps)))
        for k in (0, 1):
            first, second = a[k + 2] - a[k], b[k + 2] - b[k]
            bounds.append(1 - min(second / (first + eps), first / (second + eps)))
        return [smooth(bound) for bound in bounds]

    same(BoundedIoULoss(beta, eps).elementwise(*boxes), each_pair(boxes, formula))
    assert differentiable(BoundedIoULoss(), boxes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SmoothL1Loss(beta=-1), "^beta=-1"),
        (lambda: BalancedL1Loss(alpha=0), "^alpha=0"),
        (lambda: GHMRLoss(mu=0), "^mu=0"),
        (lambda: IoULoss(mode="cubic"), "^mode='cubic' must be one of log, linear, square"),
        (lambda: IoULoss(eps=0), "^eps=0"),
        (lambda: GIoULoss(eps=0), "^eps=0"),
        (lambda: DIoULoss(eps=0), "^eps=0"),
        (lambda: CIoULoss(eps=0), "^eps=0"),
        (lambda: CIoULoss(gate=2), "^gate=2"),
        (lambda: EIoULoss(smooth_point=0), "^smooth_point=0"),
        (lambda: SIoULoss(eps=0), "^eps=0"),
        (lambda: BoundedIoULoss(beta=0), "^beta=0"),
    ],
)
def test_a_bad_value_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        make()
    assert "\n" not in str(refusal.value)
