"""The memory that OHEM's kept pooled features need: the peak of one training step with them, and with pooling anew.

Each is measured in a process of its own, whose peak resident memory the system knows.

    python -m benchmarks.ohem_memory
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from unittest.mock import patch

import torch

from harness.detectors import equip
from harness.detectors.adapters.repooling import Pooled
from harness.detectors.zoo.rcnn import fasterrcnn_resnet50_fpn
from harness.samplers.ohem import OHEMSampler

REPOOLS = "harness.detectors.adapters.box_branch.can_repool"


def step(size: int, batch: int) -> None:
    """One step in this process; prints the peak before and after it, MB, and the MB of what was kept."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = equip(fasterrcnn_resnet50_fpn(21, min_size=size, max_size=size), sampler=OHEMSampler(512, 0.25)).train()
    images = [torch.rand(3, size, size) for _ in range(batch)]
    box = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.4, 0.3, 0.9, 0.8]]) * size
    targets = [{"boxes": box.clone(), "labels": torch.tensor([1, 2])} for _ in images]
    kept = [0]

    def note(pooled: Pooled, *values: torch.Tensor) -> None:
        original(pooled, *values)
        kept.append(pooled.values.nbytes)

    original = Pooled.__init__
    before = peak_mb()
    with patch.object(Pooled, "__init__", note):
        torch.stack(list(model(images, targets).values())).sum().backward()
    print(f"{before:.0f} {peak_mb():.0f} {max(kept) / 2**20:.0f}")


def peak_mb() -> float:
    """The peak resident memory of this process so far, in MiB, on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Prints one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=400, help="side of the square images, px")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--way", choices=("kept", "anew"), help="only this one, in this process")
    options = parser.parse_args()
    if options.way == "kept":
        step(options.size, options.batch)
    elif options.way == "anew":
        with patch(REPOOLS, return_value=False):
            step(options.size, options.batch)
    else:
        for way in ("anew", "kept"):
            command = [sys.executable, "-m", "benchmarks.ohem_memory", "--way", way]
            sizes = ["--size", str(options.size), "--batch", str(options.batch)]
            found = subprocess.run([*command, *sizes], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
            print(f"{way}: peak {found[0]} MB before the step, {found[1]} MB after it; kept {found[2]} MB", flush=True)


if __name__ == "__main__":
    main()
