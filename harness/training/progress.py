"""A bar with the remaining time and the losses on a terminal; silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TrainingBar:
    """``mode``: ``auto`` shows the bar only where standard error is a terminal."""

    def __init__(self, total: int, done: int, mode: str = "auto") -> None:
        shown = mode == "on" or (mode == "auto" and sys.stderr.isatty())
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=Console(stderr=True),
            disable=not shown,
            transient=True,
        )
        self._task = self._bar.add_task("train", total=total, completed=done, losses="")

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def step(self) -> None:
        """One iteration is done."""
        self._bar.advance(self._task)

    def show(self, losses: Mapping[str, float]) -> None:
        """The newest losses."""
        text = " ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in losses.items())
        self._bar.update(self._task, losses=text)
