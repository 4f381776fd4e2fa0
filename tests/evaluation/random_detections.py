"""Random COCO-format input with everything that evaluators trip over."""

from __future__ import annotations

from typing import Any

import numpy as np

Document = dict[str, Any]


def random_detections(
    seed: int,
    num_images: int = 20,
    num_categories: int = 4,
    crowds: bool = True,
    ties: bool = True,
    text_ids: bool = False,
    size: float = 128.0,
) -> tuple[Document, list[Document]]:
    """Annotations and results: empty images, images without results, category id 0, integer boxes (equal IoUs),
    annotation areas that differ from the box's, results in no order, categories without any object."""
    rng = np.random.default_rng(seed)
    ids: list[int | str] = [f"image{i:03d}" if text_ids else 3 * i for i in range(num_images)]
    shuffled = [ids[i] for i in rng.permutation(num_images)]
    objects: list[Document] = []
    results: list[Document] = []
    for image in shuffled:
        here = [] if rng.random() < 0.15 else [_object(rng, num_categories, size) for _ in range(rng.integers(0, 7))]
        for category, box in here:
            area = box[2] * box[3] * float(rng.uniform(0.4, 1.0))
            crowd = int(crowds and rng.random() < 0.15)
            row = {"image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": crowd}
            objects.append({"id": len(objects) + 1} | row)
        if rng.random() < 0.1:
            continue
        for _ in range(rng.integers(0, 16)):
            category, box = _result(rng, here, num_categories, size)
            score = float(rng.random())
            if ties and rng.random() < 0.5:
                score = round(score, 1)
            results.append({"image_id": image, "category_id": category, "bbox": box, "score": score})
    categories = [{"id": k, "name": f"category {k}"} for k in range(num_categories + 1)]
    annotations = {"images": [{"id": image} for image in shuffled], "annotations": objects, "categories": categories}
    return annotations, [results[i] for i in rng.permutation(len(results))]


def _object(rng: np.random.Generator, num_categories: int, size: float) -> tuple[int, list[float]]:
    box = np.concatenate([rng.uniform(0, size - 6, 2), np.exp(rng.uniform(np.log(6), np.log(0.7 * size), 2))])
    if rng.random() < 0.4:
        box = np.round(box)
    return int(rng.integers(num_categories)), box.tolist()


def _result(
    rng: np.random.Generator, here: list[tuple[int, list[float]]], num_categories: int, size: float
) -> tuple[int, list[float]]:
    if here and rng.random() < 0.75:
        category, target = here[rng.integers(len(here))]
        extent = np.array([target[2], target[3], target[2], target[3]])
        box = np.array(target) + rng.normal(size=4) * rng.choice([0.0, 0.03, 0.15, 0.4]) * extent
        box[2:] = np.maximum(box[2:], 1)
        if rng.random() < 0.2:
            category = int(rng.integers(num_categories))
        return category, box.tolist()
    return _object(rng, num_categories, size)
