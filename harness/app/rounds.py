"""The rounds of an adaptive sweep: what its runs have shown so far, which runs come next and why."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import Any, Protocol

from harness.app.job import read_outcome
from harness.runs.records import State, read_json
from harness.runs.schema import ConfigError
from harness.statistics import (
    NOTHING_LEARNED,
    OPEN,
    Comparison,
    Standing,
    against_baseline,
    best_of,
    least_learned,
    verdict_text,
)

Job = tuple[str, int]  # arm, seed


class RoundSettings(Protocol):
    """The part of the sweeper's configuration that rounds depend on."""

    first_seeds: int
    seeds_per_round: int | None
    budget_hours: float | None
    goal: str
    alpha: float
    margin: float


@dataclass(frozen=True)
class Plan:
    """The runs of the next round; none if the sweep ends."""

    jobs: tuple[Job, ...]
    reason: str


@dataclass
class Ledger:
    """What the runs of one sweep came to, read from the folders that they left."""

    folder: Path  # of the sweep: one folder per job with its outcome.json
    metric: str
    scores: dict[str, dict[int | str, float]] = field(default_factory=dict)  # arm -> seed -> metric
    failed: dict[str, str] = field(default_factory=dict)  # arm -> why it gets no further seeds
    hours: list[float] = field(default_factory=list)  # one per finished run
    done: set[Job] = field(default_factory=set)  # scheduled and over, with or without a result
    launched: int = 0  # jobs of this session; the number of the next one

    def read(self, jobs: Sequence[Job], returned: Sequence[Any]) -> None:
        """Takes in a batch of jobs that ended."""
        for (label, seed), job_return in zip(jobs, returned, strict=True):
            self.done.add((label, seed))
            reason = self._read_one(label, seed, job_return)
            self.launched += 1
            if reason:
                self.failed.setdefault(label, f"seed {seed}: {reason}")

    def _read_one(self, label: str, seed: int, job_return: Any) -> str:
        """Why the job has no score; empty if it has one."""
        try:
            outcome = read_outcome(self.folder, self.launched)
        except FileNotFoundError:
            error = getattr(job_return, "_return_value", None)
            return f"{type(error).__name__}: {error}" if isinstance(error, Exception) else "the job left no outcome"
        if outcome["state"] != State.DONE:
            return f"{outcome['state']}: {outcome['reason']}"
        if outcome["folder"] is None:
            return ""  # mode=check
        result = read_json(Path(outcome["folder"]) / "result.json")
        score = self._score(result["metrics"])
        if score is None:
            return f"{self.metric} is undefined"
        self.scores.setdefault(label, {})[seed] = score
        self.hours.append((result["cost"]["train_seconds"] + result["cost"]["eval_seconds"]) / 3600)
        return ""

    def _score(self, metrics: Mapping[str, Any]) -> float | None:
        if self.metric not in metrics or not isinstance(metrics[self.metric], (Real, NoneType)):
            valid = ", ".join(key for key, value in metrics.items() if isinstance(value, Real))
            raise ConfigError(f"hydra.sweeper.metric={self.metric}: no such metric; there are {valid}")
        value = metrics[self.metric]
        return None if value is None else float(value)

    def cost_line(self, arms: int, seeds: int) -> str:
        """The number of runs beside that of a design with a fixed number of seeds."""
        runs, fixed = len(self.done), arms * seeds
        return f"{runs} runs, {sum(self.hours):.2g} hours; {seeds} seeds for each of {arms} arms would be {fixed} runs"


def run_rounds(
    arms: Sequence[str],
    seeds: Sequence[int],
    partners: Mapping[str, str],
    launch: Callable[[Sequence[Job]], None],
    ledger: Ledger,
    settings: RoundSettings,
    parallel_jobs: int,
) -> Standing:
    """Launches rounds until nothing is open, and says before each what it does and why, and at the end what came out.

    ``launch`` runs jobs and enters them in the ledger; ``partners`` maps each arm to its baseline (goal=baseline).
    """
    plan, number = next_round(None, arms, seeds, ledger, settings, parallel_jobs), 0
    while plan.jobs:
        number += 1
        _say(round_line(number, plan))
        launch(plan.jobs)
        standing = _standing(partners, ledger, settings)
        plan = next_round(standing, arms, seeds, ledger, settings, parallel_jobs)
    _say(verdict_line(standing, arms, partners, ledger, settings.margin))
    _say(f"{plan.reason}; {ledger.cost_line(len(arms), len(seeds))}")
    return standing


def _standing(partners: Mapping[str, str], ledger: Ledger, settings: RoundSettings) -> Standing:
    rule: dict[str, Any] = {
        "alpha": settings.alpha,
        "margin": settings.margin,
        "left_out": ledger.failed,
        "least_learned": least_learned(ledger.metric, settings.margin),
    }
    if settings.goal == "best":
        return best_of(ledger.scores, **rule)
    return against_baseline(ledger.scores, partners, **rule)


def _say(line: str) -> None:
    """One line for whoever watches the sweep; tables go to stdout."""
    print(f"harness: {line}", file=sys.stderr, flush=True)


def next_round(
    standing: Standing | None,
    arms: Sequence[str],
    seeds: Sequence[int],
    ledger: Ledger,
    settings: RoundSettings,
    parallel_jobs: int,
) -> Plan:
    """The next runs. Arms that need seeds are brought to the same number of them, in the order of ``seeds``.

    ``standing`` is None before the first look.
    """
    if standing is None:
        first = min(settings.first_seeds, len(seeds))
        jobs = tuple((arm, seed) for seed in seeds[:first] for arm in arms)
        return Plan(jobs, f"every arm gets its first {first} seed{'s' * (first != 1)}")
    waiting = [arm for arm in arms if arm in standing.need_seeds]
    if not waiting:
        return Plan((), _end(standing))
    given = max(sum(label == arm for label, _ in ledger.done) for arm in waiting)
    if given >= len(seeds):
        return Plan((), f"stopped at {len(seeds)} seed{'s' * (len(seeds) != 1)} with {_open(standing)} open")
    more = settings.seeds_per_round or max(1, parallel_jobs // len(waiting))
    jobs = tuple((arm, seed) for seed in seeds[: given + more] for arm in waiting if (arm, seed) not in ledger.done)
    budget, used = settings.budget_hours, sum(ledger.hours)
    needed = len(jobs) * used / max(1, len(ledger.hours))
    if budget is not None and used + needed > budget:
        return Plan(
            (),
            f"stopped with {_open(standing)} open: {used:.2g} of {budget:g} hours are used and the next round of "
            f"{len(jobs)} runs needs about {needed:.2g}",
        )
    return Plan(jobs, _why(standing, settings.goal))


def _end(standing: Standing) -> str:
    """Why a sweep ends in which no arm needs seeds."""
    unlearned = [arm for arm, verdict in standing.verdicts.items() if verdict == NOTHING_LEARNED]
    if unlearned:
        rest = "" if len(unlearned) == len(standing.verdicts) else f" by {_listed(unlearned)}"
        return f"stopped: nothing was learned{rest}; train longer (run.iterations), or look at the losses and the data"
    if not standing.verdicts or _open(standing):
        return "stopped: the failed arms leave nothing to compare"
    return "settled"


def round_line(number: int, plan: Plan) -> str:
    """What a round does, and why."""
    arms = list(dict.fromkeys(label for label, _ in plan.jobs))
    seeds = sorted({seed for _, seed in plan.jobs})
    span = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    return f"round {number}: {span} for {_listed(arms)} ({len(plan.jobs)} runs), because {plan.reason}"


def verdict_line(
    standing: Standing, arms: Sequence[str], partners: Mapping[str, str], ledger: Ledger, margin: float
) -> str:
    """The verdict of every arm, baselines and failed arms included."""
    said = []
    for arm in arms:
        if arm in standing.verdicts:
            said.append(f"{arm}: {verdict_text(standing.verdicts[arm], margin)}")
        elif arm in partners.values():
            said.append(f"{arm}: baseline")
        if arm in ledger.failed:
            said.append(f"{arm}: left out ({ledger.failed[arm]})")
    return "; ".join(said)


def _why(standing: Standing, goal: str) -> str:
    if goal == "best":
        leader, *others = standing.need_seeds
        return f"{leader} leads and {_listed(others)} may still be as good"
    waiting = [one for one in standing.comparisons if one.verdict == OPEN and one.name in standing.need_seeds]
    return "; ".join(_open_text(one) for one in waiting[:3]) + (f"; {len(waiting) - 3} more" * (len(waiting) > 3))


def _open_text(one: Comparison) -> str:
    low, high = one.interval
    interval = "unbounded" if high == float("inf") else f"[{low:+.4f}, {high:+.4f}]"
    expected = "" if one.further_seeds is None else f", expected {one.further_seeds} further seeds"
    return f"{one.name} is open at {one.mean_difference:+.4f} {interval}{expected}"


def _open(standing: Standing) -> str:
    number = sum(verdict == OPEN for verdict in standing.verdicts.values())
    return f"{number} comparison{'s' * (number != 1)}" if number else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
