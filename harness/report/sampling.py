"""What the samplers took: the histograms of ``sampling.npz``, summed over a method's runs."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Key = TypeVar("Key")
_BOTH, _KINDS = ("available", "sampled"), ("positive", "negative", "truth")
EASY = 0.05  # Libra R-CNN's bound of easy negatives


@dataclass(frozen=True)
class Sampling:
    """Counts by stage, population and kind. Populations: available, sampled, and the names of shadow samplers."""

    edges_of: dict[str, NDArray[np.float64]]  # inner edges of a quantity's bins; one bin more than edges
    iterations: Counts  # (T,) end of each window
    windows: dict[tuple[str, str, str], Counts]  # IoU: (stage, population, positive | negative | truth) -> (T, bins)
    others: dict[tuple[str, str, str, str], Counts]  # (stage, quantity, population, kind) -> (bins,), over all windows
    runs: int

    @property
    def edges(self) -> NDArray[np.float64]:
        """Those of the IoU."""
        return self.edges_of["iou"]

    @property
    def stages(self) -> list[str]:
        """rpn, roi, dense, ... in the order of the file."""
        return list(dict.fromkeys(stage for stage, _, _ in self.windows))

    def populations(self, stage: str) -> list[str]:
        """available, sampled, then the shadows."""
        return list(dict.fromkeys(name for at, name, _ in self.windows if at == stage))

    def shadows(self, stage: str) -> list[str]:
        """The samplers that were asked beside the one that trained."""
        return [name for name in self.populations(stage) if name not in _BOTH]

    def total(self, stage: str, population: str, kind: str) -> Counts:
        """(bins,) over all windows."""
        return np.asarray(self.windows[stage, population, kind].sum(0))

    def histogram(self, stage: str, quantity: str, population: str, kind: str) -> Counts | None:
        """(bins,) of a quantity other than the IoU over all windows; None where it was not recorded."""
        return self.others.get((stage, quantity, population, kind))

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
        except (OSError, ValueError, KeyError, IndexError, EOFError, MemoryError, NotImplementedError, RuntimeError,
                zipfile.BadZipFile, zlib.error):  # fmt: skip
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
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{path} is not a regular file")
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        iterations = _whole(file["iterations"], 1)
        if not len(iterations) or (np.diff(iterations) <= 0).any():
            raise ValueError("iterations must rise")
        edges = {name.removeprefix("edges/"): _rising(file[name]) for name in file.files if name.startswith("edges/")}
        windows, others = {}, {}
        for name in file.files:
            if name.count("/") != 3:
                continue
            stage, quantity, population, kind = name.split("/")
            counts = _whole(file[name], 2)
            if counts.shape[1] != len(edges[quantity]) + 1:
                raise ValueError(f"{name} has {counts.shape[1]} bins, but {len(edges[quantity])} edges")
            if quantity == "iou":
                # A stage that was seen late has no rows for the first windows.
                late = np.zeros((len(iterations) - len(counts), counts.shape[1]), np.int64)
                windows[stage, population, kind] = np.concatenate([late, counts])
            else:
                others[stage, quantity, population, kind] = counts.sum(0)
        wanted = {(stage, population, kind) for stage, population, _ in windows for kind in _KINDS}
        wanted |= {(stage, population, kind) for stage, _, _ in windows for population in _BOTH for kind in _KINDS}
        if missing := wanted - windows.keys():
            raise KeyError(f"{sorted(missing)[0]} is missing")
        return Sampling(edges, iterations, windows, others, 1)


def _whole(values: np.ndarray, dimensions: int) -> Counts:
    """Counts as they were written: whole numbers of 0 or more; a damaged file may hold anything."""
    if values.ndim != dimensions or values.dtype.kind not in "iu" or (values < 0).any() or (values > 2**53).any():
        raise ValueError("counts must be whole numbers of 0 or more")
    return values.astype(np.int64)


def _rising(values: np.ndarray) -> NDArray[np.float64]:
    edges = values.astype(np.float64)
    if edges.ndim != 1 or not len(edges) or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise ValueError("edges must be finite and rise")
    return edges


def _fits(one: Sampling, other: Sampling) -> bool:
    return (
        one.edges_of.keys() == other.edges_of.keys()
        and all(edges.shape == other.edges_of[name].shape for name, edges in one.edges_of.items())
        and all(np.allclose(edges, other.edges_of[name]) for name, edges in one.edges_of.items())
        and np.array_equal(one.iterations, other.iterations)
    )


def _sum(one: Sampling, other: Sampling) -> Sampling:
    return Sampling(
        edges_of=one.edges_of,
        iterations=one.iterations,
        windows=_added(one.windows, other.windows),
        others=_added(one.others, other.others),
        runs=one.runs + other.runs,
    )


def _added(one: Mapping[Key, Counts], other: Mapping[Key, Counts]) -> dict[Key, Counts]:
    """Key by key; what only one of them has stays as it is."""
    keys = dict.fromkeys([*one, *other])
    return {key: np.asarray(sum(part[key] for part in (one, other) if key in part)) for key in keys}
