"""Verdicts: right in words, with odd input, and the same for the library as for the report."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harness.statistics import (
    BETTER,
    OPEN,
    SAME,
    TESTS,
    WORSE,
    compare,
    decide,
    expected_further_seeds,
    fewest_pairs,
    holm,
    running_p,
    verdict_text,
)

UP = [0.031, 0.035, 0.028, 0.033, 0.030, 0.034]
NOISY = [0.01, -0.02, 0.03, -0.01, 0.02, -0.02]
TINY = [0.001, -0.001, 0.0005, 0.0, -0.0005, 0.001]


@pytest.mark.parametrize("test", ["anytime", "t"])
def test_the_four_words(test: str) -> None:
    found = decide([UP, np.negative(UP), TINY, NOISY], test=test)
    assert [one.verdict for one in found] == [BETTER, WORSE, SAME, OPEN]
    turned = decide([UP, np.negative(UP), TINY, NOISY], test=test, higher_is_better=False)
    assert [one.verdict for one in turned] == [WORSE, BETTER, SAME, OPEN]
    assert {one.level for one in found} == {1 - 0.05 / 4}
    assert verdict_text(SAME, 0.005) == "same within ±0.005"
    assert verdict_text(OPEN, 0.005) == "open"


def test_sign_flip_needs_six_pairs_for_one_comparison() -> None:
    assert [decide([UP[:n]], test="sign_flip")[0].verdict for n in (5, 6)] == [OPEN, BETTER]
    assert decide([TINY], test="sign_flip")[0].verdict == SAME
    # Two comparisons at 6 seeds: even the least p is .0625 after Holm's correction.
    assert [one.verdict for one in decide([UP, NOISY], test="sign_flip")] == [OPEN, OPEN]
    # A comparison too short to show anything takes no part in the correction of a fixed-sample test.
    assert [one.verdict for one in decide([UP, [0.1, 0.1]], test="sign_flip")] == [BETTER, OPEN]


def test_anytime_counts_every_comparison_from_the_start() -> None:
    alone = decide([UP[:4]])[0]
    assert alone.verdict == BETTER
    beside = decide([UP[:4], [], [0.1]])
    assert [one.verdict for one in beside] == [OPEN, OPEN, OPEN]
    assert beside[0].p_holm == pytest.approx(3 * beside[0].p)


def test_intervals_and_verdicts_agree() -> None:
    """An interval without 0 is better or worse, one within the margin same; Holm may settle a little earlier."""
    rng = np.random.default_rng(0)
    kinds = {BETTER: 0, WORSE: 0, SAME: 0, OPEN: 0}
    for _ in range(300):
        rows = [rng.normal(effect, 0.01, rng.integers(3, 20)) for effect in (0.0, 0.02, -0.015)]
        for one in decide(rows, margin=0.01):
            low, high = one.interval
            if low > 0:
                assert one.verdict == BETTER
            elif high < 0:
                assert one.verdict == WORSE
            elif low > -0.01 and high < 0.01:
                assert one.verdict == SAME
            kinds[one.verdict] += 1
    assert min(kinds.values()) > 20


def test_better_has_precedence_over_same() -> None:
    row = np.array([0.002, 0.0021, 0.0019, 0.002, 0.0022, 0.0018])
    (one,) = decide([row], margin=0.005)
    assert one.verdict == BETTER
    assert one.p_same < 0.05


@pytest.mark.parametrize("test", TESTS)
def test_no_one_and_equal_differences(test: str) -> None:
    empty, single, zero, equal = (decide([row], test=test)[0] for row in ([], [0.3], [0.0] * 6, [0.3] * 6))
    assert (empty.verdict, single.verdict, zero.verdict, equal.verdict) == (OPEN, OPEN, SAME, BETTER)
    assert zero.interval == (0.0, 0.0)
    assert decide([], test=test) == []


def test_early_and_late_seeds_that_contradict_each_other_settle_nothing() -> None:
    row = [0.100, 0.101, 0.0995, 0.1005, 0.100, *([-0.3, -0.31, -0.29] * 10)]
    (one,) = decide([row])
    assert one.contradictory
    assert one.verdict == OPEN
    assert one.interval[1] < 0


def test_comparison_with_a_baseline() -> None:
    rng = np.random.default_rng(0)
    base = {seed: 0.5 + 0.05 * rng.normal() for seed in range(8)}  # seeds differ more than methods
    good = {seed: value + 0.02 + 0.005 * rng.normal() for seed, value in base.items()}
    short = {2: 0.9, 11: 0.1}
    failed = good | {3: float("nan")}
    rows = compare({"random": base, "good": good, "short": short, "failed": failed}, "random")
    assert [row.name for row in rows] == ["good", "short", "failed"]
    row = rows[0]
    assert (row.baseline, row.n, row.verdict, row.test, row.margin) == ("random", 8, BETTER, "anytime", 0.005)
    assert str(row.further_seeds) == "0"
    assert row.mean_difference == pytest.approx(np.mean([good[s] - base[s] for s in base]))
    assert row.p == running_p([good[s] - base[s] for s in range(8)])[-1]
    np.testing.assert_allclose([one.p_holm for one in rows], holm([one.p for one in rows]))
    assert row.seeds == tuple(range(8))
    assert rows[2].n == 7
    assert 3 not in rows[2].seeds
    lonely = rows[1]
    assert (lonely.n, lonely.verdict, lonely.further_seeds, lonely.p) == (1, OPEN, None, 1.0)
    for comparison in rows:
        assert json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["name"] == comparison.name


def test_the_order_is_that_of_the_seed_numbers_and_a_missing_seed_is_skipped() -> None:
    values = dict(enumerate([0.2, 0.01, 0.02, 0.015, 0.012, 0.017, 0.011]))
    zeros = dict.fromkeys(values, 0.0)

    def p_of(seeds: list[int]) -> float:
        return compare({"a": zeros, "b": {seed: values[seed] for seed in seeds}}, "a")[0].p

    assert p_of([5, 3, 6, 1, 0, 2, 4]) == p_of([0, 1, 2, 3, 4, 5, 6])  # not who finished first
    assert p_of([0, 1, 3, 4]) == running_p([values[seed] for seed in (0, 1, 3, 4)])[-1]
    (mixed,) = compare({"a": {"x": 0.0, 10: 0.0, 9: 0.0}, "b": {"x": 0.3, 10: 0.1, 9: 0.2}}, "a")
    assert mixed.seeds == (9, 10, "x")


def test_a_baseline_of_its_own_for_each_method() -> None:
    scores = {name: {s: level + UP[s] for s in range(6)} for name, level in (("a", 0.1), ("b", 0.2), ("c", 0.3))}
    scores |= {"d": dict.fromkeys(range(6), 0.1)}
    rows = compare(scores, {"b": "a", "c": "d"})
    assert [(row.name, row.baseline) for row in rows] == [("b", "a"), ("c", "d")]
    assert rows[1].mean_difference == pytest.approx(0.2 + np.mean(UP))
    assert rows[0].level == 1 - 0.05 / 2


def test_further_seeds() -> None:
    """A clear effect needs fewer than a faint one, a range holds its median, and a plan is repeatable."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=6)
    z = (z - z.mean()) / z.std(ddof=1)
    clear, faint = (expected_further_seeds(0.01 * (effect + z), 0.05, 0.0001) for effect in (1.5, 0.4))
    assert clear is not None
    assert faint is not None
    assert clear.median is not None
    assert clear.low <= clear.median  # type: ignore[operator]
    assert faint.median is None or faint.median > clear.median
    assert expected_further_seeds(0.01 * (1.5 + z), 0.05, 0.0001) == clear
    assert expected_further_seeds([0.1, 0.2], 0.05, 0.01) is None
    assert "more than 2" in str(expected_further_seeds(0.01 * (0.3 + z), 0.05, 0.0001, limit=2))
    assert str(expected_further_seeds([0.0] * 3, 0.05, 0.01)) == "1 (1 to 1)"  # equal so far, so equal hereafter


def test_what_is_open_needs_a_further_seed_beside_one_that_is_the_same() -> None:
    """A comparison that is settled as the same still counts in the correction of those that may differ."""
    zero = dict.fromkeys(range(100, 106), 0.0)
    scores = {
        "random": zero,
        "repeat_factor": dict(zip(zero, (-0.00206, 0.00089, 0.00018, 0.00044, -0.00099), strict=False)),
        "seesaw": dict(zip(zero, (-0.01706, -0.00744, -0.00587, -0.0049, -0.00602, 0.00822), strict=True)),
        "eqlv2": dict(zip(zero, (-0.02427, -0.02028, -0.01929, -0.00981, -0.02193, 0.00047), strict=True)),
    }
    found = {row.name: row for row in compare(scores, "random")}
    assert found["repeat_factor"].verdict.startswith("same")
    assert found["eqlv2"].verdict == OPEN
    assert 0.05 < found["eqlv2"].p_holm < 0.075, "settled if two comparisons counted instead of three"
    assert found["eqlv2"].further_seeds is not None
    assert found["eqlv2"].further_seeds.low >= 1  # type: ignore[operator]


def test_the_range_of_further_seeds_holds_what_happens() -> None:
    """True effects drawn from N(0, 3) standard deviations: 80 % ranges after 4 seeds hold the truth in about 80 %."""
    rng = np.random.default_rng(5)
    inside, asked = 0, 0
    for _ in range(400):
        d = rng.normal(np.sqrt(3) * rng.normal(), 1, 4 + 60)
        needed = int((running_p(d) > 0.05).sum()) - 4 + 1
        if needed <= 0:
            continue
        found = expected_further_seeds(d[:4], 0.05, 0.0, limit=60)
        assert found is not None
        asked += 1
        inside += (found.low or 61) <= min(needed, 61) <= (found.high or 61)
    assert asked > 150
    assert 0.7 < inside / asked < 0.95


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"baseline 'ohem' is not among the methods \(a\)"):
        compare({"a": {0: 0.1}}, "ohem")
    with pytest.raises(ValueError, match=r"method 'b' has a baseline but no scores \(a\)"):
        compare({"a": {0: 0.1}}, {"b": "a"})
    with pytest.raises(ValueError, match="test must be one of anytime, t, sign_flip, got 'wilcoxon'"):
        decide([[0.1]], test="wilcoxon")
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\), got 5"):
        decide([[0.1]], alpha=5)
    with pytest.raises(ValueError, match="margin must be a finite number >= 0, got -1"):
        decide([[0.1]], margin=-1)
    with pytest.raises(ValueError, match="one row of finite numbers"):
        decide([[float("nan")]])


def test_fewest_pairs() -> None:
    assert [fewest_pairs(k) for k in (1, 4, 12)] == [4, 5, 5]
    assert [fewest_pairs(k, "sign_flip") for k in (1, 2)] == [6, 7]
    assert fewest_pairs(5, "t") == 3
