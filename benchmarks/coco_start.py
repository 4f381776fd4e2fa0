"""What a run pays for its data before the first step, on a made-up data set of COCO's size: time and memory.

python benchmarks/coco_start.py make /tmp/big            # 118,287 images (links to one), 860,001 objects, 3 minutes
python benchmarks/coco_start.py start /tmp/big full      # twice: the first start checks, the second one reads
python benchmarks/coco_start.py sweep /tmp/big           # four short runs side by side that share what was checked
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IMAGES, OBJECTS, LINKS = 118_287, 860_001, 50_000  # a file system may allow 65,000 names of one file
SIZE = (640, 480)


def make(root: Path, images: int = IMAGES, objects: int = OBJECTS) -> None:
    """Write the data set in COCO's own layout."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    splits = {
        "train": ([f"{i:012d}.jpg" for i in range(images)], objects),
        "val": ([f"v{i}.jpg" for i in range(50)], 300),
    }
    (root / "annotations").mkdir(parents=True)
    for split, (names, count) in splits.items():
        folder = root / f"{split}2017"
        folder.mkdir()
        for number, name in enumerate(names):
            if number % LINKS == 0:
                first = folder / name
                coarse.resize(SIZE).save(first, quality=30)
            else:
                os.link(first, folder / name)
        content = {
            "images": [{"id": i, "file_name": n, "width": SIZE[0], "height": SIZE[1]} for i, n in enumerate(names)],
            "annotations": annotations(rng, count, len(names)),
            "categories": [{"id": k, "name": f"class {k}"} for k in range(1, 81)],
        }
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


def annotations(rng: np.random.Generator, objects: int, images: int) -> list[dict[str, Any]]:
    """Random boxes inside the images."""
    sides = rng.uniform(5, 200, (objects, 2)).round(2)
    corners = (rng.random((objects, 2)) * (np.array(SIZE) - sides)).round(2)
    boxes = np.hstack((corners, sides)).tolist()
    places, classes = rng.integers(0, images, objects).tolist(), rng.integers(1, 81, objects).tolist()
    return [
        {"id": i + 1, "image_id": image, "category_id": k, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, (image, k, box) in enumerate(zip(places, classes, boxes, strict=True))
    ]


def start(root: Path, check: Any) -> None:
    """Load the data once and print what it took beyond the import of torch."""
    import torch  # noqa: F401  # its memory is not the data's

    from harness.data.sources.coco import coco

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    splits = coco(str(root), check=check)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    objects = len(splits.train.annotations.labels)
    print(
        f"{len(splits.train)} images, {objects} objects: {time.process_time() - cpu:.1f} s CPU, "
        f"{time.perf_counter() - wall:.1f} s, {peak:.0f} MB above torch; fingerprint {splits.fingerprint}"
    )


def sweep(root: Path, iterations: int = 2) -> None:
    """Four runs of the command line at a time, and what all of them and the largest of them took."""
    command = [
        *(sys.executable, "-m", "harness", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4", "seed=0,1,2,3"),
        *("data=coco", f"data.root={root}", "run=smoke", f"run.iterations={iterations}", "run.threads=1"),
        *(
            "detector.min_size=64",
            "detector.max_size=128",
            "tracker=none",
            "run.again=true",
            f"run.root={root}/results",
        ),
    ]
    print(" ".join(command))
    wall = time.perf_counter()
    code = subprocess.run(command, check=False).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"exit code {code}: {used.ru_utime + used.ru_stime:.1f} s CPU of all, {time.perf_counter() - wall:.1f} s, "
        f"{used.ru_maxrss / 1024:.0f} MB in the largest process, with torch"
    )


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), *map(int, sys.argv[3:]))  # images and objects, where fewer are wanted
    elif sys.argv[1] == "sweep":
        sweep(Path(sys.argv[2]))
    else:
        start(Path(sys.argv[2]), sys.argv[3])
