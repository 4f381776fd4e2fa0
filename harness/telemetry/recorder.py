"""What every stage was offered and what its sampler took: histograms on the device, read at log steps only.

An observer of :class:`~harness.criterion.criterion.Criterion`. All bins are fixed (:mod:`harness.telemetry.bins`), so
that windows of several runs and samplers compare. The figure that it serves is Libra R-CNN's (Pang et al. 2019,
section 3.2 and figure 3): the IoU of sampled negatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.core.structures import CandidateLosses
from harness.criterion.stage import Selection
from harness.runs.integrity import seal_zip
from harness.runs.records import atomic_write
from harness.telemetry.bins import COUNTS, EDGES
from harness.telemetry.counters import Histogram, StageCounter


@dataclass(frozen=True)
class Window:
    """What happened between two log steps, on the host."""

    iteration: int  # the last one of the window
    histograms: Mapping[str, Histogram]  # "<stage>/<quantity>/<population>/<kind>" -> (bins,) int64
    counts: Mapping[str, Mapping[str, int]]  # "<stage>/<population>" -> COUNTS


class SamplingTelemetry:
    """Accumulates every selection; :meth:`close_window` brings one window to the host.

    Populations are ``available`` (positive or negative, not padded), ``sampled`` and each shadow sampler by its name.
    Quantities are ``iou``, ``size``, ``level`` (where a stage has levels) and ``loss`` (that of the classes) of the
    candidates, ``per_image`` the number of candidates of an image and ``per_object`` that of positives of an object.
    Where no sampler needs the loss of every candidate, that of ``sampled`` alone is known, from :meth:`add_losses`.
    Kinds are ``positive``, ``negative`` and ``truth`` (a ground-truth box that joined the proposals is counted there
    and not among the positives); an object's are ``positive`` and ``with_truth``.
    """

    def __init__(self) -> None:
        self._stages: dict[str, StageCounter] = {}
        self._iterations: list[int] = []
        self._rows: dict[str, list[Histogram]] = {}  # array name -> one row per window

    @torch.no_grad()
    def __call__(self, stage: str, selection: Selection) -> None:
        """Adds one selection; waits for nothing."""
        if stage not in self._stages:
            self._stages[stage] = StageCounter.of(selection)
        self._stages[stage].add(selection)

    @torch.no_grad()
    def add_losses(self, stage: str, selection: Selection, losses: CandidateLosses) -> None:
        """Adds the losses of what was sampled, where those of all candidates were not known; waits for nothing."""
        if selection.losses is None:
            self._stages[stage].add_losses(selection, losses)

    def close_window(self, iteration: int) -> Window:
        """Reads and clears what was accumulated since the last call: the one place that waits for the device."""
        histograms: dict[str, Histogram] = {}
        counts: dict[str, dict[str, int]] = {}
        for stage, counter in self._stages.items():
            own_histograms, own_counts = counter.read()
            histograms.update({f"{stage}/{name}": row for name, row in own_histograms.items()})
            counts.update({f"{stage}/{population}": numbers for population, numbers in own_counts.items()})
        self._keep({**histograms, **{f"{name}/counts": _row(numbers) for name, numbers in counts.items()}})
        self._iterations.append(iteration)
        return Window(iteration, histograms, counts)

    def _keep(self, rows: Mapping[str, Histogram]) -> None:
        for name, row in rows.items():
            if name not in self._rows:  # a stage that was not there in earlier windows had nothing in them
                self._rows[name] = [np.zeros_like(row) for _ in self._iterations]
            self._rows[name].append(row)

    def arrays(self) -> dict[str, Histogram]:
        """All windows: ``iterations (T,)``, ``<stage>/<quantity>/<population>/<kind> (T, bins)``,
        ``<stage>/<population>/counts (T, columns)`` with their ``columns``, and ``edges/<quantity>``, the inner ones.
        """
        return {
            "iterations": np.array(self._iterations, np.int64),
            **{name: np.stack(rows) for name, rows in self._rows.items()},
            "columns": np.array(COUNTS),
            **{f"edges/{name}": edges.numpy() for name, edges in EDGES.items()},
        }

    def save(self, path: Path) -> None:
        """Writes ``sampling.npz``, with its checksum as the archive's comment."""
        with atomic_write(path, "w+b") as file:
            np.savez_compressed(file, allow_pickle=False, **self.arrays())
            seal_zip(file)

    def summary(self) -> dict[str, dict[str, float]]:
        """Per ``<stage>/<population>`` over the whole run: what is sampled an image, and how easy the negatives are.

        A joined ground-truth box counts among the positives, and alone in ``truth_per_image``.
        """
        out = {}
        for name, rows in self._rows.items():
            stage, population, *rest = name.split("/")
            if rest != ["counts"]:
                continue
            total = dict(zip(COUNTS, (float(number) for number in np.sum(rows, 0)), strict=True))
            iou = np.sum(self._rows[f"{stage}/iou/{population}/negative"], 0)
            images, objects = max(total["images"], 1.0), max(total["objects"], 1.0)
            out[f"{stage}/{population}"] = {
                "positives_per_image": total["positive"] / images,
                "negatives_per_image": total["negative"] / images,
                "truth_per_image": total["truth"] / images,
                "positives_per_object": total["positive"] / objects,
                "objects_without_positive": total["objects_without_positive"] / objects,
                "negatives_below_iou_0.05": float(iou[0]) / max(float(iou.sum()), 1.0),
            }
        return out

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers: the open window and the closed ones."""
        return {
            "stages": {stage: counter.state_dict() for stage, counter in self._stages.items()},
            "iterations": list(self._iterations),
            "rows": {name: torch.from_numpy(np.stack(rows)) for name, rows in self._rows.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken; open counters move to the device at the next selection."""
        self._stages = {stage: StageCounter.from_state(own) for stage, own in state["stages"].items()}
        self._iterations = list(state["iterations"])
        self._rows = {name: list(rows.numpy().copy()) for name, rows in state["rows"].items()}


def _row(numbers: Mapping[str, int]) -> Histogram:
    return np.array([numbers[name] for name in COUNTS], np.int64)
