"""Batches in an order that is a pure function of the seed and the step.

Training is one stream of images: epoch after epoch, each a permutation of its own, cut into batches of equal size.
Batch number ``step`` never depends on the batches before it, so a run resumes at any step exactly, and every image is
seen once an epoch although no batch is short.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from harness.core import limits
from harness.data.augment.protocol import Augment, Surroundings
from harness.data.dataset import DatasetItem, DetectionDataset, Target
from harness.data.image_samplers.drawing import epoch_order, turns
from harness.data.splits import Splits
from harness.data.streams import cpu_stream, derive_seed

Batch = tuple[list[Tensor], list[Target]]


class Place(NamedTuple):
    """One image of the training stream."""

    epoch: int
    image: int  # its index
    epochs_left: float  # of training that come after it
    turn: int = 0  # how often the image came before in the same epoch
    share_left: float = 1.0  # share of the training that comes after it, in [0, 1]


class Share(NamedTuple):
    """The part of the images that one of several processes sees.

    A batch of the training is cut into ``accumulate`` equal parts, each of which is spread over all processes.
    """

    rank: int = 0
    processes: int = 1
    accumulate: int = 1

    def of_batch(self, batch_size: int) -> list[int]:
        """The places of this share's images in a batch.

        Raises:
            ValueError: the batch cannot be cut into equal parts.
        """
        shares = self.processes * self.accumulate
        if batch_size % shares:
            raise ValueError(f"a batch of {batch_size} images cannot be cut into {shares} equal parts")
        size = batch_size // shares
        firsts = range(self.rank * size, batch_size, size * self.processes)
        return [place for first in firsts for place in range(first, first + size)]


class TrainOrder(Sampler[list[Place]]):
    """The batches start..stop - 1 of the training stream, as batch sampler of a DataLoader.

    Args:
        num_images: of the training split, >= 1.
        batch_size: >= 1.
        seed: of the data stream.
        start: the first step, 0 to ``stop``.
        stop: steps of the whole training, >= 1.
        until: the step before which this iteration ends; ``None``: ``stop``.
        order: ``(N,)`` image indices of an epoch; ``None``: a permutation of its own for every epoch.
        share: which images of each batch come here; ``None``: all.

    Raises:
        ValueError: a value out of its range.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        *,
        until: int | None = None,
        order: Callable[[int], Tensor] | None = None,
        share: Share | None = None,
    ) -> None:
        self.share = share or Share()
        self.num_images = limits.count("num_images", num_images, 1)
        self.batch_size = limits.count("batch_size", batch_size, 1)
        self.seed = seed
        self.stop = limits.count("stop", stop, 1)
        self.start = limits.between("start", start, 0, stop)
        self.until = stop if until is None else limits.between("until", until, start, stop)
        self.order = order or partial(epoch_order, self.num_images, seed)
        self._epoch, self._images, self._turns = -1, torch.empty(0, dtype=torch.int64), torch.empty(0)

    def __len__(self) -> int:
        return self.until - self.start

    def __iter__(self) -> Iterator[list[Place]]:
        return map(self.batch, range(self.start, self.until))

    def batch(self, step: int) -> list[Place]:
        """The places of batch ``step``."""
        first = step * self.batch_size
        return [self._place(first + at) for at in self.share.of_batch(self.batch_size)]

    def _place(self, position: int) -> Place:
        epoch, at = divmod(position, self.num_images)
        if epoch != self._epoch:
            self._epoch, self._images = epoch, self.order(epoch)
            self._turns = turns(self._images)
        images = self.stop * self.batch_size
        left = images - position
        turn = int(self._turns[at])
        return Place(epoch, int(self._images[at]), left / self.num_images, turn, left / images)


class AugmentedDataset(Dataset[DatasetItem]):
    """Training images with their augmentation, by Place.

    What happens to an image depends on (seed, epoch, index, turn) only: not on the worker or the batch.
    """

    def __init__(self, dataset: DetectionDataset, augment: Augment | None, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: Place) -> DatasetItem:
        sample = self.dataset[place.image]
        if self.augment is None:
            return sample
        around = Surroundings(
            self.dataset.__getitem__,
            len(self.dataset),
            place.epochs_left,
            self.dataset.keypoint_mirror,
            share_left=place.share_left,
        )
        again = (place.turn,) if place.turn else ()
        with cpu_stream(derive_seed(self.seed, "augment", place.epoch, place.image, *again)):
            return self.augment(sample, around)


def collate(samples: Sequence[DatasetItem]) -> Batch:
    """Samples as (images, targets): images of a batch may differ in size, so they are lists."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """The batch on ``device``, images as numbers in 0..1. They travel as bytes, a quarter of the traffic."""
    images = [image.to(device, non_blocking=True).float().div_(255) for image in batch[0]]
    targets = [{key: value.to(device, non_blocking=True) for key, value in target.items()} for target in batch[1]]
    return images, targets


def train_loader(
    splits: Splits,
    *,
    batch_size: int,
    seed: int,
    iterations: int,
    start: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
    until: int | None = None,
    order: Callable[[int], Tensor] | None = None,
    timeout: float = 0,
    share: Share | None = None,
) -> DataLoader[Any]:
    """Batches start..iterations - 1 of a training of ``iterations`` steps: (list of uint8 images, list of targets).

    The same batches for any number of workers; torch's global generators are left alone.

    Args:
        splits: the data.
        batch_size: >= 1.
        seed: of the data stream.
        iterations: steps of the whole training, >= 1.
        start: steps that were done before.
        num_workers: loading processes; 0 loads in the training process.
        pin_memory: for copies to a GPU that do not wait.
        until: the step before which the batches end; ``None``: all of the training.
        order: as for :class:`TrainOrder`.
        share: as for :class:`TrainOrder`.
        timeout: seconds after which loading processes that give no batch are an error; 0: never.

    Raises:
        ValueError: a value out of its range.
    """
    places = TrainOrder(len(splits.train), batch_size, seed, start, iterations, until=until, order=order, share=share)
    return DataLoader(
        AugmentedDataset(splits.train, splits.augment, seed),
        batch_sampler=places,
        **_options(num_workers, pin_memory, timeout),
    )


def val_loader(
    dataset: Dataset[DatasetItem],
    *,
    batch_size: int,
    num_workers: int = 0,
    timeout: float = 0,
    share: Share | None = None,
) -> DataLoader[Any]:
    """All images of a split once, in their order: (list of uint8 images, list of targets).

    With a ``share``, every so many-th of the batches: an image has the same company on any number of processes.
    """
    limits.count("batch_size", batch_size, 1)
    options = _options(num_workers, pin_memory=False, timeout=timeout)
    if share is None or share.processes == 1:
        return DataLoader(dataset, batch_size=batch_size, shuffle=False, **options)
    images = range(len(dataset))  # type: ignore[arg-type]  # every data set of this package has a length
    batches = [list(images[first : first + batch_size]) for first in images[::batch_size]]
    return DataLoader(dataset, batch_sampler=batches[share.rank :: share.processes], **options)


def _leave_signals_to_the_parent(worker: int) -> None:
    """A terminal sends its signals to the loading processes, too, and a scheduler SIGTERM to all processes of a job.

    They go on, because their death would end the training before it has saved. It ends them itself, by SIGKILL at last.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _options(num_workers: int, pin_memory: bool, timeout: float) -> dict[str, Any]:
    limits.count("num_workers", num_workers, 0)
    # A loader draws a seed each time it is iterated: from the global generator unless it has one of its own.
    return {
        "collate_fn": collate,
        "num_workers": num_workers,
        "pin_memory": pin_memory,
        "generator": torch.Generator(),
        "timeout": timeout if num_workers else 0,
        "worker_init_fn": _leave_signals_to_the_parent,
    }
