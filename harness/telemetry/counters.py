"""Counts what one stage was offered and what its samplers took, on the device, with few and small operations.

A training step of a small detector takes tens of milliseconds and a tensor operation some microseconds, so what costs
is the number of operations. All histograms are therefore one: a candidate falls into one cell per quantity, and one
``scatter_add_`` per population counts them all, together with the number of candidates of every object and image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from harness.core.boxes import area
from harness.core.processes import process_rank, reduce_sum
from harness.core.structures import IGNORED, CandidateLosses
from harness.criterion.stage import Selection
from harness.telemetry.bins import AVAILABLE, CANDIDATE_QUANTITIES, EDGES, KINDS, OBJECT_KINDS, SAMPLED

# What a candidate is: 0 ignored or padded, 1 negative, 2 positive; 3 more where it is a joined ground-truth box.
CODES = 6
NEGATIVE_CODE, POSITIVE_CODE, TRUTH_CODES = 1, 2, 3
ROW_OF_KIND = {"positive": [POSITIVE_CODE], "negative": [NEGATIVE_CODE], "truth": [4, 5]}
WIDTH = max(len(EDGES[quantity]) for quantity in CANDIDATE_QUANTITIES) + 1  # bins of the finest quantity
FEW = 65_536  # losses that wait to be counted together
SELECTIONS = 32  # that are counted before their objects and images are

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
            "candidates": torch.zeros(size, len(quantities), CODES * WIDTH, dtype=torch.long),
            # Of what was sampled, where no candidate's is known.
            "losses": torch.zeros(CODES * WIDTH, dtype=torch.long),
            "per_image": torch.zeros(size, len(KINDS), len(EDGES["per_image"]) + 1, dtype=torch.long),
            "per_object": torch.zeros(size, len(OBJECT_KINDS), len(EDGES["per_object"]) + 1, dtype=torch.long),
        }
        # What was counted last: one row per quantity, one more with a cell per object of each image. It is folded
        # into the counts every so often, because that takes as many operations as counting does.
        self._recent = torch.zeros(size, len(quantities) + 1, 0, dtype=torch.long)
        self._matchable: list[Tensor] = []  # (B, G) of the selections that are in there
        self._losses: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # loss, weight, positive, joined: (B, S) each
        self._room = (0, 0)  # images, and objects per image, that fit
        self._constants(torch.device("cpu"))

    @classmethod
    def of(cls, selection: Selection) -> StageCounter:
        """An empty counter for selections like this one."""
        known = {"level": selection.candidates.level, "loss": selection.losses}
        quantities = tuple(name for name in CANDIDATE_QUANTITIES if name not in known or known[name] is not None)
        return cls((AVAILABLE, SAMPLED, *selection.shadows), quantities)

    def add(self, selection: Selection) -> None:
        """Counts one selection of ``B`` images; waits for nothing."""
        candidates, valid = selection.candidates, selection.candidates.valid
        self._move(valid.device)
        first, objects = self._make_room(selection.truth.matchable)
        image_cells = 2 * (objects + 2)
        # 0 ignored or padded, 1 negative, from 2 on the object: everything below is arithmetic on this number.
        slot = (selection.assignment.gt_index - IGNORED).mul_(valid)
        code = slot.clamp(max=POSITIVE_CODE)
        starts = torch.arange(first, first + len(valid), device=valid.device).unsqueeze(1)
        place = slot.add_(starts, alpha=image_cells)
        if candidates.is_truth is not None:
            code.add_(candidates.is_truth, alpha=TRUTH_CODES)
            place.add_(candidates.is_truth, alpha=objects + 2)

        values = torch.stack(self._values(selection)).flatten(1)
        cells = torch.searchsorted(self._edges, values, right=True).add_(code.flatten(), alpha=WIDTH)
        cells = torch.cat((cells, place.view(1, -1)))
        self._recent[0].scatter_add_(1, cells, self._one.expand(cells.shape))
        for row, sample in zip(self._recent[1:], (selection.sample, *selection.shadows.values()), strict=True):
            taken = cells
            if not sample.in_order:
                by_image = cells.view(len(cells), *valid.shape)
                taken = by_image.gather(2, sample.index.expand(len(cells), -1, -1)).flatten(1)
            row.scatter_add_(1, taken, sample.used.long().view(1, -1).expand(taken.shape))
        self.images += len(valid)

    def add_losses(self, selection: Selection, losses: CandidateLosses) -> None:
        """Counts the classification losses of the slots of a selection; waits for nothing."""
        sample, is_truth = selection.sample, selection.candidates.is_truth
        joined = torch.zeros_like(sample.positive) if is_truth is None else sample.take(is_truth)
        self._losses.append((losses.classification.float(), sample.weight, sample.positive, joined))
        if sum(part[0].numel() for part in self._losses) > FEW:
            self._fold_losses()

    def _fold_losses(self) -> None:
        """Counts the losses that wait: few of them cost as many operations as many do."""
        if not self._losses:
            return
        values, weight, positive, joined = (
            torch.cat([p.flatten() for p in part]) for part in zip(*self._losses, strict=True)
        )
        used = (weight > 0).long()
        code = (used + positive).add_(joined, alpha=TRUTH_CODES)  # 1 negative, 2 positive
        cells = torch.searchsorted(self._loss_edges, values, right=True).add_(code, alpha=WIDTH)
        self.counts["losses"].scatter_add_(0, cells, used)
        self._losses.clear()

    def _make_room(self, matchable: Tensor) -> tuple[int, int]:
        """The place of the first image of a selection with ``matchable (B, G)``, and the objects that fit an image."""
        images, objects = matchable.shape
        first = sum(len(own) for own in self._matchable)
        if first + images > self._room[0] or objects > self._room[1]:
            self._fold()
            first = 0
            self._room = max(self._room[0], images * SELECTIONS), max(self._room[1], objects)
            width = max(CODES * WIDTH, self._room[0] * 2 * (self._room[1] + 2))
            if width > self._recent.shape[2]:
                self._recent = self._recent.new_zeros(*self._recent.shape[:2], width)
        self._matchable.append(matchable)
        return first, self._room[1]

    def _fold(self) -> None:
        """Brings what was counted last into the counts."""
        self._fold_losses()
        if not self._matchable:
            return
        objects = self._room[1]
        matchable = torch.cat([pad(own, (0, objects - own.shape[1])) for own in self._matchable])
        self.counts["candidates"] += self._recent[:, :-1, : CODES * WIDTH]
        table = self._recent[:, -1, : len(matchable) * 2 * (objects + 2)].view(-1, len(matchable), 2, objects + 2)
        self._add_per_image_and_object(table, matchable)
        self._recent.zero_()
        self._matchable.clear()

    def _add_per_image_and_object(self, table: Tensor, matchable: Tensor) -> None:
        """``table (populations, B, found or joined, ignored + negative + G)`` counts the candidates of each."""
        found, joined = table[..., 2:].unbind(2)
        negatives, joined_negatives = table[..., 1].unbind(2)
        per_image = torch.stack((found.sum(-1), negatives, joined.sum(-1) + joined_negatives), 1)
        per_object = torch.stack((found, found + joined), 1)
        self._add("per_image", per_image, torch.ones_like(per_image))
        self._add("per_object", per_object, matchable.long().expand(per_object.shape))

    def _add(self, quantity: str, numbers: Tensor, weight: Tensor) -> None:
        """``numbers (populations, kinds, ...)``."""
        bins = torch.bucketize(numbers, self._count_edges[quantity], right=True)
        self.counts[quantity].scatter_add_(2, bins.flatten(2), weight.flatten(2))

    def _values(self, selection: Selection) -> list[Tensor]:
        """``(B, N)`` float32, in the order of the quantities."""
        candidates, losses = selection.candidates, selection.losses
        values = [selection.assignment.max_iou.float(), area(candidates.boxes.float())]
        if candidates.level is not None:
            values.append(candidates.level.float().expand(candidates.valid.shape))
        if losses is not None:
            values.append(losses.classification.float())
        return values

    def _constants(self, device: torch.device) -> None:
        """Tensors that never change; ``_edges (quantities, WIDTH - 1)``, the missing ones infinite."""
        edges = torch.full((len(self.quantities), WIDTH - 1), torch.inf)
        for row, quantity in zip(edges, self.quantities, strict=True):
            own = EDGES[quantity]
            row[: len(own)] = own.square() if quantity == "size" else own  # areas against squares save the root
        self._edges, self._loss_edges = edges.to(device), EDGES["loss"].to(device)
        self._count_edges = {name: EDGES[name].to(device) for name in ("per_image", "per_object")}
        self._one = torch.ones((), dtype=torch.long, device=device)

    def _move(self, device: torch.device) -> None:
        if device != self._one.device:
            self.counts = {name: value.to(device) for name, value in self.counts.items()}
            self._recent = self._recent.to(device)
            self._constants(device)

    def read(self) -> tuple[dict[str, Histogram], dict[str, dict[str, int]]]:
        """The histograms, ``"<quantity>/<population>/<kind>"``, and the counts a population; starts anew.

        Both are summed over all processes. This waits for the device.
        """
        self._fold()
        host = {name: reduce_sum(counter).cpu().numpy().copy() for name, counter in self.counts.items()}
        images = int(reduce_sum(torch.tensor(self.images)))
        histograms, counts = {}, {}
        table = host["candidates"].reshape(len(self.populations), len(self.quantities), CODES, WIDTH)
        for number, population in enumerate(self.populations):
            for quantity, rows in zip(self.quantities, table[number], strict=True):
                for kind in KINDS:
                    histograms[f"{quantity}/{population}/{kind}"] = _cut(rows[ROW_OF_KIND[kind]].sum(0), quantity)
            if population == SAMPLED and "loss" not in self.quantities:
                for kind in KINDS:
                    rows = host["losses"].reshape(CODES, WIDTH)[ROW_OF_KIND[kind]]
                    histograms[f"loss/{population}/{kind}"] = _cut(rows.sum(0), "loss")
            for quantity, kinds in (("per_image", KINDS), ("per_object", OBJECT_KINDS)):
                for kind, row in zip(kinds, host[quantity][number], strict=True):
                    histograms[f"{quantity}/{population}/{kind}"] = row
            codes = table[number, 0].sum(-1)
            with_truth = host["per_object"][number, 1]
            counts[population] = {
                "images": images,
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
        """Tensors and plain containers, summed over all processes."""
        self._fold()
        return {
            "populations": list(self.populations),
            "quantities": list(self.quantities),
            "images": int(reduce_sum(torch.tensor(self.images))),
            "counts": {name: reduce_sum(counter).clone() for name, counter in self.counts.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> StageCounter:
        """What :meth:`state_dict` was taken of, on the CPU until its next selection."""
        counter = cls(tuple(state["populations"]), tuple(state["quantities"]))
        if process_rank() > 0:
            return counter  # the first process goes on with what all of them had counted
        counter.images = state["images"]
        counter.counts = {name: value.cpu().clone() for name, value in state["counts"].items()}
        return counter


def _cut(row: Histogram, quantity: str) -> Histogram:
    """A row of ``WIDTH`` bins cut to the quantity's own; not-a-number and infinity lie behind them all."""
    last = len(EDGES[quantity])
    return np.append(row[:last], row[last:].sum())
