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
import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torchvision
from assignment_pairs import METHODS
from assignment_scenes import Scene, make_scene
from measuring import CLOCKS, captured, check_no_synchronisation, compiled, peak_mib, timed


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
