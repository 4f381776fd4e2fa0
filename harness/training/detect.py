"""Runs a detector over a data set and returns its detections in COCO's results format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from harness.data.loading import Batch, to_device
from harness.training.devices import autocast


@torch.no_grad()
def detect(model: nn.Module, batches: Iterable[Batch], device: torch.device, precision: str) -> list[dict[str, Any]]:
    """``[{image_id, category_id, bbox: [x, y, w, h], score}, ...]`` in the order of the images; a category is a label.

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
                rows += [
                    {"image_id": image_id, "category_id": label, "bbox": box, "score": score}
                    for box, score, label in zip(xywh, scores, labels, strict=True)
                ]
    finally:
        model.train(training)
    return rows
