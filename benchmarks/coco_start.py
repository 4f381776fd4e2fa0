"""What a run pays for its data before the first step, on a made-up data set of COCO's size: time and memory.

python benchmarks/coco_start.py make /tmp/big            # 118,287 images (links to one), 860,001 objects, 3 minutes
python benchmarks/coco_start.py start /tmp/big full      # twice: the first start checks, the second one reads
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IMAGES, OBJECTS, LINKS = 118_287, 860_001, 50_000  # a file system may allow 65,000 names of one file
SIZE = (640, 480)


def make(root: Path) -> None:
    """Write the data set in COCO's own layout."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    splits = {
        "train": ([f"{i:012d}.jpg" for i in range(IMAGES)], OBJECTS),
        "val": ([f"v{i}.jpg" for i in range(50)], 300),
    }
    (root / "annotations").mkdir(parents=True)
    for split, (names, objects) in splits.items():
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
            "annotations": annotations(rng, objects, len(names)),
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


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        start(Path(sys.argv[2]), sys.argv[3])
