"""Says that a training diverges, while it runs: its result is then about the learning rate, not about the arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.runs.records import read_json, write_json

TIMES = 10.0  # of the loss before the first step


class DivergenceWatch:
    """Compares the logged losses with those that the guard measured before the first step.

    The first mean loss that is ten times as large is kept in the guard's file as ``diverged``, with its iteration, and
    marks the arm in every table. A run without that file (``analysis.guard_images=0``) is not watched.

    Args:
        file: the run's ``guard.json``.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        record = read_json(file) if file.exists() else {"terms": {}}
        self._terms = {name: float(term["value"]) for name, term in record["terms"].items()}
        self._known = bool(record.get("diverged"))

    def look(self, iteration: int, losses: Mapping[str, float]) -> str | None:
        """One line, the first time that the training diverges.

        Args:
            iteration: of the last of the steps.
            losses: their mean losses by name. Terms of a later phase, which the start did not have, do not count.
        """
        start = sum(self._terms.values())
        now = sum(losses.get(name, 0.0) for name in self._terms)
        if self._known or start <= 0 or now <= TIMES * start:
            return None
        self._known = True
        times = round(now / start, 1)
        write_json(self._file, {**read_json(self._file), "diverged": {"iteration": iteration, "times": times}})
        return (
            f"the loss at iteration {iteration} is {times:.0f} times that before the first step: the training "
            "diverges; lower optimizer.lr, raise schedule.warmup_fraction or set run.clip_norm"
        )
