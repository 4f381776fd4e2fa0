"""What the samplers took: the IoU histograms of ``sampling.npz``, summed over a method's runs."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
EASY = 0.05  # Libra R-CNN's bound of easy negatives


@dataclass(frozen=True)
class Sampling:
    """Counts by (stage, population, kind). Populations: available, sampled, and the names of shadow samplers."""

    edges: NDArray[np.float64]  # inner edges of the IoU bins; one bin more than edges
    iterations: Counts  # (T,) end of each window
    windows: dict[tuple[str, str, str], Counts]  # (T, bins), kind positive | negative | truth
    runs: int

    @property
    def stages(self) -> list[str]:
        """rpn, roi, dense, ... in the order of the file."""
        return list(dict.fromkeys(stage for stage, _, _ in self.windows))

    def populations(self, stage: str) -> list[str]:
        """available, sampled, then the shadows."""
        return list(dict.fromkeys(name for at, name, _ in self.windows if at == stage))

    def total(self, stage: str, population: str, kind: str) -> Counts:
        """(bins,) over all windows."""
        return np.asarray(self.windows[stage, population, kind].sum(0))

    def easy_share(self, stage: str, population: str) -> float:
        """Share of a population's negatives with IoU below 0.05; NaN without negatives."""
        counts = self.total(stage, population, "negative")
        return float(counts[self.easy_bins].sum() / counts.sum()) if counts.sum() else float("nan")

    @property
    def easy_bins(self) -> slice:
        """The bins that lie below 0.05."""
        return slice(0, int(np.searchsorted(self.edges, EASY + 1e-6)))


def sampling_of(paths: Sequence[Path]) -> tuple[Sampling | None, list[str]]:
    """The sum over runs whose bins and windows agree, and a note for every run that could not be added."""
    total: Sampling | None = None
    notes = []
    for path in paths:
        try:
            one = _read(path / "sampling.npz")
        except FileNotFoundError:
            continue  # telemetry was off
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
            notes.append(f"{path.name}: sampling.npz cannot be read; its histograms are left out.")
            continue
        if total is None:
            total = one
        elif not _fits(total, one):
            notes.append(f"{path.name}: sampling.npz has other bins or windows; its histograms are left out.")
        else:
            total = _sum(total, one)
    return total, notes


def _read(path: Path) -> Sampling:
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        iterations = file["iterations"]
        windows = {}
        for name in file.files:
            stage, _, rest = name.rpartition("/iou/")
            if stage and rest.count("/") == 1:
                population, kind = rest.split("/")
                counts = file[name]
                # A stage that was seen late has no rows for the first windows.
                late = np.zeros((len(iterations) - len(counts), counts.shape[1]), np.int64)
                windows[stage, population, kind] = np.concatenate([late, counts])
        return Sampling(file["edges/iou"].astype(np.float64), iterations, windows, 1)


def _fits(one: Sampling, other: Sampling) -> bool:
    return (
        one.edges.shape == other.edges.shape
        and bool(np.allclose(one.edges, other.edges))
        and np.array_equal(one.iterations, other.iterations)
    )


def _sum(one: Sampling, other: Sampling) -> Sampling:
    keys = dict.fromkeys([*one.windows, *other.windows])
    windows = {key: sum(part.windows[key] for part in (one, other) if key in part.windows) for key in keys}
    return Sampling(one.edges, one.iterations, {k: np.asarray(v) for k, v in windows.items()}, one.runs + other.runs)
