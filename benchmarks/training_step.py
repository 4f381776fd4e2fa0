"""The training step of an equipped detector against torchvision's own, with the same model, weights and batch.

One round runs every variant once, in an order that turns from round to round; each variant's time is divided by
torchvision's of the same round, so that a busy machine disturbs both alike. A step is forward and backward; the
optimiser's step, which is the same for all, is left out. Prints a markdown table.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --device cuda --precision bf16 --model fasterrcnn_resnet50_fpn --size 800
    python benchmarks/training_step.py --clock cpu --model fasterrcnn_resnet50_fpn --size 400 --batch 2 --rounds 10
    python benchmarks/training_step.py --variants OHEM
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from harness.detectors import equip
from harness.detectors.zoo import rcnn as rcnn_models
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.samplers.ohem import OHEMSampler
from harness.telemetry.recorder import SamplingTelemetry
from harness.training.compiled import compile_networks

LOG_EVERY = 50  # steps between two windows of the telemetry, as in a run
CLASSES = 7
VARIANTS = ("natural trio", "telemetry", "OHEM")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    """Measures and prints."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    model = detector(options).to(device, memory_format=torch.channels_last)
    images, targets = batch(options, device)
    if options.compile:
        compile_networks(model)
    telemetry = SamplingTelemetry()
    every = twins(model, telemetry)
    variants = {name: every[name] for name in ("torchvision", *options.variants)}

    def step(variant: nn.Module) -> float:
        return timed(lambda: train(variant, images, targets, options.precision, device), device, options.clock)

    for _ in range(options.warmup):
        for variant in variants.values():
            step(variant)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(options.rounds):
        names = list(variants)[turn % len(variants) :] + list(variants)[: turn % len(variants)]
        for name in names:
            seconds[name].append(step(variants[name]))
    if "telemetry" in seconds:
        window = timed(lambda: telemetry.close_window(0), device, options.clock) / LOG_EVERY
        seconds["telemetry"] = [second + window for second in seconds["telemetry"]]
    report(options, device, seconds)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny_rcnn", help="tiny_rcnn or a fasterrcnn_* of torchvision")
    parser.add_argument("--size", type=int, default=128, help="side of the square images, px")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--objects", type=int, default=5, help="mean objects of an image")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS), help="cpu: where others use the machine, too")
    chosen = "measured beside torchvision's step; all by default"
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help=chosen)
    parser.add_argument("--compile", action="store_true", help="backbone and heads compiled, as by run.compile")
    return parser.parse_args()


def detector(options: argparse.Namespace) -> Any:
    """The model, untrained."""
    if options.model == "tiny_rcnn":
        return tiny_rcnn(CLASSES, min_size=options.size, max_size=2 * options.size)
    builder: Callable[..., nn.Module] = getattr(rcnn_models, options.model)
    return builder(CLASSES, min_size=options.size, max_size=2 * options.size)


def twins(model: Any, telemetry: SamplingTelemetry) -> dict[str, nn.Module]:
    """The variants by name; all over the same modules."""
    quota = model.roi_heads.fg_bg_sampler
    ohem = OHEMSampler(quota.batch_size_per_image, quota.positive_fraction)
    return {
        "torchvision": model,
        "natural trio": equip(model),
        "telemetry": equip(model, observers=[telemetry], loss_observers=[telemetry.add_losses]),
        "OHEM": equip(model, sampler=ohem),
    }


def batch(options: argparse.Namespace, device: torch.device) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Noise with boxes of a tenth to half of the image's side, numbers of objects around the mean."""
    size, images, targets = options.size, [], []
    for index in range(options.batch):
        count = max(1, options.objects + index % 5 - 2)
        sides = size * (0.1 + 0.4 * torch.rand(count, 2))
        corners = torch.rand(count, 2) * (size - sides)
        labels = torch.randint(1, CLASSES, (count,))
        targets.append({"boxes": torch.cat((corners, corners + sides), 1).to(device), "labels": labels.to(device)})
        images.append(torch.rand(3, size, size).to(device))
    return images, targets


def train(
    model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]], precision: str, device: torch.device
) -> None:
    """Forward and backward."""
    model.zero_grad(set_to_none=True)
    half = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    with half:
        losses = model(images, targets)
    torch.stack(list(losses.values())).sum().backward()


def timed(action: Callable[[], object], device: torch.device, clock: str) -> float:
    """Seconds until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    now = CLOCKS[clock]
    start = now()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return now() - start


def report(options: argparse.Namespace, device: torch.device, seconds: dict[str, list[float]]) -> None:
    """The table, and what it was measured with."""
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    print(f"`python benchmarks/training_step.py {' '.join(sys.argv[1:])}`".replace(" `", "`"))
    compiled = ", compiled" if options.compile else ""
    print(
        f"on {machine}, {options.threads} threads, torch {torch.__version__}, torchvision {torchvision.__version__}: "
        f"{options.model}, {options.size} px, batch {options.batch}, {options.precision}{compiled}, "
        f"{options.rounds} rounds, {options.clock} time\n"
    )
    print("| step | ms (median) | images/s | ratio to torchvision (median) | quartiles |")
    print("|---|---|---|---|---|")
    for name, measured in seconds.items():
        ratios = [own / host for own, host in zip(measured, seconds["torchvision"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        median = statistics.median(measured)
        print(f"| {name} | {1e3 * median:.1f} | {options.batch / median:.1f} | {middle:.3f} | {low:.3f} - {high:.3f} |")


def processor() -> str:
    """The processor's name and the number of cores that this process may use."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    main()
