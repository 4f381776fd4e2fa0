"""Rounds of training: between two of them the training set is mined for what the detector gets wrong.

Sung & Poggio 1998, "Example-based learning for view-based human face detection": run the detector where the answer is
known, add what it wrongly found to the negatives (and, in the symmetric form, put what it missed back among the
positives), train on. As there, what is found accumulates: no round forgets what an earlier one found. Every round is a
file of the run folder, and what later rounds train on is read from these alone.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from harness.core.boxes import pairwise_iof, pairwise_iou
from harness.core.processes import process_rank
from harness.core.structures import MiningPlan, MiningSampler, Need, Sampler
from harness.data.dataset import Annotations, DetectionDataset
from harness.runs.integrity import DamagedFileError
from harness.runs.records import read_json, write_json
from harness.runs.schema import ConfigError
from harness.training.checkpoint import CheckpointError

log = logging.getLogger("harness")

FOUND_IOU = 0.5  # an object is found by a confident detection of its class from this IoU on
SAME_IOU = 0.7  # two false positives that overlap this much are one, and a stored one is not stored again
MIN_SIDE = 1.0  # px; a smaller box shows nothing, and rounding may empty it

Row = dict[str, Any]  # a detection in COCO's results format
Missed = dict[str, Any]  # {image_id, object: its place in the image, found_as: the wrong category, or null}


def mining_plan(samplers: Iterable[Sampler | None]) -> MiningPlan | None:
    """What the samplers of all stages that declare ``Need.MINING`` ask for; ``None`` where none does.

    Raises:
        ConfigError: two of them ask for different things, but the detector is mined as a whole.
    """
    mining = [sampler for sampler in samplers if sampler is not None and Need.MINING in sampler.needs]
    asked = {cast(MiningSampler, sampler).mining for sampler in mining}
    if len(asked) > 1:
        raise ConfigError(
            "the samplers of two stages mine differently: every_epochs, score_thr, max_iou and max_per_image must be "
            "equal, because the detector is mined as a whole"
        )
    return next(iter(asked), None)


class Mining:
    """The rounds of one run.

    Args:
        plan: ``None``: the training is one round, and nothing is ever mined.
        dataset: the training images.
        folder: where the files of the rounds are.
        iterations: of the whole training.
        batch_size: images of an iteration.
    """

    def __init__(
        self, plan: MiningPlan | None, dataset: DetectionDataset, folder: Path, *, iterations: int, batch_size: int
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.found: list[list[Row]] = []  # by round, the false positives
        self.missed: list[Missed] = []  # of the last round, where the plan asks for them
        self._plain = dataset
        self.stops: list[int] = []  # iterations after which the training set is mined, the end of training excluded
        if plan is not None:
            every = max(1, round(plan.every_epochs * len(dataset) / batch_size))
            self.stops = list(range(every, iterations, every))
            if not self.stops:
                log.warning("nothing is mined: a round takes %d iterations, the training has %d", every, iterations)

    @property
    def dataset(self) -> DetectionDataset:
        """The training images with all false positives found so far as background boxes, and with the objects that the
        last round missed marked as hard: what is found again is no longer hard."""
        background = boxes_by_image(row for rows in self.found for row in rows)
        if self.plan is None or not self.plan.positives:
            return self._plain.with_mined(background)
        hard: defaultdict[int, list[int]] = defaultdict(list)
        for entry in self.missed:
            hard[entry["image_id"]].append(entry["object"])
        return self._plain.with_mined(background, hard)

    def resume(self, iteration: int) -> list[int]:
        """Reads the rounds that lie before ``iteration`` and returns the stops that are still to come.

        A stop at ``iteration`` itself is to come: its file may not have been written before the training was stopped.

        Raises:
            CheckpointError: the file of a round that the checkpoint has trained with is missing or damaged.
        """
        passed = [stop for stop in self.stops if stop < iteration]
        rounds = [read_round(self._file(number), number, stop) for number, stop in enumerate(passed, start=1)]
        self.found = [rows for rows, _ in rounds]
        self.missed = rounds[-1][1] if rounds else []
        return self.stops[len(passed) :]

    def add(self, iteration: int, detections: Iterable[Row]) -> None:
        """Stores what is false among ``detections`` of the training images, after ``iteration`` iterations, and where
        the plan asks for it which objects they miss. Of several processes all are told; the first one writes."""
        assert self.plan is not None
        plan = self.plan
        detections = list(detections)
        rows = false_positives(
            self._plain.annotations,
            detections,
            score_thr=plan.score_thr,
            max_iou=plan.max_iou,
            max_per_image=plan.max_per_image,
            stored=[row for rows in self.found for row in rows],
        )
        self.found.append(rows)
        self.missed = []
        if plan.positives:
            self.missed = missed_objects(self._plain.annotations, detections, score_thr=plan.score_thr)
        number = len(self.found)
        if process_rank() == 0:
            self.folder.mkdir(exist_ok=True)
            record = {"round": number, "iteration": iteration, "parameters": asdict(plan), "detections": rows}
            write_json(self._file(number), {**record, "missed": self.missed}, indent=None)
        what = f"{len(rows)} new false positives" + (f", {len(self.missed)} missed objects" if plan.positives else "")
        log.info("mining round %d after %d iterations: %s", number, iteration, what)

    def summary(self) -> dict[str, Any]:
        """For the run's result: the boxes that each round found; empty for a run that does not mine."""
        if self.plan is None:
            return {}
        boxes = {"mined_boxes": [len(rows) for rows in self.found]}
        return {**boxes, "missed_objects": len(self.missed)} if self.plan.positives else boxes

    def _file(self, number: int) -> Path:
        return self.folder / f"round_{number}.json"


def read_round(path: Path, number: int, iteration: int | None = None) -> tuple[list[Row], list[Missed]]:
    """False positives and missed objects in the file of round ``number``, mined after ``iteration`` iterations.

    ``None`` as iteration does not look at when the round was mined.

    Raises:
        CheckpointError: it is missing, may not be read, is damaged or of another training; the message names the file.
    """
    again = "remove checkpoint.pt to start afresh"
    try:
        record = read_json(path)
        if set(record) != {"round", "iteration", "parameters", "detections", "missed"}:
            raise DamagedFileError(f"{path} is damaged: its keys are {', '.join(record)}")
        if record["round"] != number or iteration not in (None, record["iteration"]):
            raise CheckpointError(f"{path} is of another training; {again}")
        rows: list[Row] = record["detections"]
        missed: list[Missed] = record["missed"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
        reason = error if isinstance(error, DamagedFileError) else f"{path} cannot be read"
        raise CheckpointError(f"{reason}, and the checkpoint was trained with it; {again}") from error
    return rows, missed


def false_positives(
    annotations: Annotations,
    detections: Iterable[Row],
    *,
    score_thr: float,
    max_iou: float,
    max_per_image: int,
    stored: Iterable[Row] = (),
) -> list[Row]:
    """The confident detections that are on no object, of whatever class.

    Image by image, the most confident first: a detection is kept unless it overlaps one that is kept or ``stored`` with
    an IoU of ``SAME_IOU`` or more. With a crowd region or a difficult object, the share of the detection inside it
    counts in place of the IoU, as in COCO's evaluation: an object that nobody outlined may be there.

    Args:
        annotations: of the images.
        detections: ``[{image_id, category_id, bbox: [x, y, w, h], score}, ...]``.
        score_thr: the least score.
        max_iou: an overlap with an object from this on makes a detection no false positive.
        max_per_image: keep at most so many of an image.
        stored: false positives that are known already.

    Returns:
        rows of ``detections``, unchanged; images in the order in which they appear there.
    """
    index_of = {image_id: index for index, image_id in enumerate(annotations.ids)}
    known = boxes_by_image(stored)
    confident: defaultdict[int, list[Row]] = defaultdict(list)
    for row in detections:
        if row["score"] >= score_thr:
            confident[row["image_id"]].append(row)
    kept: list[Row] = []
    for image_id, rows in confident.items():
        index = index_of[image_id]
        ordered = sorted(rows, key=_score, reverse=True)
        width, height = annotations.sizes[index]
        boxes = torch.from_numpy(corners(ordered)).clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        false = _off_objects(boxes, annotations, index, max_iou) & ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE).all(1)
        known_boxes = torch.from_numpy(known.get(image_id, corners([])))
        kept += [ordered[i] for i in _distinct(boxes, false, known_boxes, max_per_image)]
    return kept


def missed_objects(annotations: Annotations, detections: Iterable[Row], *, score_thr: float) -> list[Missed]:
    """The objects that no confident detection of their class covers with an IoU of ``FOUND_IOU`` or more.

    Crowd regions and difficult objects are never missed.

    Args:
        annotations: of the images.
        detections: ``[{image_id, category_id, bbox: [x, y, w, h], score}, ...]``; a category is a label.
        score_thr: the least score of a confident detection.

    Returns:
        ``[{image_id, object, found_as}, ...]`` in the order of the annotations. ``found_as`` is the category of the
        most confident detection of another class that covers the object so well; ``None`` where none does.
    """
    confident: defaultdict[int, list[Row]] = defaultdict(list)
    for row in detections:
        if row["score"] >= score_thr:
            confident[row["image_id"]].append(row)
    missed: list[Missed] = []
    for index, image_id in enumerate(annotations.ids):
        rows = annotations.rows(index)
        found = sorted(confident[image_id], key=_score, reverse=True)
        boxes, objects = torch.from_numpy(corners(found)), torch.from_numpy(annotations.boxes[rows])
        covers = pairwise_iou(objects, boxes) >= FOUND_IOU
        labels = annotations.labels[rows]
        for number in np.flatnonzero(~annotations.ignore[rows]).tolist():
            categories = [row["category_id"] for row, on in zip(found, covers[number].tolist(), strict=True) if on]
            if labels[number] not in categories:
                wrong = categories[0] if categories else None
                missed.append({"image_id": image_id, "object": number, "found_as": wrong})
    return missed


def corners(rows: Sequence[Row]) -> NDArray[np.float64]:
    """``(n, 4)`` xyxy px of rows in COCO's results format."""
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)


def boxes_by_image(rows: Iterable[Row]) -> Mapping[int, NDArray[np.float64]]:
    """Image id to its boxes, ``(n, 4)`` xyxy px."""
    by_image: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_image[row["image_id"]].append(row)
    return {image_id: corners(own) for image_id, own in by_image.items()}


def _score(row: Row) -> float:
    return float(row["score"])


def _off_objects(boxes: torch.Tensor, annotations: Annotations, index: int, max_iou: float) -> torch.Tensor:
    """``(n,)`` bool: which of ``boxes (n, 4)`` overlap every object of an image less than ``max_iou``."""
    rows = annotations.rows(index)
    objects = torch.from_numpy(annotations.boxes[rows])
    ignored = torch.from_numpy(annotations.ignore[rows])
    share = pairwise_iof(boxes, objects).T
    overlap = torch.where(ignored.unsqueeze(1), share, pairwise_iou(objects, boxes))
    return (overlap < max_iou).all(0)


def _distinct(boxes: torch.Tensor, allowed: torch.Tensor, stored: torch.Tensor, most: int) -> list[int]:
    """The first ``most`` allowed ones of ``boxes (n, 4)`` that are neither one before nor ``stored (m, 4)`` again."""
    others = torch.cat((stored, boxes))
    same = (pairwise_iou(others, boxes) >= SAME_IOU).numpy()
    taken = np.zeros(len(others), dtype=bool)
    taken[: len(stored)] = True
    chosen: list[int] = []
    for i in range(len(boxes)):
        if len(chosen) < most and allowed[i] and not same[taken, i].any():
            chosen.append(i)
            taken[len(stored) + i] = True
    return chosen
