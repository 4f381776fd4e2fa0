"""Each classification loss against its paper's formula, one slot and one column at a time, and its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from harness.losses.classification import (
    APLoss,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    EQLv2Loss,
    FocalLoss,
    GHMCLoss,
    MALLoss,
    QualityFocalLoss,
    SeesawLoss,
    SoftmaxFocalLoss,
    TopKCrossEntropyLoss,
    TopKLoss,
    VarifocalLoss,
)

SLOTS, COLUMNS = 11, 4


@pytest.fixture
def logits() -> Tensor:
    return 3 * torch.randn(SLOTS, COLUMNS, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def target() -> Tensor:
    return torch.tensor([0, 1, 2, 3, 4, 4, 0, 1, 4, 3, 2])  # 4: no column is on


@pytest.fixture
def column(target: Tensor) -> Tensor:
    return target % COLUMNS  # always a column, for a softmax


@pytest.fixture
def quality() -> Tensor:
    return torch.rand(SLOTS, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def per_column(logits: Tensor, target: Tensor, value) -> Tensor:
    """``value(p, on, slot, column)`` of every element."""
    rows = [
        [value(sigmoid(logits[s, c].item()), target[s].item() == c, s, c) for c in range(logits.shape[1])]
        for s in range(len(logits))
    ]
    return torch.tensor(rows, dtype=torch.float64)


def softmax(row: Tensor) -> list[float]:
    powers = [math.exp(x) for x in row.tolist()]
    return [power / sum(powers) for power in powers]


def same(ours: Tensor, oracle: Tensor | list[float] | float) -> None:
    oracle = torch.as_tensor(oracle, dtype=torch.float64)
    torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-10)


def test_cross_entropy(logits: Tensor, column: Tensor) -> None:
    weight = [1.0, 2.0, 0.5, 3.0]
    loss = CrossEntropyLoss(weight, ignore_index=2).double()
    oracle = [-weight[t] * math.log(softmax(row)[t]) if t != 2 else 0.0 for row, t in zip(logits, column, strict=True)]
    same(loss.elementwise(logits, column), oracle)
    assert gradcheck(lambda x: loss.elementwise(x, column), logits.requires_grad_())


@pytest.mark.parametrize("soft", [False, True])
def test_binary_cross_entropy(logits: Tensor, target: Tensor, quality: Tensor, soft: bool) -> None:
    weight = [1.0, 2.0, 0.5, 3.0]
    loss = BinaryCrossEntropyLoss(soft, weight, ignore_index=1).double()

    def value(p: float, on: bool, s: int, c: int) -> float:
        share = (quality[s].item() if soft else 1.0) if on else 0.0
        entropy = -weight[c] * share * math.log(p) - (1 - share) * math.log(1 - p)
        return 0.0 if target[s] == 1 else entropy

    same(loss.elementwise(logits, target, quality=quality), per_column(logits, target, value))
    assert gradcheck(lambda x: loss.elementwise(x, target, quality=quality), logits.requires_grad_())


@pytest.mark.parametrize("alpha", [0.25, 1.0, -1])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.5])
def test_focal(logits: Tensor, target: Tensor, alpha: float, gamma: float) -> None:
    loss = FocalLoss(alpha, gamma)

    def value(p: float, on: bool, s: int, c: int) -> float:
        p_t = p if on else 1 - p
        balance = 1 if alpha == -1 else alpha if on else 1 - alpha
        return -balance * (1 - p_t) ** gamma * math.log(p_t)

    same(loss.elementwise(logits, target), per_column(logits, target, value))
    assert gradcheck(lambda x: loss.elementwise(x, target), logits.requires_grad_())


@pytest.mark.parametrize("alpha", [0.25, -1])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_focal(logits: Tensor, column: Tensor, alpha: float, gamma: float) -> None:
    loss = SoftmaxFocalLoss(alpha, gamma)
    oracle = []
    for row, t in zip(logits, column.tolist(), strict=True):
        p = softmax(row)[t]
        balance = 1 if alpha == -1 else 1 - alpha if t == COLUMNS - 1 else alpha
        oracle.append(-balance * (1 - p) ** gamma * math.log(p))
    same(loss.elementwise(logits, column), oracle)
    assert gradcheck(lambda x: loss.elementwise(x, column), logits.requires_grad_())


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_softmax_focal_of_a_certain_slot_is_flat(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    SoftmaxFocalLoss(gamma=gamma)(logits, torch.tensor([0])).sum().backward()
    assert torch.equal(logits.grad, torch.zeros(1, 3))


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_quality_focal(logits: Tensor, target: Tensor, quality: Tensor, beta: float) -> None:
    loss = QualityFocalLoss(beta)

    def value(p: float, on: bool, s: int, c: int) -> float:
        y = quality[s].item() if on else 0.0
        return -(abs(y - p) ** beta) * ((1 - y) * math.log(1 - p) + y * math.log(p))

    same(loss.elementwise(logits, target, quality=quality), per_column(logits, target, value))
    assert gradcheck(lambda x: loss.elementwise(x, target, quality=quality), logits.requires_grad_())


@pytest.mark.parametrize("iou_weighted", [True, False])
def test_varifocal(logits: Tensor, target: Tensor, quality: Tensor, iou_weighted: bool) -> None:
    loss = VarifocalLoss(0.6, 1.5, iou_weighted)
    quality[0] = 0.0  # a positive whose box misses its object counts as off

    def value(p: float, on: bool, s: int, c: int) -> float:
        q = quality[s].item() if on else 0.0
        if q > 0:
            return -(q if iou_weighted else 1) * (q * math.log(p) + (1 - q) * math.log(1 - p))
        return -0.6 * p**1.5 * math.log(1 - p)

    same(loss.elementwise(logits, target, quality=quality), per_column(logits, target, value))
    assert gradcheck(lambda x: loss.elementwise(x, target, quality=quality), logits.requires_grad_())


def test_ghm_c_over_three_steps(target: Tensor) -> None:
    bins, momentum = 5, 0.75
    loss = GHMCLoss(bins, momentum).double()
    past = [0.0] * bins
    for step in range(3):
        logits = torch.randn(SLOTS, COLUMNS, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        weight = (torch.arange(SLOTS) % 3 > 0).double()
        norm = per_column(logits, target, lambda p, on, s, c: 1 - p if on else p)
        alive = weight.tolist()
        members = [
            [norm[s, c] for s in range(SLOTS) for c in range(COLUMNS) if alive[s] and int(norm[s, c] * bins) == b]
            for b in range(bins)
        ]
        used = [b for b in range(bins) if members[b]]
        for b in used:
            past[b] = momentum * past[b] + (1 - momentum) * len(members[b])
        total = sum(map(len, members))

        def value(p: float, on: bool, s: int, c: int) -> float:
            b = int(norm[s, c] * bins)  # noqa: B023
            entropy = -math.log(p if on else 1 - p)
            return entropy * total / past[b] / len(used) if alive[s] else 0.0  # noqa: B023

        same(loss.elementwise(logits, target, weight=weight), per_column(logits, target, value))


def test_ghm_c_with_the_normaliser_sampled_is_the_mean_over_examples(logits: Tensor, target: Tensor) -> None:
    loss = GHMCLoss(10).double()
    slots = loss(logits, target, weight=torch.ones(SLOTS))
    elements = loss.elementwise(logits, target)
    torch.testing.assert_close(slots.sum() / SLOTS, elements.mean())


def test_topk_cross_entropy_ranks_the_whole_batch(logits: Tensor, column: Tensor) -> None:
    loss = TopKCrossEntropyLoss(0.5)
    weight = torch.ones(SLOTS, dtype=torch.float64)
    weight[2] = 0
    every = [-math.log(softmax(row)[t]) for row, t in zip(logits, column, strict=True)]
    hardest = sorted((value for s, value in enumerate(every) if s != 2), reverse=True)[:5]
    value = loss(logits, column, weight=weight)
    same(value.sum() / 10, sum(hardest) / 5)
    assert (value > 0).sum() == 5
    batch = loss(logits[:10].view(2, 5, COLUMNS), column[:10].view(2, 5))
    torch.testing.assert_close(batch.flatten(), loss(logits[:10], column[:10]))


@pytest.mark.parametrize(("count", "fraction", "kept"), [(90, 0.7, 63), (1, 0.1, 1), (10, 1.0, 10), (7, 0.5, 3)])
def test_topk_cross_entropy_keeps_the_exact_number(count: int, fraction: float, kept: int) -> None:
    value = TopKCrossEntropyLoss(fraction)(torch.randn(count, 3), torch.zeros(count, dtype=torch.int64))
    assert (value > 0).sum() == kept


def test_eqlv2_over_three_steps(column: Tensor) -> None:
    mu, gamma, alpha = 0.8, 12.0, 4.0
    loss = EQLv2Loss(mu, gamma, alpha, columns=COLUMNS).double()
    classes = COLUMNS - 1
    gained, lost, ratio = [0.0] * classes, [0.0] * classes, [100.0] * classes
    for step in range(3):
        logits = torch.randn(SLOTS, COLUMNS, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        negative = [1 / (1 + math.exp(-gamma * (r - mu))) for r in ratio] + [1.0]
        positive = [1 + alpha * (1 - w) for w in negative]

        def value(p: float, on: bool, s: int, c: int) -> float:
            return -positive[c] * math.log(p) if on else -negative[c] * math.log(1 - p)  # noqa: B023

        same(loss.elementwise(logits, column), per_column(logits, column, value))
        for c in range(classes):
            for s in range(SLOTS):
                p = sigmoid(logits[s, c].item())
                if column[s] == c:
                    gained[c] += positive[c] * (1 - p)
                else:
                    lost[c] += negative[c] * p
            ratio[c] = gained[c] / lost[c]
        same(loss.pos_neg, ratio)


def test_eqlv2_without_a_background_column_treats_all_alike(logits: Tensor, target: Tensor) -> None:
    loss = EQLv2Loss(background_column=False, columns=COLUMNS).double()
    loss.elementwise(logits, target)
    assert loss.pos_grad.shape == (COLUMNS,)
    assert (loss.pos_grad > 0).all()
    torch.testing.assert_close(loss.activation_of(logits), logits.sigmoid())


def seesaw_factors(row: Tensor, label: int, count: list[int], p: float, q: float, eps: float) -> list[float]:
    score = softmax(row)
    factors = []
    for j in range(len(row)):
        mitigation = min(1.0, max(count[j], 1) / max(count[label], 1)) ** p
        compensation = max(1.0, score[j] / max(score[label], eps)) ** q
        factors.append(1.0 if j == label else mitigation * compensation)
    return factors


@pytest.mark.parametrize("objectness", [True, False])
def test_seesaw_over_two_steps(objectness: bool) -> None:
    p, q, eps, classes = 0.8, 2.0, 1e-2, 3
    width = classes + (2 if objectness else 1)
    loss = SeesawLoss(p, q, eps, objectness, columns=width)
    count = [0] * (classes + 1)
    for step in range(2):
        generator = torch.Generator().manual_seed(step)
        logits = 3 * torch.randn(SLOTS, width, dtype=torch.float64, generator=generator)
        target = torch.randint(classes + 1, (SLOTS,), generator=generator)
        for t in target.tolist():
            count[t] += 1
        oracle = []
        for row, t in zip(logits, target.tolist(), strict=True):
            powers = [math.exp(x) for x in row.tolist()]
            total = 0.0
            if t < classes:
                factors = seesaw_factors(row[:classes], t, count, p, q, eps)
                rest = 0.0 if objectness else powers[classes]
                total -= math.log(powers[t] / (sum(f * e for f, e in zip(factors, powers, strict=False)) + rest))
            elif not objectness:
                total -= math.log(powers[classes] / sum(powers))
            if objectness:
                on = classes if t < classes else classes + 1
                total -= math.log(powers[on] / (powers[classes] + powers[classes + 1]))
            oracle.append(total)
        same(loss.elementwise(logits, target), oracle)
        assert loss.cum_samples.tolist() == count


def test_seesaw_with_objectness_gives_probabilities() -> None:
    scores = SeesawLoss(columns=6).activation_of(torch.randn(5, 6))
    assert scores.shape == (5, 5)
    torch.testing.assert_close(scores.sum(-1), torch.ones(5))


def naive_ap_loss(score: list[float], label: list[int], delta: float) -> tuple[list[float], list[float]]:
    """Values of the positives and the update of every logit, by the published loop; -1 labels what does not count."""

    def above(j: int, i: int) -> float:
        return min(1.0, max(0.0, (score[j] - score[i]) / (2 * delta) + 0.5))

    positives = [i for i, t in enumerate(label) if t == 1]
    negatives = [i for i, t in enumerate(label) if t == 0]
    value, update, best = [0.0] * len(score), [0.0] * len(score), 0.0
    for i in sorted(positives, key=lambda k: score[k]):
        ours = sum(above(j, i) for j in positives) + 0.5
        rank = ours + sum(above(j, i) for j in negatives)
        precision = ours / rank
        scale = (1 - best) / (1 - precision) if best > precision else 1.0
        best = max(best, precision)
        for j in negatives:
            update[j] += scale * above(j, i) / rank
        value[i] = 1 - best
        update[i] = -(1 - best)
    return value, update


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("delta", [0.3, 1.0])
def test_ap_loss(seed: int, delta: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(40, 1, dtype=torch.float64, generator=generator) * 2
    logits[5:10] = logits[0]  # ties
    label = (torch.rand(40, generator=generator) < 0.3).long()
    label[-3:] = -1
    value, update = naive_ap_loss(logits.flatten().tolist(), label.tolist(), delta)
    logits.requires_grad_()
    ours = APLoss(delta)(logits, (label != 1).long(), weight=(label >= 0).double())
    (gradient,) = torch.autograd.grad(ours.sum(), logits)
    same(ours, value)
    same(gradient.flatten(), update)


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_mal(logits: Tensor, target: Tensor, quality: Tensor, alpha: float | None) -> None:
    loss = MALLoss(1.5, alpha)

    def value(p: float, on: bool, s: int, c: int) -> float:
        share = quality[s].item() ** 1.5
        if on:
            return -share * math.log(p) - (1 - share) * math.log(1 - p)
        return -(1 if alpha is None else alpha) * p**1.5 * math.log(1 - p)

    same(loss.elementwise(logits, target, quality=quality), per_column(logits, target, value))


@pytest.mark.parametrize("base", [None, FocalLoss()])
def test_topk_keeps_the_hardest_slots_of_any_loss(logits: Tensor, target: Tensor, base) -> None:
    weight = torch.ones(SLOTS, dtype=torch.float64)
    weight[[2, 5]] = 0
    plain = (base or BinaryCrossEntropyLoss()).elementwise(logits, target).sum(-1)
    kept = sorted((v for v, w in zip(plain.tolist(), weight, strict=True) if w), reverse=True)[:4]  # 0.5 of 9
    value = TopKLoss(base, 0.5)(logits, target, weight=weight)
    assert (value > 0).sum() == 4
    assert value.sum().item() / 9 == pytest.approx(sum(kept) / 4)


def test_ap_loss_is_zero_without_positives_and_in_perfect_order() -> None:
    logits = torch.tensor([[5.0], [4.5], [-5.0]], requires_grad=True)
    none = APLoss()(logits, torch.ones(3, dtype=torch.int64))
    perfect = APLoss()(logits, torch.tensor([0, 0, 1]))
    (gradient,) = torch.autograd.grad((none + perfect).sum(), logits)
    assert torch.equal(none, torch.zeros(3))
    assert torch.equal(perfect, torch.zeros(3))
    assert torch.equal(gradient, torch.zeros(3, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FocalLoss(alpha=2), "^alpha=2 must be between 0 and 1, or -1"),
        (lambda: FocalLoss(gamma=-1), "^gamma=-1 must be at least 0"),
        (lambda: SoftmaxFocalLoss(alpha=-0.5), "^alpha=-0.5"),
        (lambda: CrossEntropyLoss(class_weight=[1, -1]), "^class_weight"),
        (lambda: CrossEntropyLoss(label_smoothing=2), "^label_smoothing=2"),
        (lambda: BinaryCrossEntropyLoss(class_weight=[-1]), "^class_weight"),
        (lambda: QualityFocalLoss(beta=0.5), "^beta=0.5 must be 0 or at least 1"),
        (lambda: VarifocalLoss(alpha=-1), "^alpha=-1"),
        (lambda: VarifocalLoss(gamma=0.5), "^gamma=0.5"),
        (lambda: GHMCLoss(bins=0), "^bins=0 must be a whole number of at least 1"),
        (lambda: GHMCLoss(momentum=1), "^momentum=1 must be at least 0 and below 1"),
        (lambda: TopKCrossEntropyLoss(fraction=0), "^fraction=0"),
        (lambda: EQLv2Loss(alpha=-1), "^alpha=-1"),
        (lambda: EQLv2Loss(columns=5).prepare(6), "keeps state for 5 columns; it cannot serve 6"),
        (lambda: EQLv2Loss()(torch.zeros(1, 3), torch.zeros(1).long()), "prepared for None columns"),
        (lambda: SeesawLoss(p=-1), "^p=-1"),
        (lambda: SeesawLoss(eps=0), "^eps=0"),
        (lambda: SeesawLoss(columns=2), "too few"),
        (lambda: SeesawLoss(columns=5).prepare(6), "keeps state for 5 columns; it cannot serve 6"),
        (lambda: APLoss(delta=0), "^delta=0"),
        (lambda: MALLoss(gamma=-1), "^gamma=-1"),
        (lambda: TopKLoss(fraction=2), "^fraction=2"),
        (lambda: TopKLoss(CrossEntropyLoss()), "^base='CrossEntropyLoss' must be a loss of sigmoid logits"),
    ],
)
def test_a_bad_value_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        make()
    assert "\n" not in str(refusal.value)
