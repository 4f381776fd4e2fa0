"""Each regression loss against its paper's formula, one number or one box at a time, and its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from harness.losses.interface import RegressionLoss
from harness.losses.regression import (
    AlphaIoULoss,
    BalancedL1Loss,
    BoundedIoULoss,
    CIoULoss,
    DIoULoss,
    DistributionFocalLoss,
    EIoULoss,
    FocalEIoULoss,
    FocalerIoULoss,
    GHMRLoss,
    GIoULoss,
    InnerIoULoss,
    IoULoss,
    KLDLoss,
    L1Loss,
    MPDIoULoss,
    NWDLoss,
    ShapeIoULoss,
    SIoULoss,
    SmoothL1Loss,
    WIoULoss,
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


def frozen(formula, a: Box, b: Box) -> Tensor:
    """The slope of ``formula`` by the four sides of ``a``, by central differences."""
    step, slope = 1e-6, []
    for side in range(4):
        up, down = list(a), list(a)
        up[side] += step
        down[side] -= step
        slope.append((formula(tuple(up), b) - formula(tuple(down), b)) / (2 * step))
    return torch.tensor(slope, dtype=torch.float64)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_wiou_over_two_steps(boxes: tuple[Tensor, Tensor], version: int) -> None:
    alpha, delta, momentum = 1.7, 2.5, 0.2
    loss = WIoULoss(version, alpha, delta, momentum=momentum).double()
    weight = torch.ones(30, dtype=torch.float64)
    weight[3:9] = 0
    pairs = list(zip(*(side.tolist() for side in boxes), strict=True))
    mean = 1.0
    for _ in range(2):
        gaps = [1 - iou(a, b) for a, b in pairs]
        if version > 1:
            used = [gap for gap, w in zip(gaps, weight, strict=True) if w]
            mean = (1 - momentum) * mean + momentum * sum(used) / len(used)
        focus = {1: lambda b: 1.0, 2: lambda b: b**0.5, 3: lambda b: b / delta / alpha ** (b - delta)}[version]
        factors = [focus(gap / mean) for gap in gaps]
        prediction = boxes[0].clone().requires_grad_()
        values = loss(prediction, boxes[1], weight=weight)
        for (a, b), factor, w, value in zip(pairs, factors, weight.tolist(), values.tolist(), strict=True):
            h = hull(a, b)
            wise = math.exp(math.dist(center(a), center(b)) ** 2 / math.dist(h[:2], h[2:]) ** 2) * (1 - iou(a, b))
            assert value == pytest.approx(w * factor * wise, rel=1e-7)
        (gradient,) = torch.autograd.grad(values.sum(), prediction)
        for row in (0, 22, 27):  # with the focus and the diagonal held fixed
            a, b = pairs[row]
            diagonal, factor = math.dist(hull(a, b)[:2], hull(a, b)[2:]) ** 2, factors[row]

            def value(p: Box, t: Box, diagonal: float = diagonal, factor: float = factor) -> float:
                return factor * math.exp(math.dist(center(p), center(t)) ** 2 / diagonal) * (1 - iou(p, t))

            torch.testing.assert_close(gradient[row], frozen(value, a, b), rtol=1e-5, atol=1e-7)


def test_wiou_mean_stays_without_a_box() -> None:
    loss = WIoULoss()
    loss(torch.ones(2, 4), torch.ones(2, 4), weight=torch.zeros(2))
    assert loss.iou_mean == 1


def test_mpdiou(boxes: tuple[Tensor, Tensor]) -> None:
    size = torch.tensor([96.0, 200.0]).expand(30, 2)

    def formula(a: Box, b: Box) -> float:
        return 1 - iou(a, b) + (math.dist(a[:2], b[:2]) ** 2 + math.dist(a[2:], b[2:]) ** 2) / (96**2 + 200**2)

    same(MPDIoULoss()(*boxes, image_size=size), each_pair(boxes, formula))


def scaled(b: Box, ratio: float) -> Box:
    (x, y), w, h = center(b), (b[2] - b[0]) * ratio / 2, (b[3] - b[1]) * ratio / 2
    return x - w, y - h, x + w, y + h


@pytest.mark.parametrize("ratio", [0.7, 1.3])
def test_inner_iou(boxes: tuple[Tensor, Tensor], ratio: float) -> None:
    def formula(a: Box, b: Box) -> float:
        return 1 - diou(a, b) + iou(a, b) - iou(scaled(a, ratio), scaled(b, ratio))

    loss = InnerIoULoss(DIoULoss(), ratio)
    same(loss(*boxes), each_pair(boxes, formula))
    assert differentiable(loss, boxes)
    same(InnerIoULoss(ratio=1.0)(*boxes), each_pair(boxes, lambda a, b: 1 - iou(a, b)))


def test_focaler_iou(boxes: tuple[Tensor, Tensor]) -> None:
    def formula(a: Box, b: Box) -> float:
        return 1 - min(max((iou(a, b) - 0.2) / 0.7, 0), 1)

    loss = FocalerIoULoss(d=0.2, u=0.9)
    same(loss(*boxes), each_pair(boxes, formula))
    assert differentiable(loss, boxes)


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
def test_shape_iou(boxes: tuple[Tensor, Tensor], scale: float) -> None:
    def formula(a: Box, b: Box) -> float:
        (w1, h1), (w2, h2) = ((box[2] - box[0], box[3] - box[1]) for box in (a, b))
        ww, hh = (2 * side**scale / (w2**scale + h2**scale) for side in (w2, h2))
        diagonal = math.dist(hull(a, b)[:2], hull(a, b)[2:]) ** 2
        x, y = (center(a)[k] - center(b)[k] for k in (0, 1))
        omega = hh * abs(w1 - w2) / max(w1, w2), ww * abs(h1 - h2) / max(h1, h2)
        shape = sum((1 - math.exp(-o)) ** 4 for o in omega)
        return 1 - iou(a, b) + (hh * x * x + ww * y * y) / diagonal + shape / 2

    same(ShapeIoULoss(scale)(*boxes), each_pair(boxes, formula))
    assert differentiable(ShapeIoULoss(scale), boxes)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_alpha_iou(boxes: tuple[Tensor, Tensor], kind: str, alpha: float) -> None:
    def formula(a: Box, b: Box) -> float:
        h, union = hull(a, b), area(a) + area(b) - overlap(a, b)
        loss = 1 - iou(a, b) ** alpha
        if kind == "giou":
            loss += ((area(h) - union) / area(h)) ** alpha
        if kind in ("diou", "ciou"):
            loss += (iou(a, b) - diou(a, b)) ** alpha
        if kind == "ciou":
            angle = math.atan((b[2] - b[0]) / (b[3] - b[1])) - math.atan((a[2] - a[0]) / (a[3] - a[1]))
            v = 4 / math.pi**2 * angle**2
            loss += (v * v / (1 - iou(a, b) + v)) ** alpha
        return loss

    loss = AlphaIoULoss(kind, alpha, eps=1e-12)
    same(loss(*boxes), each_pair(boxes, formula))
    if kind != "ciou":  # whose trade-off is a constant of the gradient
        assert differentiable(loss, boxes)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_alpha_iou_of_identical_boxes_is_finite_for_any_power(kind: str) -> None:
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]], requires_grad=True)
    value = AlphaIoULoss(kind, 0.5)(box, box.detach().clone())
    value.sum().backward()
    assert abs(value.item()) < 1e-4
    assert box.grad.isfinite().all()


def test_focal_eiou(boxes: tuple[Tensor, Tensor]) -> None:
    def plain(a: Box, b: Box) -> float:
        h = hull(a, b)
        sides = [(b[k + 2] - b[k] - a[k + 2] + a[k]) ** 2 / (h[k + 2] - h[k]) ** 2 for k in (0, 1)]
        return 1 - diou(a, b) + sum(sides)

    same(FocalEIoULoss(0.0)(*boxes), each_pair(boxes, plain))
    assert differentiable(FocalEIoULoss(0.0), boxes)
    same(FocalEIoULoss(0.5)(*boxes), each_pair(boxes, lambda a, b: iou(a, b) ** 0.5 * plain(a, b)))


@pytest.mark.parametrize(
    ("mode", "formula"),
    [
        ("exp", lambda w: 1 - math.exp(-w / 9)),
        ("sqrt", lambda w: w),
        ("log", lambda w: math.log(1 + w * w)),
        ("norm_sqrt", lambda w: 1 - 1 / (2 + w)),
        ("w2", lambda w: w * w),
    ],
)
def test_nwd(boxes: tuple[Tensor, Tensor], mode: str, formula) -> None:
    def distance(a: Box, b: Box) -> float:
        sides = [(a[k + 2] - a[k] - b[k + 2] + b[k]) / 2 for k in (0, 1)]
        return math.sqrt(math.dist(center(a), center(b)) ** 2 + sides[0] ** 2 + sides[1] ** 2)

    loss = NWDLoss(mode, constant=9, gamma=2)
    same(loss(*boxes), each_pair(boxes, lambda a, b: formula(distance(a, b))))
    assert differentiable(loss, boxes)


@pytest.mark.parametrize(("function", "formula"), [("log1p", math.log1p), ("sqrt", math.sqrt), ("none", lambda d: d)])
def test_kld_is_the_divergence_of_torch_distributions(boxes: tuple[Tensor, Tensor], function: str, formula) -> None:
    def gaussian(b: Box) -> torch.distributions.MultivariateNormal:
        deviation = torch.tensor([(b[2] - b[0]) / 2, (b[3] - b[1]) / 2], dtype=torch.float64)
        mean = torch.tensor(center(b), dtype=torch.float64)
        return torch.distributions.MultivariateNormal(mean, deviation.square().diag())

    def value(a: Box, b: Box) -> float:
        return 1 - 1 / (2 + formula(float(torch.distributions.kl_divergence(gaussian(a), gaussian(b)))))

    loss = KLDLoss(function, tau=2.0)
    same(loss(*boxes), each_pair(boxes, value))
    assert differentiable(loss, boxes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WIoULoss(version=4), "^version=4"),
        (lambda: InnerIoULoss(ratio=0), "^ratio=0"),
        (lambda: FocalerIoULoss(d=0.9, u=0.5), "^d=0.9 must be at least 0 and below u=0.5"),
        (lambda: AlphaIoULoss("xiou"), "^kind='xiou'"),
        (lambda: NWDLoss(constant=0), "^constant=0"),
        (lambda: KLDLoss(tau=0.5), "^tau=0.5"),
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
