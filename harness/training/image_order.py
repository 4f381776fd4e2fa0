"""Which training images come when: the epochs of an image sampler, and the losses that it may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.core.processes import gather_rows
from harness.core.structures import CandidateLosses
from harness.criterion.stage import Selection
from harness.data.dataset import DetectionDataset
from harness.data.image_samplers.drawing import epoch_order
from harness.data.image_samplers.interface import ImageSampler
from harness.data.image_samplers.presence import class_presence


class ImageOrder:
    """The order of the images, epoch by epoch, for one run.

    Without losses an epoch's order is a pure function of the seed. With losses it is one of the seed and of the losses
    recorded before the first batch of the epoch: the training pauses there (:attr:`pauses`), so that loading processes
    never work ahead of what is known, and :meth:`plan` draws the epoch. The state is the losses and the epochs that are
    under way: a training resumed anywhere sees the same images.

    Args:
        sampler: how often each image is seen.
        dataset: the training split.
        seed: of the data stream.
        batch_size: images of a step.
        iterations: steps of the whole training.
        device: where the losses are recorded.
    """

    def __init__(
        self,
        sampler: ImageSampler,
        dataset: DetectionDataset,
        seed: int,
        *,
        batch_size: int,
        iterations: int,
        device: torch.device,
    ) -> None:
        self.sampler = sampler
        self.seed = seed
        self.batch_size = batch_size
        self.num_images = len(dataset)
        self.presence = class_presence(dataset)
        self.pauses: list[int] = []
        if sampler.needs_losses:
            epochs = -(-iterations * batch_size // self.num_images)
            starts = {self._first_step(epoch) for epoch in range(1, epochs)}
            self.pauses = sorted(start for start in starts if 0 < start < iterations)
        # Image ids in order: a batch tells the ids of its images, not their places.
        self._ids, self._places = torch.tensor(dataset.annotations.ids, device=device).sort()
        self.losses = torch.full((self.num_images,), torch.inf, device=device)
        self._batch: tuple[Tensor, Tensor] | None = None  # places and losses of the images of the current step
        self._epochs: dict[int, Tensor] = {}
        self._weights = None if sampler.needs_losses else sampler.weights(self.presence)
        self.plan(0)

    def order(self, epoch: int) -> Tensor:
        """``(N,)`` int64: the images of ``epoch``."""
        if self.sampler.needs_losses:
            return self._epochs[epoch]
        return epoch_order(self.num_images, self.seed, epoch, self._weights)

    def plan(self, iteration: int) -> None:
        """Before step ``iteration``: draws the epochs that begin in it, if they depend on the losses."""
        if not self.sampler.needs_losses:
            return
        first = iteration * self.batch_size // self.num_images
        last = ((iteration + 1) * self.batch_size - 1) // self.num_images
        self._store()
        weights = self.sampler.weights(self.presence, self.losses.cpu())
        fresh = [epoch for epoch in range(first, last + 1) if epoch not in self._epochs]
        drawn = {epoch: epoch_order(self.num_images, self.seed, epoch, weights) for epoch in fresh}
        self._epochs = {epoch: order for epoch, order in self._epochs.items() if epoch >= first} | drawn

    def watch(self, model: nn.Module) -> None:
        """Learns from now on which images ``model`` trains on; without effect where no losses are needed."""
        if self.sampler.needs_losses:
            model.register_forward_pre_hook(self._begin_batch)

    def add_losses(self, stage: str, selection: Selection, losses: CandidateLosses) -> None:
        """A loss observer: adds a stage's mean loss of the used slots of each image."""
        if self._batch is not None:
            used = selection.sample.used.sum(-1).clamp(min=1)
            self._batch[1].add_(losses.total.sum(-1).to(self.losses.dtype) / used)

    def state_dict(self) -> dict[str, Any]:
        """The losses, and the epochs that are under way."""
        if not self.sampler.needs_losses:
            return {}
        self._store()
        return {"losses": self.losses.clone(), "epochs": dict(self._epochs)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken."""
        if state:
            self.losses.copy_(state["losses"])
            self._epochs = dict(state["epochs"])
            self._batch = None

    def _first_step(self, epoch: int) -> int:
        """The step whose batch holds the first image of ``epoch``."""
        return epoch * self.num_images // self.batch_size

    def _begin_batch(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not model.training or len(inputs) < 2 or inputs[1] is None:
            return
        self._store()
        ids = torch.stack([target["image_id"] for target in inputs[1]]).to(self._ids.device)
        places = self._places[torch.searchsorted(self._ids, ids)]
        self._batch = places, torch.zeros(len(ids), device=self._ids.device)

    def _store(self) -> None:
        """Keeps the losses of the last step, of all processes; of an image that is in it twice, the last one."""
        if self._batch is not None:
            places, losses = (gather_rows(part, 0) for part in self._batch)
            for place, loss in zip(places.split(1), losses.split(1), strict=True):
                self.losses.index_copy_(0, place, loss)
            self._batch = None
