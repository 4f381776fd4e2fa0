"""What OHEM's effect is made of, and what several data sets say together, in sentences."""

from __future__ import annotations

import math

from harness.report.across import Across, AcrossRow
from harness.report.decomposition import Decomposition, Part
from harness.report.words import interval_text, listed, shares_text, signed

ACROSS_NOTE = (
    "Methods are matched by their names. Gained: the interquartile mean of the differences between paired seeds of all "
    "data sets. P(improvement): the probability that a random run of the method beats a random run of the baseline, "
    "mean over data sets (Agarwal et al. 2021). Intervals: bootstrap over seeds within each data set; with 3 to 5 "
    "seeds they are too narrow, and they are not corrected for the number of methods. These numbers describe; the "
    "verdicts are those of each data set. Nothing is said about other data sets."
)


def decomposition_text(found: Decomposition) -> list[str]:
    """OHEM's effect taken apart, in sentences."""
    out = []
    parts = {part.name: part for part in found.parts}
    if "hardness" in parts:
        whole, hard, share = parts["all of it"], parts["hardness"], parts["share of positives"]
        out.append(f"Effect of {found.ohem}: {_part(whole)}.")
        out.append(
            f"Of this, hardness (the same numbers of positives and negatives, hard ones instead of random ones; "
            f"{hard.arms}) is {_part(hard)}; the changed share of positives ({share.arms}) is {_part(share)}."
        )
        out.append(_reading(found.ohem, whole, hard, share))
    alone = [part for part in found.parts if part.name == "more positives alone"]
    beyond = [part for part in found.parts if part.name == "beyond more positives"]
    out += [
        f"More positives without any mining ({first.arms}): {_part(first)}; what {found.ohem} adds to that "
        f"({second.arms}): {_part(second)}."
        for first, second in zip(alone, beyond, strict=True)
    ]
    if found.missing:
        verb = "is" if len(found.missing) == 1 else "are"
        out.append(
            f"To tell hardness from the share of positives in {found.ohem}, {listed(found.missing)} {verb} missing."
        )
    return out


def across_text(found: Across) -> list[str]:
    """What all data sets together say of each method, in a sentence."""
    return [_across_sentence(row, found) for row in found.rows[:8]]


def _across_sentence(row: AcrossRow, found: Across) -> str:
    sets = len(row.differences)
    on = f"ahead on {row.ahead} of {sets} data sets"
    low, high = row.probability_interval
    if math.isnan(low):
        sure = "with fewer than 3 seeds on some data set there is no interval"
    elif low > 0.5 or high < 0.5:
        sure = f"the interval lies {'above' if low > 0.5 else 'below'} one half"
    else:
        sure = "the interval holds one half, which is no difference"
    interval = "" if math.isnan(low) else f" {shares_text((low, high))}"
    gained = f"{found.metric.name} {signed(row.gain)} in the interquartile mean"
    return (
        f"{row.label} against {row.baseline}: {gained}, {on}; one of its runs beats one of the "
        f"baseline's with probability {row.probability:.2f}{interval}: {sure}."
    )


def _part(part: Part) -> str:
    if part.n == 0:
        return "unknown (no shared seed)"
    if part.n == 1:
        return f"{signed(part.mean)} (1 seed, no interval)"
    said = "" if part.n >= 3 else ", too few seeds to say more"
    zero = "" if part.excludes_zero or said else ", which does not exclude 0"
    return f"{signed(part.mean)} {interval_text(part.interval)} ({part.n} seeds{said}{zero})"


def _reading(ohem: str, whole: Part, hard: Part, share: Part) -> str:
    if whole.n < 3:
        return "With fewer than 3 seeds in all three arms this is a hint at most."
    shown = [name for name, part in (("hardness", hard), ("the share of positives", share)) if part.shown]
    tested = "by the test of the verdicts, among all comparisons made here"
    if len(shown) == 2:
        same = (hard.mean > 0) == (share.mean > 0)
        return (
            f"Both parts are shown to be there, {'in the same direction' if same else 'against each other'}, {tested}."
        )
    if shown:
        other = "the share of positives" if shown[0] == "hardness" else "hardness"
        return f"Only {shown[0]} is shown to change anything; an effect of {other} is not ({tested})."
    return f"Neither part alone is shown to differ from 0 {tested}, so nothing of {ohem} can be credited to either."
