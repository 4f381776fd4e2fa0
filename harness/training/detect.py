"""Runs a detector over a data set and returns its detections in COCO's results format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.core.processes import any_process, gather_objects, gather_objects_to_first, process_count
from harness.data.loading import Batch, to_device
from harness.data.outlines import encode_mask
from harness.training.devices import autocast
from harness.training.interrupt import StopRequested, StopSignals

MASK_THRESHOLD = 0.5  # probability from which on a pixel belongs to the object (He et al. 2017, section 3.1)


@torch.no_grad()
def detect(model: nn.Module, batches: Iterable[Batch], device: torch.device, precision: str) -> list[dict[str, Any]]:
    """``[{image_id, category_id, bbox: [x, y, w, h], score}, ...]`` in the order of the images; a category is a label.

    Detectors of masks add ``segmentation`` (compressed RLE of the pixels above one half), those of keypoints
    ``keypoints`` (x, y, 1 each). Label 0, the background, is left out: torchvision's FCOS and RetinaNet can
    report it.

    Args:
        model: a torchvision-style detector; left in the mode it was in.
        batches: ``(images, targets)``; of the targets only ``image_id`` is read.
        device: where the model is.
        precision: ``fp32`` or ``bf16``.
    """
    training = model.training
    model.eval()
    rows: list[dict[str, Any]] = []
    try:
        for images, targets in batches:
            with autocast(device, precision):
                outputs = model(to_device((images, []), device)[0])
            for target, output in zip(targets, outputs, strict=True):
                boxes = output["boxes"].float().cpu()
                xywh = torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1).tolist()
                scores, labels = output["scores"].float().tolist(), output["labels"].tolist()
                image_id = int(target["image_id"])
                more = _more(output, len(labels))
                rows += [
                    {"image_id": image_id, "category_id": label, "bbox": box, "score": score, **part}
                    for box, score, label, part in zip(xywh, scores, labels, more, strict=True)
                    if label > 0
                ]
    finally:
        model.train(training)
    return rows


def detect_together(
    model: nn.Module,
    batches: Iterable[Batch],
    total: int,
    device: torch.device,
    precision: str,
    *,
    stop: StopSignals,
    score_thr: float | None = None,
    everywhere: bool = False,
) -> list[dict[str, Any]]:
    """What :func:`detect` returns for all batches, of which every process of a training detects its own.

    The processes ask each other before every batch whether one of them was asked to stop.

    Args:
        model: as for :func:`detect`.
        batches: of this process: from that of its rank on, every so many-th (:func:`harness.data.loading.val_loader`).
        total: batches of all processes.
        device: as for :func:`detect`.
        precision: as for :func:`detect`.
        stop: what may ask to stop.
        score_thr: detections of a lower score are left out; ``None``: none is.
        everywhere: all processes get the detections, otherwise the first alone; the others then get none.

    Raises:
        StopRequested: some process was asked to stop, and there are several.
    """
    source = iter(batches)
    own: list[list[dict[str, Any]]] = []
    for _ in range(-(-total // process_count())):
        if process_count() > 1 and any_process(stop.requested() is not None):
            raise StopRequested(stop.requested() or "a signal to another process")
        rows = detect(model, [batch] if (batch := next(source, None)) else [], device, precision)
        own.append(rows if score_thr is None else [row for row in rows if row["score"] >= score_thr])
    parts = gather_objects(own) if everywhere else gather_objects_to_first(own)
    return [row for turn in zip(*parts, strict=True) for rows in turn for row in rows]


def _more(output: Mapping[str, Tensor], count: int) -> list[dict[str, Any]]:
    """What a detector found beside the boxes, for each of its ``count`` detections."""
    more: list[dict[str, Any]] = [{} for _ in range(count)]
    if "masks" in output:
        for entry, mask in zip(more, output["masks"][:, 0] > MASK_THRESHOLD, strict=True):
            entry["segmentation"] = {"size": list(mask.shape), "counts": encode_mask(mask.cpu().numpy()).decode()}
    if "keypoints" in output:
        for entry, points in zip(more, output["keypoints"].float().cpu(), strict=True):
            entry["keypoints"] = points.flatten().tolist()
    return more
