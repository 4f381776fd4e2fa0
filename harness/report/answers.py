"""The question of one context and its answer in sentences. Every number in them stands in the main table as well."""

from __future__ import annotations

import math

from harness.report.comparison import Row, Section
from harness.report.image_noise import LABEL, ImageNoise
from harness.report.words import counted, interval_text, listed, signed, value_text
from harness.statistics import BETTER, NOTHING_LEARNED, OPEN, SAME, WORSE, Comparison, fewest_pairs, verdict_text
from harness.statistics.learned import SHOWN_AS_ZERO

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
    least = section.least_learned
    if least is not None and section.nothing_learned:
        return [
            f"Nothing was learned: the mean {section.metric.name} of every method is below {least:g}, "
            "so there is nothing to compare. Train longer (run.iterations), or look at the losses and the data."
        ]
    compared = [row for row in section.rows if row.comparison is not None]
    if not compared:
        if len(section.rows) > 1 and not section.baselines:
            return ["None of these methods is the baseline asked for, so nothing is compared here."]
        return [f"{row.label}: {value_text(row)}. There is nothing to compare it with." for row in section.rows[:1]]
    out = [_leader_text(section)] if section.racing and section.baselines else []
    if len(compared) <= 8:
        return [*out, *(sentence(row, section) for row in compared)]
    for verdict in (BETTER, WORSE, SAME, OPEN, NOTHING_LEARNED):
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
    if section.metric.is_accuracy and row.mean < SHOWN_AS_ZERO:
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
        NOTHING_LEARNED: f"learned nothing, like {one.baseline}",
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
