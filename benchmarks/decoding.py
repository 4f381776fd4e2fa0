"""Reading JPEG files: as the harness does, with torchvision, and what a smaller draft of a large image would save.

One round reads every file once in each way, in turn; each time is divided by the first way's of the same round, in
processor time. Files are made up: smooth noise, quality 90, both usual ways to store colors.

    python -m benchmarks.decoding
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.io import ImageReadMode, decode_jpeg

from harness.data.images import read_image

SHORT_SIDE = 800  # px that a detector with min_size=800 resizes to


def make(folder: Path, width: int, height: int) -> list[Path]:
    """A file with halved color resolution and one with full."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    paths = [folder / f"{width}-{sampling}.jpg" for sampling in (2, 0)]
    for path, sampling in zip(paths, (2, 0), strict=True):
        image.save(path, quality=90, subsampling=sampling)
    return paths


def with_pillow(path: Path) -> Tensor:
    """RGB, uint8 (3, H, W), rearranged by torch."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def with_torchvision(path: Path) -> Tensor:
    """The same by torchvision's decoder, rearranged as the harness does."""
    pixels = decode_jpeg(torch.from_numpy(np.fromfile(path, np.uint8)), ImageReadMode.RGB)
    return torch.from_numpy(np.array(pixels.numpy(), order="C"))


def resized(image: Tensor) -> Tensor:
    """As torchvision's detectors resize: floats, bilinear."""
    scale = SHORT_SIDE / min(image.shape[1:])
    return interpolate(image[None].float() / 255, scale_factor=scale, mode="bilinear")


def drafted(path: Path) -> Tensor:
    """The smallest size that libjpeg makes out of the file's frequencies and that is still large enough, resized."""
    with Image.open(path) as image:
        scale = SHORT_SIDE / min(image.size)
        image.draft("RGB", (int(scale * image.size[0]), int(scale * image.size[1])))
        pixels = np.array(image.convert("RGB"))
    return resized(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())


def ratios(ways: dict[str, Callable[[Path], Tensor]], paths: list[Path], rounds: int) -> dict[str, list[float]]:
    """For each way, its time over that of the first one, round by round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        seconds = {}
        for name, way in ways.items():
            started = time.process_time()
            for path in paths:
                way(path)
            seconds[name] = time.process_time() - started
        for name, value in seconds.items():
            found[name].append(value / next(iter(seconds.values())))
    return found


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| image | way | time / first way's (median) | quartiles | largest difference of a pixel |")
    print("|---|---|---:|---|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for width, height in ((640, 480), (4000, 3000)):
            paths = make(Path(folder), width, height)
            ways = {"Pillow and torch": with_pillow, "harness": read_image, "torchvision": with_torchvision}
            show(f"{width} x {height}", ways, paths, options.rounds)
        resizing = {"harness": lambda path: resized(read_image(path)), "draft": drafted}
        show(f"{width} x {height}, resized to {SHORT_SIDE}", resizing, paths, options.rounds)


def show(image: str, ways: dict[str, Callable[[Path], Tensor]], paths: list[Path], rounds: int) -> None:
    """One row for each way."""
    first = next(iter(ways.values()))
    for name, values in ratios(ways, paths, rounds).items():
        low, middle, high = statistics.quantiles(values, n=4)
        difference = max(float((ways[name](path).float() - first(path).float()).abs().max()) for path in paths)
        print(f"| {image} | {name} | {middle:.2f} | {low:.2f} - {high:.2f} | {difference:.3g} |", flush=True)


if __name__ == "__main__":
    main()
