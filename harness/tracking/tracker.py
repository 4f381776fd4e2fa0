"""What the runner tells a mirror."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from harness.data.dataset import DetectionDataset
from harness.runs.records import Result
from harness.telemetry.recorder import Window


class Tracker(Protocol):
    """Hears of a run while it happens. Must not raise: a run is worth more than its mirror."""

    def log(self, iteration: int, values: Mapping[str, float | None]) -> None:
        """Scalars of one iteration; None has no value and is left out."""

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

    def log(self, iteration: int, values: Mapping[str, float | None]) -> None:
        """Goes nowhere."""

    def log_sampling(self, iteration: int, window: Window) -> None:
        """Goes nowhere."""

    def finish(
        self,
        result: Result,
        dataset: DetectionDataset,
        annotations: Mapping[str, Any],
        detections: list[dict[str, Any]],
    ) -> None:
        """Goes nowhere."""
