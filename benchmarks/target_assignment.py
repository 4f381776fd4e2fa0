"""Time and memory of target assignment and sampling, of a whole batch at once against loops over images and objects.

- ``matcher``: TorchvisionMatcher + RandomSampler against torchvision's Matcher + BalancedPositiveNegativeSampler, as
  its RPN calls them (thresholds .7 / .3 with low-quality matches, 256 samples, half of them positive);
- ``atss``, ``simota``, ``task_aligned``: against a loop over images and objects (``per_object_loops.py``);
- ``ohem``: the selection of OHEM, given losses, against the random one, which draws its noise.

Both sides see the same scenes and must agree before they are timed. They run in turn, ours, theirs, ours, theirs;
the ratio is theirs / ours of each pair: its median, and its quartiles as the spread. On a GPU our side also runs
compiled, and as a CUDA graph, and once with every synchronisation an error.

    python benchmarks/target_assignment.py
    python benchmarks/target_assignment.py --batch 16 --size 200000x100 --methods matcher --reps 3
    python benchmarks/target_assignment.py --device cuda --modes eager compile graph --json results.json
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import per_object_loops
import torch
import torchvision
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou

from harness.assigners.atss import ATSSAssigner
from harness.assigners.simota import SimOTAAssigner
from harness.assigners.task_aligned import TaskAlignedAssigner
from harness.assigners.torchvision import TorchvisionMatcher
from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth, Predictions, SamplingResult
from harness.samplers.ohem import OHEMSampler
from harness.samplers.random import RandomSampler

Call = Callable[[], object]
T = TypeVar("T")
STRIDES = (8, 16, 32)
CLASSES = 80
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
NUM, POS_FRACTION = 256, 0.5


@dataclass(frozen=True)
class Row:
    """One method at one size."""

    method: str
    mode: str
    batch: int
    candidates: int
    objects: int
    ours_ms: float
    theirs_ms: float
    ratio: float
    ratio_low: float  # quartiles
    ratio_high: float
    ours_mib: float
    theirs_mib: float


@dataclass(frozen=True)
class Scene:
    """A batch: every image has all objects and candidates, so that no side gains by padding."""

    truth: GroundTruth
    candidates: Candidates
    noise: Tensor


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measures, prints the table, and writes it where asked."""
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    rows = []
    top = header(options)
    print(top, flush=True)
    for size in options.size:
        candidates, objects = (int(number) for number in size.split("x"))
        for batch in options.batch:
            predicted = bool({"simota", "task_aligned"} & set(options.methods))
            scene = make_scene(batch, candidates, objects, torch.device(options.device), predicted)
            for method in options.methods:
                for mode in options.modes:
                    rows.append(measure(method, mode, scene, options.reps, options.clock))
                    print(line(rows[-1]), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if options.markdown:
        Path(options.markdown).write_text("\n".join([top, *(line(row) for row in rows), ""]))
    return rows


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 8, 16])
    parser.add_argument(
        "--size", nargs="+", default=["8400x20", "8400x100", "200000x20", "200000x100"], help="candidates x objects"
    )
    parser.add_argument("--methods", nargs="+", default=["matcher"], choices=list(METHODS))
    parser.add_argument("--modes", nargs="+", default=["eager"], choices=["eager", "compile", "graph"])
    parser.add_argument("--reps", type=int, default=9, help="pairs of runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS), help="cpu: where others use the machine, too")
    parser.add_argument("--json", help="file for the rows")
    parser.add_argument("--markdown", help="file for the table")
    options = parser.parse_args(argv)
    if "graph" in options.modes and options.device == "cpu":
        parser.error("--modes graph needs --device cuda")
    options.command = " ".join(["python benchmarks/target_assignment.py", *(sys.argv[1:] if argv is None else argv)])
    return options


def make_scene(batch: int, count: int, objects: int, device: torch.device, predicted: bool) -> Scene:
    """Square anchors on three levels, boxes of 8 to 400 px; where asked, predictions as good as in mid-training."""
    random = torch.Generator().manual_seed(0)
    side = STRIDES[0] * math.ceil((count / sum((STRIDES[0] / s) ** 2 for s in STRIDES)) ** 0.5 - 1e-6)
    boxes, level, stride = [], [], []
    for number, step in enumerate(STRIDES):
        ticks = torch.arange(-(-side // step)) * step + step / 2
        center = torch.cartesian_prod(ticks, ticks).flip(-1)
        boxes.append(torch.cat((center - 2 * step, center + 2 * step), -1))
        level.append(torch.full((len(center),), number))
        stride.append(torch.full((len(center),), float(step)))
    anchors = torch.cat(boxes)[:count]
    assert len(anchors) == count
    size = 8 * 50 ** torch.rand(batch, objects, 2, generator=random)
    corner = torch.rand(batch, objects, 2, generator=random) * side
    truth_boxes = torch.cat((corner - size / 2, corner + size / 2), -1)
    labels = torch.randint(0, CLASSES, (batch, objects), generator=random)
    predictions = None
    if predicted:  # not for all: a GiB of scores at 200,000 x 80 x 16
        nearest = box_iou(truth_boxes[0], anchors).argmax(0)
        boxes_now = (anchors + truth_boxes[:, nearest]) / 2 + torch.randn(batch, count, 4, generator=random) * 8
        scores = torch.rand(batch, count, CLASSES, generator=random) ** 4
        predictions = Predictions(scores.to(device), boxes_now.to(device))
    truth = GroundTruth(
        truth_boxes.to(device),
        labels.to(device),
        torch.ones(batch, objects, dtype=torch.bool, device=device),
        torch.zeros(batch, objects, dtype=torch.bool, device=device),
    )
    candidates = Candidates(
        anchors.to(device).expand(batch, -1, -1),
        torch.ones(batch, count, dtype=torch.bool, device=device),
        torch.cat(level)[:count].to(device),
        torch.cat(stride)[:count].to(device),
        len(STRIDES),
        predictions,
    )
    return Scene(truth, candidates, torch.rand(batch, count, generator=random).to(device))


def matcher(scene: Scene) -> tuple[Call, Call]:
    truth, candidates = scene.truth, scene.candidates
    assigner, sampler = TorchvisionMatcher(0.7, 0.3, True), RandomSampler(NUM, POS_FRACTION)
    theirs, balanced = Matcher(0.7, 0.3, True), BalancedPositiveNegativeSampler(NUM, POS_FRACTION)

    def ours() -> tuple[Assignment, SamplingResult]:
        assignment = assigner(truth, candidates)
        noise = torch.rand(candidates.valid.shape, device=candidates.valid.device)
        return assignment, sampler(truth, candidates, assignment, noise=noise)

    def loop() -> tuple[list[Tensor], tuple[list[Tensor], list[Tensor]]]:
        labels, matches = [], []
        for boxes, anchors in zip(truth.boxes, candidates.boxes, strict=True):
            matched = theirs(box_iou(boxes, anchors))
            label = (matched >= 0).float()
            label[matched == Matcher.BETWEEN_THRESHOLDS] = -1.0
            labels.append(label)
            matches.append(matched)
        positive, negative = balanced(labels)
        chosen = torch.where(torch.cat(positive))[0], torch.where(torch.cat(negative))[0]
        return matches, ([chosen[0]], [chosen[1]])

    found, sample = ours()
    matches, chosen = loop()
    assert torch.equal(found.gt_index, torch.stack(matches)), "the assignments differ"
    assert int(sample.positive.sum()) == len(chosen[0][0]), "the numbers of sampled positives differ"
    assert int(sample.negative.sum()) == len(chosen[1][0]), "the numbers of sampled negatives differ"
    return ours, loop


def atss(scene: Scene) -> tuple[Call, Call]:
    truth, candidates, assigner = scene.truth, scene.candidates, ATSSAssigner()
    level = required(candidates.level)

    def loop() -> Tensor:
        pairs = zip(truth.boxes, candidates.boxes, strict=True)
        return torch.stack([per_object_loops.atss(boxes, anchors, level)[0] for boxes, anchors in pairs])

    return agreeing(lambda: assigner(truth, candidates), loop)


def simota(scene: Scene) -> tuple[Call, Call]:
    truth, candidates, assigner = scene.truth, scene.candidates, SimOTAAssigner()
    predictions, stride = required(candidates.predictions), required(candidates.stride)

    def loop() -> Tensor:
        images = zip(truth.boxes, truth.labels, candidates.boxes, predictions.scores, predictions.boxes, strict=True)
        return torch.stack([per_object_loops.simota(b, n, a, stride, s, p)[0] for b, n, a, s, p in images])

    return agreeing(lambda: assigner(truth, candidates), loop)


def task_aligned(scene: Scene) -> tuple[Call, Call]:
    truth, candidates, assigner = scene.truth, scene.candidates, TaskAlignedAssigner()
    predictions = required(candidates.predictions)

    def loop() -> Tensor:
        images = zip(truth.boxes, truth.labels, candidates.boxes, predictions.scores, predictions.boxes, strict=True)
        return torch.stack([per_object_loops.task_aligned(*image)[0] for image in images])

    return agreeing(lambda: assigner(truth, candidates), loop)


def ohem(scene: Scene) -> tuple[Call, Call]:
    truth, candidates = scene.truth, scene.candidates
    assignment = TorchvisionMatcher(0.7, 0.3, True)(truth, candidates)
    losses = CandidateLosses(-scene.noise.log(), torch.zeros_like(scene.noise))
    hard, random = OHEMSampler(NUM, POS_FRACTION), RandomSampler(NUM, POS_FRACTION)

    def ours() -> SamplingResult:
        return hard(truth, candidates, assignment, losses=losses)

    def theirs() -> SamplingResult:
        noise = torch.rand(scene.noise.shape, device=scene.noise.device)
        return random(truth, candidates, assignment, noise=noise)

    assert torch.equal(ours().positive.sum(-1), theirs().positive.sum(-1)), "the numbers of positives differ"
    return ours, theirs


METHODS = {"matcher": matcher, "atss": atss, "simota": simota, "task_aligned": task_aligned, "ohem": ohem}


def agreeing(ours: Callable[[], Assignment], loop: Callable[[], Tensor]) -> tuple[Call, Call]:
    """Both, if their answers agree but for ties at rounding level."""
    found, expected = ours().gt_index, loop()
    positive = (found >= 0) | (expected >= 0)
    share = float((found.clamp(min=-1) == expected)[positive].float().mean()) if positive.any() else 1.0
    assert share > 0.99, f"only {share:.4f} of the positives agree"
    return ours, loop


def required(value: T | None) -> T:
    assert value is not None
    return value


def measure(method: str, mode: str, scene: Scene, reps: int, clock: str) -> Row:
    """Alternates the two sides; the first pair warms up."""
    ours, theirs = METHODS[method](scene)
    device = scene.noise.device
    if device.type == "cuda":
        check_no_synchronisation(ours)
    ours = {"eager": lambda call: call, "compile": compiled, "graph": captured}[mode](ours)
    timed(ours, device, clock), timed(theirs, device, clock)
    pairs = [(timed(ours, device, clock), timed(theirs, device, clock)) for _ in range(reps)]
    ratios = [loop / batched for batched, loop in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if reps > 1 else ratios * 3
    batch, count = scene.noise.shape
    return Row(
        method=method,
        mode=mode,
        batch=batch,
        candidates=count,
        objects=scene.truth.valid.shape[-1],
        ours_ms=1e3 * statistics.median(batched for batched, _ in pairs),
        theirs_ms=1e3 * statistics.median(loop for _, loop in pairs),
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        ours_mib=peak_mib(ours, device),
        theirs_mib=peak_mib(theirs, device),
    )


def timed(call: Call, device: torch.device, clock: str) -> float:
    now = CLOCKS[clock]
    synchronise(device)
    start = now()
    call()
    synchronise(device)
    return now() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def check_no_synchronisation(call: Call) -> None:
    call()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def compiled(call: Call) -> Call:
    return torch.compile(call, fullgraph=True)


def captured(call: Call) -> Call:
    """The call as a CUDA graph: one launch, no Python."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def peak_mib(call: Call, device: torch.device) -> float:
    """The most that one call holds at a time beyond what is there, MiB, as the allocator counts it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    results = profiler.profiler.kineto_results
    changes = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    return max(itertools.accumulate((size for _, size in changes), initial=0)) / 2**20


def header(options: argparse.Namespace) -> str:
    device = processor() if options.device == "cpu" else torch.cuda.get_device_name()
    return "\n".join(
        (
            f"{device}, {os.cpu_count()} cores, {options.threads} threads, load {os.getloadavg()[0]:.1f}; "
            f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}; "
            f"{options.reps} pairs, {options.clock} time, medians, spread = quartiles.",
            "",
            f"    {options.command}",
            "",
            "| method | mode | batch | candidates x objects | ours ms | loop ms | loop / ours | spread "
            "| ours MiB | loop MiB |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        )
    )


def processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def line(row: Row) -> str:
    cells = (
        row.method,
        row.mode,
        row.batch,
        f"{row.candidates} x {row.objects}",
        f"{row.ours_ms:.1f}",
        f"{row.theirs_ms:.1f}",
        f"**{row.ratio:.2f}**",
        f"{row.ratio_low:.2f}-{row.ratio_high:.2f}",
        f"{row.ours_mib:.0f}",
        f"{row.theirs_mib:.0f}",
    )
    return f"| {' | '.join(str(cell) for cell in cells)} |"


if __name__ == "__main__":
    main()
