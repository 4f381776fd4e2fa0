"""What is settled between arms, and which arms need further seeds: the rule of the adaptive sweep.

An arm is one method of a sweep. Both functions look at all scores so far and nothing else, so a sweep that was killed
goes on from its results alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.statistics.comparison import Comparison, Scores, compare, paired_differences
from harness.statistics.verdicts import ALPHA, BETTER, MARGIN, OPEN, SAME, WORSE, Decision, decide


@dataclass(frozen=True)
class Standing:
    """The state of a sweep's question."""

    verdicts: Mapping[str, str]  # arm -> better | worse | same within ±margin | open; `best` for the arm that leads
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
) -> Standing:
    """Every arm against its own baseline (``partners[arm]``): arms whose comparison is open need seeds.

    Arms that are ``left_out`` (failed ones) and those compared with them get no further seeds; what they have scored
    still counts as a comparison of the family. Arms without any score count from their first score on.
    """
    known = {name: partner for name, partner in partners.items() if name in scores and partner in scores}
    found = compare(scores, known, alpha=alpha, margin=margin, higher_is_better=higher_is_better)
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
) -> Standing:
    """A race of all arms against each other.

    An arm is ``worse``, and leaves the race, once it is worse than any other arm; Holm's correction goes over all
    pairs, so the probability that any arm is dropped for one that is not better is at most alpha, over all looks. Of
    those that remain, the one with the best mean over their shared seeds is ``best`` (so far). An arm that is the same
    as it within the margin is ``same within ±margin`` and gets no further seeds unless another arm takes the lead.
    """
    pairs = list(combinations(scores, 2))
    rows = [paired_differences(scores[first], scores[second])[1] for first, second in pairs]
    decisions = decide(rows, alpha=alpha, margin=margin, higher_is_better=higher_is_better)
    of = dict(zip(pairs, decisions, strict=True))
    verdicts = dict.fromkeys(scores, OPEN)
    for (first, second), decision in of.items():
        if decision.verdict in (BETTER, WORSE):
            verdicts[second if decision.verdict == BETTER else first] = WORSE
    racing = [name for name in scores if verdicts[name] != WORSE and name not in left_out]
    if not racing:
        return Standing(verdicts, ())
    leader = _leader(scores, racing, higher_is_better)
    verdicts[leader] = BEST
    for name in racing:
        if name != leader:
            verdicts[name] = SAME if _pair(of, name, leader).verdict == SAME else OPEN
    waiting = [name for name in racing if verdicts[name] == OPEN]
    return Standing(verdicts, (leader, *waiting) if waiting else ())


def _leader(scores: Scores, racing: list[str], higher_is_better: bool) -> str:
    shared = set.intersection(*(set(scores[name]) for name in racing))
    sign = 1 if higher_is_better else -1
    means = {name: np.mean([scores[name][s] for s in shared or scores[name]]) for name in racing}
    return max(racing, key=lambda name: sign * means[name])


def _pair(of: Mapping[tuple[str, str], Decision], one: str, other: str) -> Decision:
    return of[one, other] if (one, other) in of else of[other, one]
