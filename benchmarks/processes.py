"""A training on 1, 2 and 4 processes: how equal it is, and how fast two processes are on the cores of one machine.

    python -m benchmarks.processes equality            # twenty steps in float64 on three detectors
    python -m benchmarks.processes speed --rounds 5    # one process with two threads against two with one, A B A B

Both train with gloo on the CPU and the embedded data.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import torch
from torch import distributed

from harness.core.processes import process_count, process_rank
from harness.data.loading import Share, train_loader
from harness.data.sources.shapes import shapes
from harness.detectors import equip
from harness.detectors.adapters.padding import share_padding
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.runs.schema import RunConfig, ScheduleConfig
from harness.training.schedule import lr_scheduler
from harness.training.state import TrainState
from harness.training.steps import step
from harness.training.streams import Streams
from tests.processes import together
from tests.runs.test_processes import DETECTORS, trained

BATCH = 8


def all_trained(iterations: int, cache: str) -> dict[str, dict[str, Any]]:
    """What every detector of the tests is after its training."""
    return {name: trained(name, iterations, cache) for name in DETECTORS}


def equality(iterations: int) -> None:
    """Prints a table: the largest relative difference of a weight, and whether the sampled indices are the same."""
    with tempfile.TemporaryDirectory() as cache:
        (alone,) = together(1, all_trained, iterations, cache)
        print("| detector | processes | largest relative difference of a weight | sampled slots | equal |")
        print("|---|---:|---:|---:|---|")
        for count in (2, 4):
            parts = together(count, all_trained, iterations, cache)
            for name, expected in alone.items():
                found = [part[name] for part in parts]
                same, slots = same_choices(found, expected)
                error = max(difference(part, expected) for part in found)
                print(f"| `{name}` | {count} | {error:.1e} | {slots} | {'all' if same else 'no'} |", flush=True)


def difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Of the weights of two trainings: the largest difference over the largest number of its tensor."""
    return max(
        float((found["weights"][name] - value).abs().max() / value.abs().max().clamp(min=1e-3))
        for name, value in expected["weights"].items()
    )


def same_choices(found: list[dict[str, Any]], expected: dict[str, Any]) -> tuple[bool, int]:
    """Whether all processes together sampled what the one did, and how many slots that were."""
    same, slots = True, 0
    for number, (_, index, weight) in enumerate(expected["chosen"]):
        rows = [part["chosen"][number] for part in found]
        used = weight > 0
        slots += int(used.sum())
        same &= torch.equal(torch.cat([row[2] for row in rows]), weight)
        same &= torch.equal(torch.cat([row[1] for row in rows])[used], index[used])
    return same, slots


def seconds_of_steps(threads: int, steps: int, cache: str) -> float:
    """Wall time of a step of ``tiny_rcnn`` at 128 px, the median over ``steps`` after two."""
    torch.set_num_threads(threads)
    device, streams = torch.device("cpu"), Streams(0, torch.device("cpu"))
    torch.manual_seed(streams.weights)
    model = equip(tiny_rcnn(7), generator=streams.sampling)
    if process_count() > 1:
        share_padding(model)
    config = RunConfig(iterations=steps + 2, batch_size=BATCH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = lr_scheduler(optimizer, config.iterations, ScheduleConfig())
    training = TrainState(model, optimizer, schedule, streams, device, config)
    share = Share(process_rank(), process_count())
    loader = train_loader(
        shapes(num_train=64, num_val=1, cache_dir=cache),
        batch_size=BATCH,
        seed=0,
        iterations=config.iterations,
        share=share,
    )
    times = []
    for batch in loader:
        distributed.barrier()
        started = time.perf_counter()
        step(training, batch)
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def speed(rounds: int, steps: int) -> None:
    """Prints the ratio of two processes with a thread each to one process with two threads, round by round."""
    ratios = []
    with tempfile.TemporaryDirectory() as cache:
        for number in range(rounds):
            one = max(together(1, seconds_of_steps, 2, steps, cache))
            two = max(together(2, seconds_of_steps, 1, steps, cache))
            ratios.append(one / two)
            print(f"round {number + 1}: {1000 * one:.0f} ms and {1000 * two:.0f} ms, {ratios[-1]:.2f} times as fast")
    print(f"two processes against two threads, batch {BATCH}: {statistics.median(ratios):.2f} times as fast (median)")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("equality", "speed"))
    parser.add_argument("--rounds", type=int, default=5, help="of speed")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    if options.what == "equality":
        equality(options.steps)
    else:
        speed(options.rounds, options.steps)


if __name__ == "__main__":
    main()
