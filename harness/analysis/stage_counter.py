"""Counts what one stage was offered and what its samplers took, on the device, with few and small operations.

A training step of a small detector takes tens of milliseconds and a tensor operation some microseconds, so what costs
is the number of operations. All histograms are therefore one: a candidate falls into one cell a quantity, and one
``scatter_add_`` a population counts them all, together with the number of candidates of every object and image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.analysis.bins import AVAILABLE, CANDIDATE_QUANTITIES, EDGES, KINDS, OBJECT_KINDS, SAMPLED
from harness.boxes import area
from harness.criterion import Selection
from harness.types import IGNORED

# What a candidate is: 0 ignored or padded, 1 negative, 2 positive; 3 more where it is a joined ground-truth box.
CODES = 6
NEGATIVE_CODE, POSITIVE_CODE, TRUTH_CODES = 1, 2, 3
ROW_OF_KIND = {"positive": [POSITIVE_CODE], "negative": [NEGATIVE_CODE], "truth": [4, 5]}
WIDTH = max(len(EDGES[quantity]) for quantity in CANDIDATE_QUANTITIES) + 1  # bins of the finest quantity

Histogram = np.ndarray[Any, Any]


class StageCounter:
    """The counts of one stage since they were last read.

    Args:
        populations: ``available``, ``sampled`` and the names of the shadow samplers.
        quantities: those of ``CANDIDATE_QUANTITIES`` that the stage knows.
    """

    def __init__(self, populations: tuple[str, ...], quantities: tuple[str, ...]) -> None:
        self.populations = populations
        self.quantities = quantities
        self.images = 0
        size = len(populations)
        self.counts = {
            "candidates": torch.zeros(size, len(quantities) * CODES * WIDTH, dtype=torch.long),
            "per_image": torch.zeros(size, len(KINDS), len(EDGES["per_image"]) + 1, dtype=torch.long),
            "per_object": torch.zeros(size, len(OBJECT_KINDS), len(EDGES["per_object"]) + 1, dtype=torch.long),
        }
        self._device = torch.device("cpu")
        self._edges, self._starts = self._tables()

    @classmethod
    def of(cls, selection: Selection) -> StageCounter:
        """An empty counter for selections like this one."""
        known = {"level": selection.candidates.level, "loss": selection.losses}
        quantities = tuple(name for name in CANDIDATE_QUANTITIES if name not in known or known[name] is not None)
        return cls((AVAILABLE, SAMPLED, *selection.shadows), quantities)

    def add(self, selection: Selection) -> None:
        """Counts one selection of ``B`` images; waits for nothing."""
        truth, candidates, samples = selection.truth, selection.candidates, [selection.sample]
        samples += selection.shadows.values()
        self._move(candidates.valid.device)
        batch, objects = truth.labels.shape
        # 0 ignored or padded, 1 negative, from 2 on the object: everything below is arithmetic on this number.
        slot = torch.where(candidates.valid, selection.assignment.gt_index, IGNORED) + 2
        code = slot.clamp(max=POSITIVE_CODE)
        image_start = torch.arange(batch, device=slot.device).unsqueeze(1) * (2 * (objects + 2))
        place = slot + (image_start + self.counts["candidates"].shape[1])
        if candidates.is_truth is not None:
            code = code.add(candidates.is_truth, alpha=TRUTH_CODES)
            place = place.add(candidates.is_truth, alpha=objects + 2)

        values = torch.stack(self._values(selection)).flatten(1)
        cells = torch.searchsorted(self._edges, values, right=True).add_((code * WIDTH).flatten()).add_(self._starts)
        cells = torch.cat((cells.view(len(values), *slot.shape), place.unsqueeze(0)))
        width = self.counts["candidates"].shape[1]
        fresh = torch.zeros(
            len(self.populations), width + batch * 2 * (objects + 2), dtype=torch.long, device=slot.device
        )
        fresh[0].scatter_add_(0, cells.flatten(), fresh.new_ones(()).expand(cells.numel()))
        for row, sample in zip(fresh[1:], samples, strict=True):
            taken = cells if sample.in_order else cells.gather(-1, sample.index.expand(len(cells), -1, -1))
            row.scatter_add_(0, taken.flatten(), sample.used.long().expand(taken.shape).flatten())

        self.images += batch
        self.counts["candidates"] += fresh[:, :width]
        self._add_per_image_and_object(fresh[:, width:].view(-1, batch, 2, objects + 2), truth.matchable)

    def _add_per_image_and_object(self, table: Tensor, matchable: Tensor) -> None:
        """``table (populations, B, found or joined, ignored + negative + G)`` counts the candidates of each."""
        of_object = table[..., 2:]
        positives, negatives = of_object.sum(-1), table[..., 1]
        per_image = torch.stack((positives[..., 0], negatives[..., 0], positives[..., 1] + negatives[..., 1]), 1)
        per_object = torch.stack((of_object[:, :, 0], of_object.sum(2)), 1)
        self._add("per_image", per_image, torch.ones_like(per_image))
        self._add("per_object", per_object, matchable.long().expand(per_object.shape))

    def _add(self, quantity: str, numbers: Tensor, weight: Tensor) -> None:
        """``numbers (populations, kinds, ...)``."""
        counter = self.counts[quantity]
        bins = torch.bucketize(numbers, self._count_edges[quantity], right=True)
        counter.scatter_add_(2, bins.flatten(2), weight.flatten(2))

    def _values(self, selection: Selection) -> list[Tensor]:
        """``(B, N)`` float32, in the order of the quantities."""
        candidates, losses = selection.candidates, selection.losses
        values = [selection.assignment.max_iou.float(), area(candidates.boxes.float())]
        if candidates.level is not None:
            values.append(candidates.level.float().expand(candidates.valid.shape))
        if losses is not None:
            values.append(losses.classification.float())
        return values

    def _tables(self) -> tuple[Tensor, Tensor]:
        """``(quantities, WIDTH - 1)`` edges, the missing ones infinite, and ``(quantities, 1)`` first cells."""
        self._count_edges = {name: EDGES[name].to(self._device) for name in ("per_image", "per_object")}
        edges = torch.full((len(self.quantities), WIDTH - 1), torch.inf)
        for row, quantity in zip(edges, self.quantities, strict=True):
            own = EDGES[quantity]
            row[: len(own)] = own.square() if quantity == "size" else own  # areas against squares save the root
        starts = torch.arange(len(self.quantities)).unsqueeze(1) * (CODES * WIDTH)
        return edges.to(self._device), starts.to(self._device)

    def _move(self, device: torch.device) -> None:
        if device != self._device:
            self._device = device
            self.counts = {name: value.to(device) for name, value in self.counts.items()}
            self._edges, self._starts = self._tables()

    def read(self) -> tuple[dict[str, Histogram], dict[str, dict[str, int]]]:
        """The histograms, ``"<quantity>/<population>/<kind>"``, and the counts a population; starts anew.

        This waits for the device.
        """
        host = {name: counter.cpu().numpy().copy() for name, counter in self.counts.items()}
        histograms, counts = {}, {}
        table = host["candidates"].reshape(len(self.populations), len(self.quantities), CODES, WIDTH)
        for number, population in enumerate(self.populations):
            for quantity, rows in zip(self.quantities, table[number], strict=True):
                for kind in KINDS:
                    histograms[f"{quantity}/{population}/{kind}"] = _fold(rows[ROW_OF_KIND[kind]].sum(0), quantity)
            for quantity, kinds in (("per_image", KINDS), ("per_object", OBJECT_KINDS)):
                for kind, row in zip(kinds, host[quantity][number], strict=True):
                    histograms[f"{quantity}/{population}/{kind}"] = row
            codes = table[number, 0].sum(-1)
            with_truth = host["per_object"][number, 1]
            counts[population] = {
                "images": self.images,
                "objects": int(with_truth.sum()),
                "objects_without_positive": int(with_truth[0]),
                "positive": int(codes[2] + codes[5]),
                "negative": int(codes[1] + codes[4]),
                "truth": int(codes[4] + codes[5]),
            }
        for counter in self.counts.values():
            counter.zero_()
        self.images = 0
        return histograms, counts

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers."""
        return {
            "populations": list(self.populations),
            "quantities": list(self.quantities),
            "images": self.images,
            "counts": {name: counter.clone() for name, counter in self.counts.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> StageCounter:
        """What :meth:`state_dict` was taken of, on the CPU until its next selection."""
        counter = cls(tuple(state["populations"]), tuple(state["quantities"]))
        counter.images = state["images"]
        counter.counts = {name: value.cpu().clone() for name, value in state["counts"].items()}
        return counter


def _fold(row: Histogram, quantity: str) -> Histogram:
    """A row of ``WIDTH`` bins cut to the quantity's own; not-a-number and infinity lie behind them all."""
    last = len(EDGES[quantity])
    return np.append(row[:last], row[last:].sum())
