"""Which classes are in which image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.data.dataset import DetectionDataset


@dataclass(frozen=True)
class ClassPresence:
    """The ``P`` distinct pairs of an image and a class that has an object in it."""

    image: Tensor  # (P,) int64, 0..num_images - 1
    label: Tensor  # (P,) int64, 0..num_classes - 1
    num_images: int
    num_classes: int

    @property
    def images_of_class(self) -> Tensor:
        """``(K,)`` int64: images that hold each class."""
        return torch.bincount(self.label, minlength=self.num_classes)


def class_presence(dataset: DetectionDataset) -> ClassPresence:
    """Of a data set; crowd regions and difficult objects do not count."""
    notes = dataset.annotations
    image_of = np.repeat(np.arange(len(dataset)), np.diff(notes.offsets))[~notes.ignore]
    labels = np.asarray(notes.labels, dtype=np.int64)[~notes.ignore] - 1
    image, label = np.unique(np.stack((image_of, labels)), axis=1)
    return ClassPresence(torch.from_numpy(image), torch.from_numpy(label), len(dataset), len(dataset.classes))
