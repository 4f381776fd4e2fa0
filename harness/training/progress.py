"""Bars on a terminal that keep count, share, speed and remaining time at 80 columns; silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")
NARROWEST = 66  # columns that everything but the losses takes


class SpeedColumn(ProgressColumn):
    """``12.3 it/s``, or ``4.1 s/it`` where a step takes longer than a second."""

    def render(self, task: Task) -> Text:
        """The mean over the last steps; empty before two are known."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f} it/s" if speed >= 1 else f"{1 / speed:.1f} s/it")


class Bar:
    """One bar. ``mode``: ``auto`` shows it only where standard error is a terminal, ``on`` and ``off`` always or never.

    Args:
        what: is being done, one word.
        total: steps.
        done: of them, where the work is continued.
        mode: ``run.progress``.
        console: where it is drawn; ``None``: standard error.
    """

    def __init__(
        self, what: str, total: int, done: int = 0, mode: str = "auto", console: Console | None = None
    ) -> None:
        self._console = console or Console(stderr=True)
        shown = mode == "on" or (mode == "auto" and self._console.is_terminal and sys.stderr is not None)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            SpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=self._console,
            disable=not shown,
            transient=True,
        )
        self._task = self._bar.add_task(what, total=total, completed=done, losses="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def step(self) -> None:
        """One step is done."""
        self._bar.advance(self._task)

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items; each is a step once the next one is asked for."""
        with self:
            for item in items:
                yield item
                self.step()

    def show(self, losses: Mapping[str, float]) -> None:
        """The newest losses, as many as the terminal has room for."""
        text = ""
        for name, value in losses.items():
            longer = f"{text} {name.removeprefix('loss_')} {value:.3f}".strip()
            if NARROWEST + len(longer) > self._console.width:
                break
            text = longer
        self._bar.update(self._task, losses=text)
