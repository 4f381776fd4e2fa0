"""Which numbers of a run can be compared, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from harness.report.folders import ReportError
from harness.statistics import is_accuracy
from harness.statistics.learned import ACCURACIES

_HIGHER = (*ACCURACIES, "images_per_second")
_LOWER = ("tide.", "d_ece", "train_seconds", "eval_seconds", "peak_memory_mb")
NAMES = {
    "map": "mAP",
    "map50": "AP50",
    "map75": "AP75",
    "segm.map": "mask mAP",
    "keypoints.map": "keypoint mAP",
    "map_rare": "AP rare",
    "map_common": "AP common",
    "map_frequent": "AP frequent",
    "d_ece": "calibration error",
    "train_seconds": "training time",
}


@dataclass(frozen=True)
class Metric:
    """A column that says how good a run is."""

    column: str
    name: str  # for people
    higher_is_better: bool

    @property
    def is_accuracy(self) -> bool:
        """Whether it is a fraction that a detector earns, so that 0 means that nothing was learned."""
        return is_accuracy(self.column)


def metric(column: str, frame: pd.DataFrame) -> Metric:
    """The column as a metric.

    Raises:
        ReportError: there is no such metric; the message lists those that there are.
    """
    valid = [name for name in frame.columns if str(name).startswith((*_HIGHER, *_LOWER))]
    if column not in valid:
        shown = (
            ", ".join(name for name in valid if not name.startswith("ap.") and ".ap." not in name)
            or "none: no run has a result"
        )
        raise ReportError(f"--metric {column}: no such metric; there are {shown}, and ap.<class>")
    return Metric(column, NAMES.get(column, column), column.startswith(_HIGHER))
