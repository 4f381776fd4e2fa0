"""What every stage was offered and what its sampler took: histograms on the device, read at log steps only.

An observer of :class:`~harness.criterion.Criterion`. All bins are fixed, so that windows, runs and samplers compare.
The figure that it serves is Libra R-CNN's (Pang et al. 2019, section 3.2 and figure 3): the IoU of sampled negatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.boxes import area
from harness.criterion import Selection
from harness.records import whole
from harness.types import Sample

AVAILABLE, SAMPLED = "available", "sampled"
KINDS = ("positive", "negative", "truth")  # truth: a ground-truth box that joined the proposals, always IoU 1
MAX_LEVELS = 8

# Inner edges; a histogram has one bin more than edges. The first IoU bin below 0.05 is Libra R-CNN's "easy negatives".
EDGES: Mapping[str, Tensor] = {
    "iou": torch.linspace(0.05, 0.95, 19),
    "size": 2.0 ** torch.arange(1.0, 11.0),  # square root of the box area, px
    "loss": 10.0 ** torch.linspace(-4.0, 1.0, 21),  # classification loss
    "level": torch.arange(1.0, MAX_LEVELS) - 0.5,
}
COUNTS = ("images", "objects", "objects_without_positive", "positive", "negative")


@dataclass(frozen=True)
class Window:
    """What happened between two log steps, on the host."""

    iteration: int  # the last one of the window
    histograms: Mapping[str, np.ndarray[Any, Any]]  # "<stage>/<quantity>/<population>/<kind>" -> (bins,) int64
    counts: Mapping[str, Mapping[str, int]]  # "<stage>/<population>" -> COUNTS


class SamplingTelemetry:
    """Accumulates every selection; :meth:`close_window` brings one window to the host."""

    def __init__(self) -> None:
        self._histograms: dict[str, Tensor] = {}  # "<stage>/<quantity>/<population>" -> (kinds, bins) on the device
        self._counts: dict[str, Tensor] = {}  # "<stage>/<population>" -> (COUNTS,) on the device
        self._edges: dict[tuple[str, torch.device], Tensor] = {}
        self._windows: list[Window] = []

    @torch.no_grad()
    def __call__(self, stage: str, selection: Selection) -> None:
        """Adds one selection; waits for nothing."""
        candidates, assignment = selection.candidates, selection.assignment
        shape = candidates.valid.shape
        truth = torch.zeros(shape, dtype=torch.bool, device=candidates.valid.device)
        truth = truth if candidates.is_truth is None else candidates.is_truth
        kind = torch.where(truth, 2, (~assignment.positive).long())
        offered = (assignment.positive | assignment.negative) & candidates.valid
        populations = [(AVAILABLE, offered)]
        populations += [
            (name, _chosen(sample, shape)) for name, sample in ((SAMPLED, selection.sample), *selection.shadows.items())
        ]
        for quantity, values in _quantities(selection):
            edges = self._edges_on(quantity, values.device)
            bins = len(edges) + 1
            index = (torch.bucketize(values.contiguous(), edges, right=True) + kind * bins).flatten()
            for population, members in populations:
                counter = self._counter(f"{stage}/{quantity}/{population}", (len(KINDS), bins), values.device)
                counter.view(-1).scatter_add_(0, index, members.flatten().long())
        for population, members in populations:
            self._count(f"{stage}/{population}", selection, members)

    def _count(self, key: str, selection: Selection, members: Tensor) -> None:
        matchable, positive = selection.truth.matchable, selection.assignment.positive & members
        gt_index = selection.assignment.gt_index.clamp(min=0)
        # One column more than objects: an image without objects has somewhere to scatter to.
        hits = torch.zeros(*matchable.shape[:-1], matchable.shape[-1] + 1, dtype=torch.long, device=members.device)
        hits.scatter_add_(-1, gt_index, positive.long())
        missed = matchable & (hits[..., :-1] == 0)
        totals = torch.stack(
            [
                torch.full((), matchable.shape[0], device=members.device),
                matchable.sum(),
                missed.sum(),
                positive.sum(),
                (selection.assignment.negative & members).sum(),
            ]
        )
        self._counts[key] = self._counts[key] + totals if key in self._counts else totals

    def _counter(self, key: str, shape: tuple[int, int], device: torch.device) -> Tensor:
        if key not in self._histograms:
            self._histograms[key] = torch.zeros(shape, dtype=torch.long, device=device)
        return self._histograms[key]

    def _edges_on(self, quantity: str, device: torch.device) -> Tensor:
        if (quantity, device) not in self._edges:
            self._edges[quantity, device] = EDGES[quantity].to(device)
        return self._edges[quantity, device]

    def close_window(self, iteration: int) -> Window:
        """Reads and clears what was accumulated since the last call: the one place that waits for the device."""
        histograms = {
            f"{key}/{kind}": row
            for key, counter in self._histograms.items()
            for kind, row in zip(KINDS, counter.cpu().numpy().copy(), strict=True)
        }
        counts = {key: dict(zip(COUNTS, value.tolist(), strict=True)) for key, value in self._counts.items()}
        for counter in self._histograms.values():
            counter.zero_()
        self._counts.clear()
        window = Window(iteration, histograms, counts)
        self._windows.append(window)
        return window

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """All windows: ``iterations (T,)``, ``<stage>/<quantity>/<population>/<kind> (T, bins)``, edges and counts."""
        out: dict[str, np.ndarray[Any, Any]] = {"iterations": np.array([w.iteration for w in self._windows], np.int64)}
        for name in dict.fromkeys(name for window in self._windows for name in window.histograms):
            out[name] = np.stack([w.histograms[name] for w in self._windows if name in w.histograms])
        for name in dict.fromkeys(name for window in self._windows for name in window.counts):
            rows = [[w.counts[name][c] for c in COUNTS] for w in self._windows if name in w.counts]
            out[f"{name}/counts"] = np.array(rows, np.int64)
        return {**out, **{f"edges/{name}": edges.numpy() for name, edges in EDGES.items()}}

    def save(self, path: Path) -> None:
        """Writes ``sampling.npz``."""
        with whole(path, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.arrays())

    def summary(self) -> dict[str, dict[str, float]]:
        """Per ``<stage>/<population>`` over the whole run: what is sampled an image, and how easy the negatives are."""
        arrays = self.arrays()
        out = {}
        for key in (name.removesuffix("/counts") for name in arrays if name.endswith("/counts")):
            images, objects, missed, positive, negative = (float(v) for v in arrays[f"{key}/counts"].sum(0))
            stage, population = key.split("/")
            iou = arrays[f"{stage}/iou/{population}/negative"].sum(0)
            out[key] = {
                "positives_per_image": positive / max(images, 1),
                "negatives_per_image": negative / max(images, 1),
                "objects_without_positive": missed / max(objects, 1),
                "negatives_below_iou_0.05": float(iou[0]) / max(float(iou.sum()), 1),
            }
        return out

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers: the open window and the closed ones."""
        return {
            "histograms": dict(self._histograms),
            "counts": dict(self._counts),
            "windows": [
                (w.iteration, {k: torch.from_numpy(v) for k, v in w.histograms.items()}, {**w.counts})
                for w in self._windows
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken; open counters move to the device at the next selection."""
        self._histograms = {key: value.clone() for key, value in state["histograms"].items()}
        self._counts = {key: value.clone() for key, value in state["counts"].items()}
        self._windows = [Window(i, {k: v.numpy() for k, v in h.items()}, c) for i, h, c in state["windows"]]


def _chosen(sample: Sample, shape: torch.Size) -> Tensor:
    """``(B, N)`` bool: the candidates in the used slots."""
    if sample.in_order:
        return sample.used
    return (
        torch.zeros(shape, dtype=torch.long, device=sample.index.device)
        .scatter_add(-1, sample.index, sample.used.long())
        .bool()
    )


def _quantities(selection: Selection) -> Iterator[tuple[str, Tensor]]:
    """``(B, N)`` values of every quantity that this stage knows."""
    candidates = selection.candidates
    yield "iou", selection.assignment.max_iou.float()
    yield "size", area(candidates.boxes).clamp(min=0).sqrt().float()
    if candidates.level is not None:
        yield "level", candidates.level.float().expand(candidates.valid.shape)
    if selection.losses is not None:
        yield "loss", selection.losses.classification.float()
