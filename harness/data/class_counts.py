"""How often each class occurs in a data set."""

from __future__ import annotations

import numpy as np
import torch

from harness.core.structures import ClassCounts
from harness.data.dataset import DetectionDataset


def class_counts(dataset: DetectionDataset) -> ClassCounts:
    """Images and objects of each of the ``K`` classes; crowd regions and difficult objects do not count."""
    notes, classes = dataset.annotations, len(dataset.classes)
    image_of = np.repeat(np.arange(len(dataset)), np.diff(notes.offsets))[~notes.ignore]
    labels = np.asarray(notes.labels)[~notes.ignore] - 1
    pairs = np.unique(np.stack((image_of, labels)), axis=1)
    return ClassCounts(
        images=torch.from_numpy(np.bincount(pairs[1], minlength=classes)),
        objects=torch.from_numpy(np.bincount(labels, minlength=classes)),
        num_images=len(dataset),
    )
