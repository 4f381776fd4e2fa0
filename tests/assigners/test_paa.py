"""PAAAssigner against a mixture fitted object by object in plain python."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture

from harness.assigners.building_blocks.gaussian_mixture import COVARIANCE_TYPES, fit_mixture
from harness.assigners.paa import PAAAssigner
from harness.core.structures import NEGATIVE, CandidateLosses, Candidates, GroundTruth
from tests.assigners.scenes import one_object, points, scene, scenes

EPS = 10 * 2.220446049250313e-16


def log_density(x: float, weight: float, mean: float, variance: float) -> float:
    return math.log(weight) - 0.5 * (math.log(2 * math.pi * variance) + (x - mean) ** 2 / variance)


def both(x: float, components: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Log density of each component, and of their sum."""
    first, second = (log_density(x, *component) for component in components)
    high = max(first, second)
    return first, second, high + math.log(math.exp(first - high) + math.exp(second - high))


def fit(values: list[float], tied: bool, tol: float, max_iter: int) -> list[tuple[float, float, float]]:
    """Expectation maximisation as in any textbook, from the lowest and the highest value."""
    components, previous = [(0.5, min(values), 1.0), (0.5, max(values), 1.0)], -math.inf
    for _ in range(max_iter):
        joints = [both(x, components) for x in values]
        shares = [[math.exp(joint[c] - joint[2]) for joint in joints] for c in range(2)]
        mass = [sum(share) + EPS for share in shares]
        means = [sum(s * x for s, x in zip(shares[c], values, strict=True)) / mass[c] for c in range(2)]
        squares = [sum(s * x * x for s, x in zip(shares[c], values, strict=True)) for c in range(2)]
        if tied:
            pooled = (sum(squares) - sum(mass[c] * means[c] ** 2 for c in range(2))) / sum(mass)
            variances = [pooled, pooled]
        else:
            variances = [squares[c] / mass[c] - means[c] ** 2 for c in range(2)]
        components = [(mass[c] / sum(mass), means[c], max(variances[c], 0) + 1e-6) for c in range(2)]
        likelihood = sum(joint[2] for joint in joints) / len(values)
        if abs(likelihood - previous) < tol:
            break
        previous = likelihood
    return components


def positives(values: list[float], covariance_type: str = "diag") -> list[int]:
    """Which of the ascending values are positive: the first component's, up to its most likely one."""
    components = fit(values, covariance_type == "tied", 1e-3, 100)
    joints = [both(x, components) for x in values]
    likely = [i for i, joint in enumerate(joints) if joint[0] >= joint[1]]
    if not likely:
        return []
    last = max(likely, key=lambda i: (joints[i][2], -i))
    # Two samples lie equally far from the mean of a component that holds them alone: rounding says which is likelier.
    assume(all(i == last or joints[last][2] - joints[i][2] > 1e-6 for i in likely))
    return [i for i in likely if i <= last]


def oracle(
    candidates: Candidates, proposed: list[int], losses: list[float], topk: int, covariance_type: str
) -> list[int]:
    answer = [g if g < 0 else NEGATIVE for g in proposed]
    for g in {g for g in proposed if g >= 0}:
        chosen = []
        for level in range(candidates.num_levels):
            own = [n for n, owner in enumerate(proposed) if owner == g and int(candidates.level[n]) == level]
            chosen += sorted(own, key=lambda n: (losses[n], n))[:topk]
        chosen = sorted(chosen, key=lambda n: losses[n])
        if len(chosen) >= 2:
            for i in positives([losses[n] for n in chosen], covariance_type):
                answer[chosen[i]] = g
    return answer


@given(
    scenes(anchors=True),
    st.integers(0, 2**31),
    st.sampled_from((1, 2, 9, 500)),
    st.sampled_from(COVARIANCE_TYPES),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_oracle(drawn: tuple[GroundTruth, Candidates], seed: int, topk: int, covariance_type: str) -> None:
    truth, candidates = drawn
    assigner = PAAAssigner(topk, covariance_type=covariance_type)
    proposed = assigner(truth, candidates)
    random = torch.Generator().manual_seed(seed)
    classification = torch.rand(candidates.valid.shape, generator=random) ** 2 * 3
    regression = torch.rand(candidates.valid.shape, generator=random)
    found = assigner.refine(truth, candidates, proposed, CandidateLosses(classification, regression))
    losses = (classification + regression).tolist()
    assert found.gt_index.tolist() == oracle(candidates, proposed.gt_index.tolist(), losses, topk, covariance_type)
    assert torch.equal(found.max_iou, proposed.max_iou)


@pytest.mark.parametrize(("side", "level"), [(64, 0), (128, 1), (256, 2)])
def test_a_point_is_proposed_as_a_square_of_eight_strides(side: int, level: int) -> None:
    candidates = points(256)
    found = PAAAssigner(pos_iou_thr=0.7)(one_object(128, 128, side, side), candidates)
    assert candidates.level[found.positive].unique().tolist() == [level]


def test_a_loss_that_is_not_finite_leaves_the_mixture() -> None:
    truth, candidates = scene(2, anchors=True)
    assigner = PAAAssigner()
    proposed = assigner(truth, candidates)
    loss = torch.rand(candidates.valid.shape, generator=torch.Generator().manual_seed(0))
    broken = proposed.positive & (torch.arange(len(loss)) % 3 == 0)
    outside = replace(proposed, gt_index=torch.where(broken, NEGATIVE, proposed.gt_index))
    expected = assigner.refine(truth, candidates, outside, CandidateLosses(loss, torch.zeros_like(loss)))
    for value in (torch.nan, torch.inf):
        bad = torch.where(broken, value, loss)
        found = assigner.refine(truth, candidates, proposed, CandidateLosses(bad, torch.zeros_like(loss)))
        assert broken.any()
        assert torch.equal(found.gt_index, expected.gt_index)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_the_mixture_is_scikit_learns(covariance_type: str) -> None:
    shape = {"full": (2, 1, 1), "diag": (2, 1), "spherical": (2,), "tied": (1, 1)}[covariance_type]
    random = torch.Generator().manual_seed(1)
    for count in (2, 5, 20, 45):
        low = 1 + 0.3 * torch.rand(count // 2 + 1, generator=random, dtype=torch.float64)
        high = 2 + torch.rand(count - count // 2 - 1, generator=random, dtype=torch.float64)
        values = torch.cat((low, high)).sort().values
        column = values.numpy().reshape(-1, 1)
        theirs = GaussianMixture(
            2,
            weights_init=[0.5, 0.5],
            means_init=[[column.min()], [column.max()]],
            precisions_init=torch.ones(shape).numpy(),
            covariance_type=covariance_type,
        ).fit(column)
        ours = fit_mixture(
            torch.cat((values, torch.full((4,), torch.inf))),
            torch.arange(count + 4) < count,
            covariance_type=covariance_type,
            tol=1e-3,
            reg_covar=1e-6,
            max_iter=100,
        )
        expected = torch.from_numpy(theirs.score_samples(column))
        torch.testing.assert_close(ours.log_likelihood[:count], expected, rtol=1e-6, atol=1e-6)
        assert ours.first[:count].tolist() == (theirs.predict(column) == 0).tolist()


def test_a_row_does_not_depend_on_the_others() -> None:
    values = torch.rand(6, 20, generator=torch.Generator().manual_seed(3)) * 4
    mask = torch.rand(6, 20, generator=torch.Generator().manual_seed(4)) < 0.7
    settings_ = {"covariance_type": "diag", "tol": 1e-3, "reg_covar": 1e-6, "max_iter": 100}
    together = fit_mixture(values, mask, **settings_)
    for row in range(6):
        alone = fit_mixture(values[row], mask[row], **settings_)
        torch.testing.assert_close(together.log_likelihood[row], alone.log_likelihood, rtol=1e-9, atol=1e-9)
        assert torch.equal(together.first[row], alone.first)


def test_needs_levels() -> None:
    truth, candidates = scene(0)
    assigner = PAAAssigner()
    losses = CandidateLosses(torch.zeros(candidates.valid.shape), torch.zeros(candidates.valid.shape))
    with pytest.raises(ValueError, match="levels"):
        assigner.refine(truth, replace(candidates, level=None), assigner(truth, candidates), losses)


@pytest.mark.parametrize(
    "wrong",
    [
        {"topk": 0},
        {"pos_iou_thr": 2},
        {"min_pos_iou": -1},
        {"covariance_type": "round"},
        {"tol": -1},
        {"reg_covar": 0},
        {"max_iter": 0},
        {"point_scale": 0},
        {"memory_bound": 0},
    ],
)
def test_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PAAAssigner(**wrong)
