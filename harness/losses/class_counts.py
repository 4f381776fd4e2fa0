"""What the losses for long-tailed data share: how often each class occurs in the training set."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core.structures import ClassCounts, Need
from harness.losses.interface import ClassificationLoss


class CountedClassificationLoss(ClassificationLoss):
    """A classification loss that knows the class counts of the training set.

    They are no state: whoever builds the loss sets them again, by :meth:`set_class_counts`, before a run goes on.
    """

    needs: frozenset[Need] = frozenset({Need.CLASS_COUNTS})
    images: Tensor
    objects: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.num_images = 0
        self.register_buffer("images", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_buffer("objects", torch.zeros(0, dtype=torch.int64), persistent=False)

    def set_class_counts(self, counts: ClassCounts) -> None:
        """Sets the counts, one entry for each column of the logits."""
        self.images = counts.images.to(self.images.device)
        self.objects = counts.objects.to(self.objects.device)
        self.num_images = counts.num_images

    def check_counts(self, logits: Tensor) -> None:
        """Refuses logits whose columns have no counts.

        Raises:
            ValueError: no class counts are set, or of another number of columns.
        """
        if self.num_images == 0:
            name = type(self).__name__
            raise ValueError(f"{name} needs the class counts of the training set; set_class_counts() sets them")
        if len(self.images) != logits.shape[-1]:
            raise ValueError(
                f"{type(self).__name__} has class counts of {len(self.images)} columns, the logits {logits.shape[-1]}"
            )
