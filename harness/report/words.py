"""The question and its answer in sentences. Every number in them stands in the main table as well."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.report.across import Across, AcrossRow
from harness.report.comparison import NOTHING, Row, Section
from harness.report.decomposition import Decomposition, Part
from harness.report.image_noise import LABEL, ImageNoise
from harness.statistics import BETTER, OPEN, SAME, WORSE, Comparison, FurtherSeeds, fewest_pairs, verdict_text

ACROSS_NOTE = (
    "Methods are matched by their names. Gained: the interquartile mean of the differences between paired seeds of all "
    "data sets. P(improvement): the probability that a random run of the method beats a random run of the baseline, "
    "mean over data sets (Agarwal et al. 2021). Intervals: bootstrap over seeds within each data set; with 3 to 5 "
    "seeds they are too narrow, and they are not corrected for the number of methods. These numbers describe; the "
    "verdicts are those of each data set. Nothing is said about other data sets."
)
TESTS = {"anytime": "anytime-valid t-test", "t": "paired t-test", "sign_flip": "sign-flip test"}
_ASSUMES = {
    "anytime": "It is valid after every seed: seeds may be added until the verdicts settle. It takes the differences "
    "between paired seeds to be normally distributed and needs at least {needed} of them",
    "t": "It is valid for one look at a number of seeds that was fixed beforehand. It takes the differences between "
    "paired seeds to be normally distributed and needs at least {needed} of them",
    "sign_flip": "It is valid for one look at a number of seeds that was fixed beforehand. It assumes nothing about "
    "the noise and needs at least {needed} paired seeds",
}


def question(section: Section) -> str:
    """What is asked in the section's context."""
    name = section.metric.name
    others = [row.label for row in section.rows if row.label not in section.baselines]
    if not others:
        return f"How good is {listed(section.baselines)} in {name}?"
    if section.racing:
        named = listed([row.label for row in section.rows]) if len(others) < 4 else f"{len(section.rows)} methods"
        return f"Which of {named} is best in {name}, and is that settled?"
    what = listed(others) if len(others) <= 4 else f"any of {len(others)} methods"
    verb = "Do" if 1 < len(others) <= 4 else "Does"
    return f"{verb} {what} change {name} against {baselines_text(section)}, and is the difference real?"


def baselines_text(section: Section) -> str:
    """The baselines by name, or their number where they are many."""
    if len(section.baselines) <= 3:
        return listed(section.baselines)
    return f"{len(section.baselines)} baselines, each the one with the same other settings"


def answer(section: Section) -> list[str]:
    """One sentence a comparison, grouped by verdict where there are many."""
    if section.nothing_learned:
        return [
            f"Nothing was learned: the mean {section.metric.name} of every method is below {NOTHING:g}, so there is "
            "nothing to compare. Train longer (run.iterations), or look at the losses and the data."
        ]
    compared = [row for row in section.rows if row.comparison is not None]
    if not compared:
        if len(section.rows) > 1 and not section.baselines:
            return ["None of these methods is the baseline asked for, so nothing is compared here."]
        return [f"{row.label}: {value_text(row)}. There is nothing to compare it with." for row in section.rows[:1]]
    out = [_leader_text(section)] if section.racing and section.baselines else []
    if len(compared) <= 8:
        return [*out, *(sentence(row, section) for row in compared)]
    for verdict in (BETTER, WORSE, SAME, OPEN):
        names = [row.label for row in compared if row.comparison and row.comparison.verdict == verdict]
        if names:
            shown = listed(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            out.append(f"{verdict_text(verdict, section.rules.margin).capitalize()} ({len(names)}): {shown}.")
    return out


def _leader_text(section: Section) -> str:
    """Whether the method with the best mean is shown to be the best, or only leads."""
    (leader,) = section.baselines
    own = value_text(section.row(leader))
    verdicts = [row.comparison.verdict for row in section.rows if row.comparison is not None]
    if OPEN in verdicts:
        return f"{leader} leads ({own}), which is not settled."
    same = " or the same within the margin" if SAME in verdicts else ""
    return f"{leader} is best ({own}): every other method is worse{same}."


def sentence(row: Row, section: Section) -> str:
    """What one comparison says."""
    one = row.comparison
    assert one is not None
    if one.n == 0:
        return f"{row.label}: shares no seed with {one.baseline}, so it is not compared."
    if section.metric.is_accuracy and row.mean < NOTHING:
        return (
            f"{row.label} learned nothing: its mean {section.metric.name} is 0.000 ({counted(one.n, 'paired seed')})."
        )
    found = signed(one.mean_difference)
    if math.isfinite(one.interval[1]):
        found += f", {100 * one.level:.4g} % interval {interval_text(one.interval)}"
    tail = {
        BETTER: f"is better than {one.baseline}",
        WORSE: f"is worse than {one.baseline}",
        SAME: f"is the same as {one.baseline} within ±{one.margin:g}",
        OPEN: f"is not settled against {one.baseline}",
    }[one.verdict]
    return f"{row.label} {tail} ({found}; {counted(one.n, 'paired seed')}).{_why_open(one, section.rules.alpha)}"


def _why_open(one: Comparison, alpha: float) -> str:
    """What an open verdict waits for."""
    if one.verdict != OPEN:
        return ""
    if one.contradictory:
        return " Its first and its later seeds contradict each other: the differences are far from normal."
    if one.test != "anytime":
        needed = fewest_pairs(1, one.test, alpha)
        if one.n < needed:
            return f" At least {needed} paired seeds are needed."
        return " Significant alone, not after Holm's correction." if one.p <= alpha < one.p_holm else ""
    if one.further_seeds is None:
        return " From 3 paired seeds on, the number of further seeds can be estimated."
    if one.further_seeds.median is None:
        return f" Expected to need more than {one.further_seeds.limit} further seeds."
    return f" Expected to settle after {one.further_seeds} further seeds."


def method_text(section: Section) -> str:
    """What is compared with what, by which test at which alpha, and what the test assumes."""
    rules, over = section.rules, section.comparisons
    needed = fewest_pairs(max(over, 1), rules.test, rules.alpha)
    if section.racing:
        what = (
            "All methods are compared with each other; shown is the one that leads, or one that a method is worse than"
        )
    else:
        chosen = (
            "as asked"
            if rules.baseline_asked
            else "as in the sweep"
            if rules.baseline
            else "chosen because none was named"
        )
        what = f"Baseline: {baselines_text(section)} ({chosen})"
    told = (
        f"{what}. Differences are paired by seed. Verdicts rest on the {TESTS[rules.test]} at alpha = {rules.alpha:g}, "
        f"corrected for {counted(over, 'comparison')} (Holm). {_ASSUMES[rules.test].format(needed=needed)}. "
        f"The intervals hold for all comparisons together with probability {1 - rules.alpha:.4g}."
    )
    told += f" Differences within ±{rules.margin:g} count as the same." if rules.margin else ""
    return f"{told} Alpha, margin and goal: {rules.source}."


def noise_text(noise: ImageNoise) -> list[str]:
    """What the bootstrap over images says of single pairs."""
    return [
        f"{name}, one seed: {signed(found.difference)} {interval_text(found.interval)} by {found.resamples} resamples "
        f"of {found.num_images} test images. This is {LABEL}."
        for name, found in noise.found.items()
    ]


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


def value_text(row: Row) -> str:
    """Mean and spread."""
    if math.isnan(row.mean):
        return "no value"
    return number(row.mean) + (f" ± {number(row.sd)}" if not math.isnan(row.sd) else "")


def number(value: float) -> str:
    """A metric: three decimals for fractions, three digits for larger numbers."""
    if math.isnan(value):
        return "—"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"


def signed(value: float) -> str:
    """A difference, with its sign and a true minus."""
    if math.isnan(value):
        return "—"
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    text = f"{value:+.4f}" if abs(value) < 10 else f"{value:+,.1f}"
    return text.replace("-", "−")


def further_text(expected: FurtherSeeds | None) -> str:
    """Median and 80 % range of the expected further seeds, or a dash."""
    if expected is None:
        return "—"
    if expected.high == 0:
        return "0"
    median, low, high = (
        f">{expected.limit}" if n is None else str(n) for n in (expected.median, expected.low, expected.high)
    )
    return f"{median} ({low} to {high})"


def interval_text(interval: tuple[float, float]) -> str:
    """[low, high], a dash without any, or ``unbounded`` while there are too few seeds."""
    if any(map(math.isnan, interval)):
        return "—"
    return "unbounded" if all(map(math.isinf, interval)) else f"[{signed(interval[0])}, {signed(interval[1])}]"


def shares_text(interval: tuple[float, float]) -> str:
    """[low, high] of probabilities, or a dash."""
    return "—" if any(map(math.isnan, interval)) else f"[{interval[0]:.2f}, {interval[1]:.2f}]"


def p_text(p: float) -> str:
    """Three decimals."""
    if math.isnan(p):
        return "—"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"


def counted(count: int, noun: str) -> str:
    """A number and its noun: 1 run, 2 runs."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
