"""The tables of ``docs/statistics.md``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.statistics import verdicts
from harness.statistics.comparison import compare
from harness.statistics.evidence import log_evidence, running_p_outside
from harness.statistics.simulation.designs import (
    BETTER,
    SAME,
    WORSE,
    Array,
    Outcome,
    adaptive,
    fixed,
    looked_at_again,
    race,
)
from harness.statistics.simulation.scores import NOISES, draw_scores

MARGIN = 0.25  # in standard deviations of a difference: 0.005 where these are 0.02
WIDE = 1.0  # a margin within which 30 seeds can show that methods are the same
MOST_SEEDS = 30
POWER = 0.9
BLOCK = 250  # repetitions at once, which bounds the memory
Rows = list[list[str]]


def blocks(
    repetitions: int, effects: Sequence[float], seeds: int, noise: str = "normal", seed: int = 0
) -> Iterator[Array]:
    """Scores of all repetitions, some at a time."""
    rng = np.random.default_rng([seed, len(effects), seeds])
    for start in range(0, repetitions, BLOCK):
        yield draw_scores(rng, min(BLOCK, repetitions - start), effects, seeds, noise)


def false_verdicts(outcome: Outcome, effects: Sequence[float], margin: float) -> tuple[Array, Array]:
    """For each repetition: any false better or worse, and any false same."""
    truth = np.array(effects)
    direction = np.isin(outcome.verdicts, (BETTER, WORSE)) & (outcome.verdicts != np.sign(truth))
    same = (outcome.verdicts == SAME) & (np.abs(truth) > margin)
    return direction.any(1).astype(float), same.any(1).astype(float)


def truths(arms: int) -> dict[str, tuple[list[float], float]]:
    """True differences and the margin, in standard deviations of a difference."""
    half = arms // 2
    return {
        "no difference": ([0.0] * arms, MARGIN),
        f"{1.05 * WIDE:g} sd, margin {WIDE:g} sd": ([1.05 * WIDE] * arms, WIDE),
        **({"half of the arms 1 sd": ([0.0] * (arms - half) + [1.0] * half, MARGIN)} if half else {}),
    }


def false_rates(repetitions: int, effects: Sequence[float], margin: float, noise: str) -> tuple[float, float]:
    """Shares of adaptive sweeps with any false better or worse, and with any false same."""
    found = [
        false_verdicts(adaptive(scores, margin=margin), effects, margin)
        for scores in blocks(repetitions, effects, MOST_SEEDS, noise)
    ]
    wrong, same = (np.concatenate(part) for part in zip(*found, strict=True))
    return float(wrong.mean()), float(same.mean())


def error_table(repetitions: int, noises: Sequence[str] = tuple(NOISES)) -> Rows:
    """False verdicts of the adaptive sweep, goal=baseline, looked at after every seed from 3 to 30."""
    rows = []
    for arms in (1, 4, 12):
        for truth, (effects, margin) in truths(arms).items():
            rates = [false_rates(repetitions, effects, margin, noise) for noise in noises]
            rows.append([str(arms), truth, *(f"{wrong:.1%} / {same:.1%}" for wrong, same in rates)])
    return [["arms", "truth", *noises], *rows]


def repeated_t_table(repetitions: int) -> Rows:
    """False better or worse without any difference: t-test looked at after every seed, and the anytime-valid test."""
    rows = []
    for arms in (1, 4, 12):
        effects = [0.0] * arms
        rates = []
        for design in (looked_at_again, adaptive):
            wrong = [
                false_verdicts(design(scores), effects, MARGIN)[0]
                for scores in blocks(repetitions, effects, MOST_SEEDS)
            ]
            rates.append(f"{np.concatenate(wrong).mean():.1%}")
        rows.append([str(arms), *rates])
    return [["arms", "t-test with Holm, looked at again", "anytime-valid"], *rows]


def race_table(repetitions: int, noises: Sequence[str] = tuple(NOISES)) -> Rows:
    """Goal=best: how often an arm is dropped for one that is not better, and how a race with a best arm ends."""
    rows = []
    for methods in (4, 12):
        same = [races(repetitions, [0.0] * (methods - 1), noise) for noise in noises]
        rows.append(
            [str(methods), "all the same", *(f"{(ended.verdicts == WORSE).any(1).mean():.1%}" for ended in same)]
        )
        cells = []
        for noise in noises:
            ended = races(repetitions, [0.0] * (methods - 2) + [1.5], noise)
            best = ended.verdicts[:, -1]
            alone = (best == BETTER) & (ended.verdicts[:, :-1] == WORSE).all(1)
            cells.append(f"{(best == WORSE).mean():.1%} / {alone.mean():.0%} / {ended.seeds.sum(1).mean():.0f}")
        rows.append([str(methods), "one is better than all others by 1.5 sd", *cells])
    return [["arms", "truth", *noises], *rows]


def races(repetitions: int, effects: Sequence[float], noise: str) -> Outcome:
    """The ends of many races."""
    ended = [race(scores, margin=MARGIN) for scores in blocks(repetitions, effects, MOST_SEEDS, noise)]
    return Outcome(np.concatenate([one.verdicts for one in ended]), np.concatenate([one.seeds for one in ended]))


def power_table(repetitions: int, power: float = POWER) -> Rows:
    """Runs of the adaptive sweep and of the fixed design, each with as many seeds as it needs for the same power."""
    rows = []
    for arms in (1, 4, 12):
        for effect in (1.0, 1.5, 2.0, 3.0):
            for null in (0, arms // 2) if arms > 1 else (0,):
                effects = [0.0] * null + [effect] * (arms - null)
                ended = [adaptive(scores, margin=MARGIN) for scores in blocks(repetitions, effects, MOST_SEEDS)]
                shown = np.concatenate([one.verdicts[:, null:] == BETTER for one in ended])
                seeds = np.concatenate([one.seeds for one in ended])
                cap = int(np.quantile(np.where(shown, seeds[:, 1 + null :], MOST_SEEDS + 1), power, method="higher"))
                needed = str(cap) if cap <= MOST_SEEDS else f"over {MOST_SEEDS}"
                runs = np.minimum(seeds, cap).sum(1).mean()
                n = seeds_of_fixed(repetitions, effects, null, power)
                counts = [arms, null, f"{effect:g}", n, n * (arms + 1), needed]
                at_30 = [f"{shown.mean():.1%}", f"{seeds.sum(1).mean():.0f}"]
                rows.append([*map(str, counts), f"{runs:.0f}" if cap <= MOST_SEEDS else "", *at_30])
    heads = ["arms", "of them without a difference", "effect of the others, sd", "fixed: seeds", "fixed: runs"]
    heads += ["adaptive: max_seeds", "adaptive: mean runs", f"power at {MOST_SEEDS}", f"mean runs at {MOST_SEEDS}"]
    return [heads, *rows]


def seeds_of_fixed(repetitions: int, effects: Sequence[float], null: int, power: float) -> int:
    """The least number of seeds with which Holm's t-test in one look shows the effects with this power."""
    scores = np.concatenate(list(blocks(repetitions, effects, MOST_SEEDS, seed=1)))
    for n in range(3, MOST_SEEDS):
        if (fixed(scores[..., :n]).verdicts[:, null:] == BETTER).mean() >= power:
            return n
    return MOST_SEEDS


def same_table(repetitions: int, seeds: int = 400) -> Rows:
    """Seeds until ``same within ±margin`` without any difference, by the margin in standard deviations."""
    z = np.random.default_rng(0).standard_normal((repetitions, seeds))
    rows = []
    for margin in (0.25, 0.5, 0.75, 1.0, 2.0):
        outside = running_p_outside(z, margin)
        cells = []
        for arms in (1, 4, 12):
            settled = outside <= 0.05 / arms
            first = np.where(settled.any(1), settled.argmax(1) + 1, seeds)
            cells.append(f"{np.median(first):.0f} ({np.quantile(first, 0.1):.0f} to {np.quantile(first, 0.9):.0f})")
        rows.append([f"{margin:g}", *cells])
    return [["margin, sd", "1 comparison", "4 comparisons", "12 comparisons"], *rows]


def advised_table(repetitions: int, noises: Sequence[str] = tuple(NOISES)) -> Rows:
    """One arm without a difference: look at 3 seeds, add as many as the report expects, look again, up to 30."""
    rows = []
    for noise in noises:
        scores = np.concatenate(list(blocks(repetitions, [0.0], MOST_SEEDS, noise, seed=2)))
        looks, wrong = zip(*(_advised(one[1] - one[0]) for one in scores), strict=True)
        rows.append([noise, f"{np.mean(wrong):.1%}", f"{np.mean(looks):.1f}"])
    return [["noise", "false better or worse", "looks, mean"], *rows]


def _advised(differences: Array) -> tuple[int, bool]:
    n, looks = 3, 0
    while True:
        looks += 1
        scores: dict[str, dict[int | str, float]] = {
            "baseline": dict.fromkeys(range(n), 0.0),
            "arm": dict(enumerate(differences[:n].tolist())),
        }
        (one,) = compare(scores, "baseline", margin=MARGIN, max_further_seeds=MOST_SEEDS)
        if one.verdict != verdicts.OPEN or n == MOST_SEEDS:
            return looks, one.verdict in (verdicts.BETTER, verdicts.WORSE)
        expected = one.further_seeds.median if one.further_seeds else None
        n = min(MOST_SEEDS, n + (expected or MOST_SEEDS))


def choice_of_g_table(repetitions: int, seeds: int = 150) -> Rows:
    """Mean seeds until one of k comparisons is settled (Holm's strictest level), by g and effect."""
    candidates = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0)
    cases = [(k, effect) for k in (1, 4, 12) for effect in (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)]
    z = np.random.default_rng(0).standard_normal((repetitions, seeds))
    needed = np.array([[_mean_seeds(z + effect, g, k) for k, effect in cases] for g in candidates])
    regret = (needed / needed.min(0) - 1).max(1)
    shown = [(1, 1.0), (1, 2.0), (4, 0.5), (4, 1.0), (4, 2.0), (4, 3.0), (12, 1.0), (12, 2.0)]
    heads = ["g", *(f"k={k}, {effect:g} sd" for k, effect in shown), "worst excess over the best g"]
    rows = [
        [f"{g:g}", *(f"{needed[i, cases.index(case)]:.1f}" for case in shown), f"{regret[i]:.0%}"]
        for i, g in enumerate(candidates)
    ]
    return [heads, *rows]


def _mean_seeds(differences: Array, g: float, comparisons: int, alpha: float = 0.05) -> float:
    settled = log_evidence(differences, effect_variance=g) >= np.log(comparisons / alpha)
    first = np.where(settled.any(1), settled.argmax(1) + 1, differences.shape[1])
    return float(first.mean())


def markdown(rows: Rows) -> str:
    """A table as markdown."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
