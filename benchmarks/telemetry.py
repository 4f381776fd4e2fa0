"""What sampling telemetry costs: training steps of tiny_rcnn with and without the observer, alternating.

    python benchmarks/telemetry.py [--rounds 300] [--batch-size 4] [--device cpu] [--threads 1]

Two figures. The *ratio* compares medians of whole steps, alternated one by one so that a busy machine slows both alike.
The *share* times the observer's calls alone inside the very same steps, which needs no subtraction of two large and
noisy numbers: on a busy machine it is the one to trust. On CUDA both wait for the device, which training does not.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harness.core.structures import CandidateLosses
from harness.criterion.stage import Selection
from harness.detectors.equip import equip
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.telemetry.recorder import SamplingTelemetry

WINDOW = 50  # steps between two readings, as run.log_every has it


class Timed:
    """Telemetry whose own time is kept."""

    def __init__(self) -> None:
        self.telemetry = SamplingTelemetry()
        self.seconds = 0.0

    def __call__(self, stage: str, selection: Selection) -> None:
        with self._timed(selection.candidates.valid.device):
            self.telemetry(stage, selection)

    def add_losses(self, stage: str, selection: Selection, losses: CandidateLosses) -> None:
        """As the telemetry's own."""
        with self._timed(losses.classification.device):
            self.telemetry.add_losses(stage, selection, losses)

    @contextmanager
    def _timed(self, device: torch.device) -> Iterator[None]:
        wait(device)
        started = time.perf_counter()
        yield
        wait(device)
        self.seconds += time.perf_counter() - started


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def batch(size: int, device: torch.device) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images of 128 px with five objects each."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 128, 128, generator=generator).to(device) for _ in range(size)]
    targets = []
    for _ in range(size):
        corner = torch.rand(5, 2, generator=generator) * 80
        boxes = torch.cat((corner, corner + 12 + torch.rand(5, 2, generator=generator) * 36), 1)
        labels = torch.randint(1, 7, (5,), generator=generator)
        targets.append({"boxes": boxes.to(device), "labels": labels.to(device)})
    return images, targets


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: tuple[list[Tensor], list[dict[str, Tensor]]]
) -> None:
    """As in training: forward, backward, clip, update."""
    optimizer.zero_grad(set_to_none=True)
    total: Tensor = torch.stack(list(model(*data).values())).sum()
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 10.0, foreach=True)
    optimizer.step()


def main() -> None:
    """Prints the two figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    plain = tiny_rcnn(num_classes=7).to(device).to(memory_format=torch.channels_last)
    observer = Timed()
    models = {  # of the same weights
        "without": equip(plain).train(),
        "with": equip(plain, observers=[observer], loss_observers=[observer.add_losses]).train(),
    }
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-5)
    data = batch(arguments.batch_size, device)

    times: dict[str, list[float]] = {name: [] for name in models}
    shares, reads = [], []
    for number in range(arguments.rounds + 5):
        for name in sorted(models, reverse=bool(number % 2)):
            observer.seconds = 0.0
            wait(device)
            started = time.perf_counter()
            step(models[name], optimizer, data)
            wait(device)
            seconds = time.perf_counter() - started
            if number >= 5:  # warm
                times[name].append(seconds)
                if name == "with":
                    shares.append(observer.seconds / seconds)
        if number % WINDOW == 0:
            started = time.perf_counter()
            observer.telemetry.close_window(number)
            reads.append(time.perf_counter() - started)
    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    ratios = [a / b for a, b in zip(times["with"], times["without"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"step without: median {medians['without']:.2f} ms, with: {medians['with']:.2f} ms")
    print(f"ratio of pairs: median {middle:.4f}, quartiles {low:.4f} to {high:.4f}")
    share = statistics.quantiles(shares, n=4)
    print(f"share of a step: median {share[1]:.2%}, quartiles {share[0]:.2%} to {share[2]:.2%}")
    read = 1e3 * statistics.median(reads)
    print(f"reading a window: {read:.2f} ms, {read / (WINDOW * medians['with']):.2%} of its {WINDOW} steps")


if __name__ == "__main__":
    main()
