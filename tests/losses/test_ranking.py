"""The ranking losses against loops over every pair, as naive as the papers' formulas; and the sums they are made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.losses.classification import ALRPLoss, BucketedRankSortLoss, RankSortLoss
from harness.losses.ranking import DominanceSums, RampSums


def ramp(x: float, delta: float) -> float:
    return min(max(x / (2 * delta) + 0.5, 0.0), 1.0) if delta else float(x >= 0)


@pytest.mark.parametrize("delta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 17, 33])
def test_sums_over_pairs(delta: float, count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    score = torch.randint(-6, 6, (count,), generator=generator).double() / 4  # ties
    key = torch.randint(0, 5, (count,), generator=generator).double()
    mass = torch.rand(2, count, dtype=torch.float64, generator=generator)
    query = torch.randint(-6, 6, (7,), generator=generator).double() / 4

    def total(rows: Tensor, holds) -> Tensor:
        return torch.stack(
            [torch.stack([sum(m[j] * holds(i, j) for j in range(count)) for m in mass]) for i in rows], -1
        )

    sums = RampSums(score, delta)
    queries, own = range(len(query)), range(count)
    above = total(queries, lambda i, j: ramp(float(score[j] - query[i]), delta))
    below = total(queries, lambda i, j: ramp(float(query[i] - score[j]), delta))
    torch.testing.assert_close(sums.above(mass, query), above)
    torch.testing.assert_close(sums.below(mass, query), below)

    dominance = DominanceSums(score, key, delta)
    smaller = total(own, lambda i, j: float(key[j] < key[i]) * ramp(float(score[j] - score[i]), delta))
    larger = total(own, lambda j, i: float(key[i] > key[j]) * ramp(float(score[j] - score[i]), delta))
    torch.testing.assert_close(dominance.above_with_smaller_key(mass), smaller)
    torch.testing.assert_close(dominance.below_with_larger_key(mass), larger)


class Scene:
    """Three columns, fourteen slots, two of which do not exist; qualities and logits with ties."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.logits = torch.randint(-8, 9, (14, 3), generator=generator).double() / 4
        self.target = torch.randint(0, 6, (14,), generator=generator)
        self.target[self.target > 3] = 3
        self.weight = torch.ones(14, dtype=torch.float64)
        self.weight[[3, 9]] = 0
        self.quality = torch.randint(1, 5, (14,), generator=generator).double() / 4
        self.box_loss = torch.rand(14, dtype=torch.float64, generator=generator)
        slots = range(14)
        self.positives = [(s, int(self.target[s])) for s in slots if self.weight[s] and self.target[s] < 3]
        self.negatives = [(s, c) for s in slots if self.weight[s] for c in range(3) if c != self.target[s]]

    def score(self, place: tuple[int, int]) -> float:
        return float(self.logits[place])


def bucketed_scores(scene: Scene, delta: float) -> dict[tuple[int, int], float]:
    """The mean score of the negatives that lie between the same positives."""
    bounds = [scene.score(p) for p in scene.positives]
    reached = [n for n in scene.negatives if scene.score(n) >= min(bounds) - delta]
    bucket = {n: sum(bound >= scene.score(n) for bound in bounds) for n in reached}
    members = {b: [scene.score(n) for n in reached if bucket[n] == b] for b in set(bucket.values())}
    return {
        n: sum(members[bucket[n]]) / len(members[bucket[n]]) if n in bucket else scene.score(n) for n in scene.negatives
    }


def naive_rank_sort(scene: Scene, delta: float, bucketed: bool) -> tuple[Tensor, Tensor]:
    value, update = torch.zeros(14, dtype=torch.float64), torch.zeros(14, 3, dtype=torch.float64)
    scores = bucketed_scores(scene, delta) if bucketed else {n: scene.score(n) for n in scene.negatives}
    quality = {p: float(scene.quality[p[0]]) for p in scene.positives}
    for i in scene.positives:
        above = {j: ramp(scene.score(j) - scene.score(i), delta) for j in scene.positives}
        false = {n: ramp(score - scene.score(i), delta) for n, score in scores.items()}
        ranking = sum(false.values()) / (sum(false.values()) + sum(above.values()))

        def gap(members: list[tuple[int, int]], above: dict = above) -> float:
            return sum(above[j] * (1 - quality[j]) for j in members) / sum(above[j] for j in members)

        better = [j for j in scene.positives if quality[j] >= quality[i]]
        wrong = {j: above[j] for j in scene.positives if quality[j] < quality[i]}
        sorting = gap(scene.positives) - gap(better)
        value[i[0]] = ranking + sorting
        for error, culprits in ((ranking, false), (sorting, wrong)):
            if (total := sum(culprits.values())) > 0:
                update[i] -= error
                for place, share in culprits.items():
                    update[place] += error * share / total
    return value, update


@pytest.mark.parametrize("delta", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("bucketed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_rank_sort(seed: int, bucketed: bool, delta: float) -> None:
    scene = Scene(seed)
    loss = (BucketedRankSortLoss if bucketed else RankSortLoss)(delta)
    logits = scene.logits.clone().requires_grad_()
    value = loss(logits, scene.target, weight=scene.weight, quality=scene.quality)
    (update,) = torch.autograd.grad(value.sum(), logits)
    oracle_value, oracle_update = naive_rank_sort(scene, delta, bucketed)
    torch.testing.assert_close(value, oracle_value)
    torch.testing.assert_close(update, oracle_update)


@pytest.mark.parametrize("delta", [0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_alrp(seed: int, delta: float) -> None:
    scene = Scene(seed)
    value, update = torch.zeros(14, dtype=torch.float64), torch.zeros(14, 3, dtype=torch.float64)
    rank = torch.ones(14, dtype=torch.float64)
    for i in scene.positives:
        others = {j: ramp(scene.score(j) - scene.score(i), delta) for j in scene.positives if j != i}
        false = {n: ramp(scene.score(n) - scene.score(i), delta) for n in scene.negatives}
        total = sum(false.values())
        rank[i[0]] = 1 + sum(others.values()) + total
        value[i[0]] = total / rank[i[0]]
        error = (total + sum(h * scene.box_loss[j[0]] for j, h in others.items())) / rank[i[0]]
        if total > 0:
            update[i] -= error
            for place, share in false.items():
                update[place] += error * share / total

    loss = ALRPLoss(delta)
    logits = scene.logits.clone().requires_grad_()
    ours = loss(logits, scene.target, weight=scene.weight, box_loss=scene.box_loss)
    (gradient,) = torch.autograd.grad(ours.sum(), logits)
    torch.testing.assert_close(ours, value)
    torch.testing.assert_close(gradient, update)
    positive = [p[0] for p in scene.positives]
    torch.testing.assert_close(loss.ranks(logits, scene.target, weight=scene.weight)[positive], rank[positive])

    order = sorted(scene.positives, key=scene.score, reverse=True)  # stable: of equal scores the first
    cumulated, localization = 0.0, 0.0
    for i in order:
        cumulated += float(scene.box_loss[i[0]])
        localization += cumulated / float(rank[i[0]])
    factor = loss.box_factor(logits, scene.target, weight=scene.weight)
    assert (factor * scene.box_loss).sum().item() == pytest.approx(localization)
    assert (factor[[s for s in range(14) if s not in positive]] == 0).all()


@pytest.mark.parametrize("make", [RankSortLoss, BucketedRankSortLoss, ALRPLoss])
def test_nothing_to_rank_is_no_loss(make) -> None:
    loss = make()
    extra = {"quality": torch.ones(3), "box_loss": torch.ones(3)}
    for target in (torch.ones(3).long(), torch.zeros(3).long()):  # no positive; no negative
        logits = torch.tensor([[5.0], [5.0], [5.0]], requires_grad=True)
        value = loss(logits, target, **extra)
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert torch.equal(value, torch.zeros(3))
        assert torch.equal(gradient, torch.zeros(3, 1))


def test_the_box_loss_is_asked_for() -> None:
    with pytest.raises(ValueError, match="ALRPLoss needs box_loss"):
        ALRPLoss()(torch.zeros(1, 2), torch.zeros(1).long())
