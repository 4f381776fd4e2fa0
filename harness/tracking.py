"""The mirror of a run: Weights & Biases, or nothing. The run folder is the truth. Floor 5; the only file to name wandb."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from harness.analysis.telemetry import Window
from harness.config import TrackerConfig
from harness.data.dataset import DetectionDataset
from harness.records import Result


class Tracker(Protocol):
    """What the runner tells a mirror; a mirror never changes or stops a run."""

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Scalars of one iteration."""

    def log_sampling(self, iteration: int, window: Window) -> None:
        """The histograms since the last log step."""

    def finish(
        self,
        result: Result,
        dataset: DetectionDataset,
        annotations: Mapping[str, Any],
        detections: list[dict[str, Any]],
    ) -> None:
        """The finished run: summary, tables, images with their boxes."""


class NoTracker:
    """No mirror."""

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        pass

    def log_sampling(self, iteration: int, window: Window) -> None:
        pass

    def finish(
        self,
        result: Result,
        dataset: DetectionDataset,
        annotations: Mapping[str, Any],
        detections: list[dict[str, Any]],
    ) -> None:
        pass


@contextmanager
def open_tracker(
    settings: TrackerConfig, folder: Path, config: Mapping[str, Any], choices: Mapping[str, str]
) -> Iterator[Tracker]:
    """Opens the mirror that ``settings`` asks for and closes it however the run ends."""
    yield NoTracker()
