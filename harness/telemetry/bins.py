"""The fixed bins of sampling telemetry: windows, runs and samplers compare because none of these ever moves."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

AVAILABLE, SAMPLED = "available", "sampled"
KINDS = ("positive", "negative", "truth")  # truth: a ground-truth box that joined the proposals, its IoU is 1
# An object's candidates: those found by the detector alone, and those together with its own box where it joined.
OBJECT_KINDS = ("positive", "with_truth")

# Inner edges; a histogram has one bin more than edges, and an edge belongs to the bin above it. The first IoU bin,
# below 0.05, is Libra R-CNN's "easy negatives" (Pang et al. 2019, section 3.2 and figure 3).
EDGES: Mapping[str, Tensor] = {
    "iou": torch.linspace(0.05, 0.95, 19),
    "size": 2.0 ** torch.arange(1.0, 11.0),  # square root of the box area, px
    "level": torch.arange(1.0, 8.0) - 0.5,  # of the pyramid, 0 is the finest; the last bin is level 7 and above
    "loss": 10.0 ** torch.linspace(-4.0, 1.0, 21),  # classification loss of the candidate
    "per_image": 2 ** torch.arange(18),  # candidates of an image: 0, 1, 2-3, 4-7, ...
    "per_object": torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128]),  # positives of an object: 0, 1, ..., 7, 8-15
}
CANDIDATE_QUANTITIES = ("iou", "size", "level", "loss")  # one value per candidate
COUNTS = ("images", "objects", "objects_without_positive", "positive", "negative", "truth")
