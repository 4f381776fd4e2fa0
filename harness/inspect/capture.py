"""Runs the detector's own selection on some images and keeps what every stage was offered and took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.core.boxes import pairwise_iou
from harness.core.structures import IGNORED, NEGATIVE
from harness.criterion.stage import Selection
from harness.data.class_counts import class_counts
from harness.data.dataset import DatasetItem as ImageAndTarget
from harness.data.image_samplers.drawing import epoch_order
from harness.data.image_samplers.presence import class_presence
from harness.data.loading import AugmentedDataset, TrainOrder, to_device
from harness.data.splits import Splits
from harness.experiment.pieces import build
from harness.inspect.setting import Setting
from harness.training import checkpoint
from harness.training.streams import Streams

Array = np.ndarray[Any, Any]
NEAR = 0.1  # IoU from which a candidate is one that an object could have had
CODES = {"negative": NEGATIVE, "ignored": IGNORED}


@dataclass(frozen=True)
class Taken:
    """What one sampler took in one image."""

    index: Array  # (n,) into the candidates
    positive: Array  # (n,) bool


@dataclass(frozen=True)
class Seen:
    """One stage's selection in one image, in the pixels of what the detector sees. ``G`` objects, ``N`` candidates."""

    image: Array  # (H, W, 3) in 0..1
    objects: Array  # (G, 4)
    names: list[str]  # (G,) classes
    crowd: Array  # (G,) bool
    boxes: Array  # (N, 4)
    points: bool  # candidates are points: their centers say more than their squares
    gt_index: Array  # (N,) object, -1 negative, -2 ignored
    max_iou: Array  # (N,)
    iou: Array  # (G, N)
    level: Array  # (N,) level of the pyramid, 0 where candidates have none
    is_truth: Array  # (N,) bool
    taken: dict[str, Taken]  # the training sampler first, then the shadows


class _Recorder:
    def __init__(self) -> None:
        self.selections: dict[str, Selection] = {}

    def __call__(self, stage: str, selection: Selection) -> None:
        self.selections[stage] = selection


def training_images(splits: Splits, setting: Setting, count: int) -> list[ImageAndTarget]:
    """The first images of the run's own training stream, after their augmentation."""
    run = setting.config.run
    seed = Streams(setting.config.seed, torch.device("cpu")).data
    sampler = build(setting.config.image_sampler, "image_sampler")
    weights = sampler.weights(class_presence(splits.train))
    order = partial(epoch_order, len(splits.train), seed, weights=weights)
    places = TrainOrder(len(splits.train), run.batch_size, seed, 0, run.iterations, order=order)
    dataset = AugmentedDataset(splits.train, splits.augment, seed)
    steps = -(-count // run.batch_size)
    return [dataset[place] for step in range(steps) for place in places.batch(step)][:count]


def selections(
    setting: Setting, splits: Splits, samples: list[ImageAndTarget], weights: Path | None
) -> dict[str, list[Seen]]:
    """What every stage sees in ``samples``, by stage.

    Args:
        setting: the configuration.
        splits: its data.
        samples: images with their targets.
        weights: ``model.pt`` or ``checkpoint.pt`` of a run; ``None`` looks through freshly initialized weights.

    Raises:
        harness.app.run_end.Stopped: the combination is refused.
        harness.training.checkpoint.CheckpointError: the checkpoint cannot be read.
    """
    experiment = setting.experiment
    streams = Streams(setting.config.seed, torch.device("cpu"))
    recorder = _Recorder()
    model = experiment.pieces.equip(
        experiment.detector(streams, splits.classes),
        streams,
        observers=[recorder],
        class_counts=class_counts(splits.train),
    )
    if weights is not None:
        state = checkpoint.load(weights)
        model.load_state_dict(state["model"] if weights.name == "checkpoint.pt" else state)
    images, targets = to_device(([image for image, _ in samples], [target for _, target in samples]), "cpu")
    with torch.no_grad():
        shown = _run(model, images, targets)
    names = [[splits.classes[int(label) - 1] for label in target["labels"]] for target in targets]
    own = {stage: setting.choices.get(f"sampler@{stage}.sampler") for stage in recorder.selections}
    return {
        stage: list(_images_of(selection, shown, names, own[stage] or setting.choices.get("sampler", "sampled")))
        for stage, selection in recorder.selections.items()
    }


def _run(model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]) -> list[Array]:
    """A training forward pass; returns the images as the detector's first layer gets them, in colors again."""
    seen: list[Any] = []
    transform: Any = model.transform
    handle = transform.register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    try:
        model.train()
        model(images, targets)
    finally:
        handle.remove()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (transform.image_mean, transform.image_std))
    return [
        (tensor[:, :height, :width] * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()
        for tensor, (height, width) in zip(seen[0].tensors, seen[0].image_sizes, strict=True)
    ]


def _images_of(selection: Selection, images: list[Array], names: list[list[str]], sampler: str) -> Iterator[Seen]:
    candidates, truth, assignment = selection.candidates, selection.truth, selection.assignment
    ious = pairwise_iou(truth.boxes, candidates.boxes)
    samples = {sampler: selection.sample}
    for name, sample in selection.shadows.items():
        samples[f"{name} (shadow)"] = sample
    for i, image in enumerate(images):
        real = candidates.valid[i]
        place = torch.cumsum(real.long(), 0) - 1  # padded candidates leave no gap
        objects = truth.valid[i]
        taken = {}
        for name, sample in samples.items():
            used = sample.used[i]
            index = place[sample.index[i][used]]
            taken[name] = Taken(index.numpy(), sample.positive[i][used].numpy())
        levels = torch.zeros_like(real, dtype=torch.long) if candidates.level is None else candidates.level
        joined = torch.zeros_like(real) if candidates.is_truth is None else candidates.is_truth[i]
        yield Seen(
            image=image,
            objects=truth.boxes[i][objects].float().numpy(),
            names=names[i],
            crowd=truth.crowd[i][objects].numpy(),
            boxes=candidates.boxes[i][real].float().numpy(),
            points=bool(candidates.is_point[i].all()) and real.numel() > 0,
            gt_index=assignment.gt_index[i][real].numpy(),
            max_iou=assignment.max_iou[i][real].float().numpy(),
            iou=ious[i][objects][:, real].float().numpy(),
            level=levels[real].numpy(),
            is_truth=joined[real].numpy(),
            taken=taken,
        )


def of_object(seen: Seen, number: int) -> dict[str, Array]:
    """An object's positives, and the negatives and ignored near it, as candidate indices, the nearest first.

    Near is a box that overlaps it by ``NEAR``, or a point inside it.
    """
    near = seen.iou[number] >= NEAR
    if seen.points:
        (x1, y1, x2, y2), x, y = seen.objects[number], *((seen.boxes[:, :2] + seen.boxes[:, 2:]) / 2).T
        near = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    groups = {"positive": seen.gt_index == number}
    groups |= {kind: (seen.gt_index == code) & near for kind, code in CODES.items()}
    indices = {kind: np.flatnonzero(members) for kind, members in groups.items()}
    return {kind: index[np.argsort(-seen.iou[number][index], kind="stable")] for kind, index in indices.items()}
