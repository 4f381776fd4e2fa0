"""What is settled between arms, and which arms need further seeds: the rule of the adaptive sweep.

An arm is one method of a sweep. Both functions look at all scores so far and nothing else, so a sweep that was killed
goes on from its results alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from harness.statistics.comparison import (
    Comparison,
    Scores,
    compare,
    comparison_of,
    levels_of_open,
    mean_of,
    paired_differences,
    unlearned,
)
from harness.statistics.learned import NOTHING_LEARNED, nothing_learned
from harness.statistics.verdicts import ALPHA, BETTER, MARGIN, OPEN, SAME, WORSE, Decision, decide


@dataclass(frozen=True)
class Standing:
    """The state of a sweep's question."""

    verdicts: Mapping[str, str]  # arm -> as of a Comparison; `best` for the arm that leads a race
    need_seeds: tuple[str, ...]  # arms with an open comparison and the arms that they are compared with
    comparisons: tuple[Comparison, ...] = ()  # goal=baseline only


BEST = "best"


def against_baseline(
    scores: Scores,
    partners: Mapping[str, str],
    *,
    alpha: float = ALPHA,
    margin: float = MARGIN,
    higher_is_better: bool = True,
    left_out: Collection[str] = (),
    least_learned: float | None = None,
) -> Standing:
    """Every arm against its own baseline (``partners[arm]``): arms whose comparison is open need seeds.

    Arms that are ``left_out`` (failed ones) and those compared with them get no further seeds; what they have scored
    still counts as a comparison of the family. Arms without any score count from their first score on. An arm that
    learned nothing, as its baseline, gets no further seeds: they would learn nothing, too.
    """
    known = {name: partner for name, partner in partners.items() if name in scores and partner in scores}
    found = compare(
        scores, known, alpha=alpha, margin=margin, higher_is_better=higher_is_better, least_learned=least_learned
    )
    need: dict[str, None] = {}
    for one in found:
        if one.verdict == OPEN and one.name not in left_out and one.baseline not in left_out:
            need |= {one.baseline: None, one.name: None}
    return Standing({one.name: one.verdict for one in found}, tuple(need), tuple(found))


def best_of(
    scores: Scores,
    *,
    alpha: float = ALPHA,
    margin: float = MARGIN,
    higher_is_better: bool = True,
    left_out: Collection[str] = (),
    least_learned: float | None = None,
) -> Standing:
    """A race of all arms against each other.

    An arm is ``worse``, and leaves the race, once it is worse than any other arm; Holm's correction goes over all
    pairs, so the probability that any arm is dropped for one that is not better is at most alpha, over all looks. Of
    those that remain, the one with the best mean over their shared seeds is ``best`` (so far). An arm that is the same
    as it within the margin is ``same within ±margin`` and gets no further seeds unless another arm takes the lead.
    Where every mean is below ``least_learned``, all arms are ``nothing learned`` and the race ends.
    """
    if nothing_learned(map(mean_of, scores.values()), least_learned):
        return Standing(dict.fromkeys(scores, NOTHING_LEARNED), ())
    decisions, verdicts = _race(scores, alpha, margin, "anytime", higher_is_better)
    racing = [name for name in scores if verdicts[name] != WORSE and name not in left_out]
    if not racing:
        return Standing(verdicts, ())
    leader = _leader(scores, racing, higher_is_better)
    verdicts[leader] = BEST
    for name in racing:
        if name != leader:
            verdicts[name] = SAME if decisions[name, leader].verdict == SAME else OPEN
    waiting = [name for name in racing if verdicts[name] == OPEN]
    return Standing(verdicts, (leader, *waiting) if waiting else ())


def compared_with_best(
    scores: Scores,
    *,
    alpha: float = ALPHA,
    margin: float = MARGIN,
    test: str = "anytime",
    higher_is_better: bool = True,
    least_learned: float | None = None,
) -> list[Comparison]:
    """The race of :func:`best_of` in numbers: every arm but the leader, against the leader or against an arm that it is
    worse than.

    ``p_holm`` and the intervals are corrected for all pairs of arms. Where every arm is worse than some other (which
    needs contradictory pairings), there is no leader and the list is empty.
    """
    decisions, verdicts = _race(scores, alpha, margin, test, higher_is_better)
    racing = [name for name in scores if verdicts[name] != WORSE]
    if not racing:
        return []
    leader = _leader(scores, racing, higher_is_better)
    levels = levels_of_open([decisions[pair] for pair in combinations(scores, 2)], alpha)
    found = []
    for name in scores:
        if name != leader:
            beaten_by = [one for one in (leader, *scores) if one != name and decisions[name, one].verdict == WORSE]
            partner = next(iter(beaten_by), leader)
            seeds, row = paired_differences(scores[name], scores[partner])
            one = comparison_of(name, partner, seeds, row, decisions[name, partner], test, margin, levels)
            found.append(unlearned(one, scores, least_learned))
    return found


def _race(
    scores: Scores, alpha: float, margin: float, test: str, higher_is_better: bool
) -> tuple[dict[tuple[str, str], Decision], dict[str, str]]:
    """All ordered pairs of arms with the decision on first minus second, and ``worse`` or ``open`` for every arm."""
    pairs = list(combinations(scores, 2))
    rows = [paired_differences(scores[first], scores[second])[1] for first, second in pairs]
    found = decide(rows, alpha=alpha, margin=margin, test=test, higher_is_better=higher_is_better)
    decisions = dict(zip(pairs, found, strict=True))
    decisions |= {(second, first): _mirrored(decision) for (first, second), decision in decisions.items()}
    lost = {name for (name, _), decision in decisions.items() if decision.verdict == WORSE}
    return decisions, {name: WORSE if name in lost else OPEN for name in scores}


def _mirrored(decision: Decision) -> Decision:
    """The decision on second minus first."""
    low, high = decision.interval
    verdict = {BETTER: WORSE, WORSE: BETTER}.get(decision.verdict, decision.verdict)
    return replace(decision, interval=(-high, -low), verdict=verdict)


def _leader(scores: Scores, racing: list[str], higher_is_better: bool) -> str:
    shared = set.intersection(*(set(scores[name]) for name in racing))
    sign = 1 if higher_is_better else -1
    means = {name: np.mean([scores[name][s] for s in shared or scores[name]]) for name in racing}
    return max(racing, key=lambda name: sign * means[name])
