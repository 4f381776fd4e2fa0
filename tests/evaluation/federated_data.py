"""Random input in LVIS's format."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.evaluation.random_detections import random_detections


def lvis_data(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations with frequencies, negative and not exhaustive categories, and results; no crowds, as in LVIS."""
    document, results = random_detections(seed, num_images=30, num_categories=6, crowds=False, ties=False)
    rng = np.random.default_rng(seed)
    ids = {image["id"]: index + 1 for index, image in enumerate(document["images"])}
    categories = [
        {"id": row["id"] + 1, "name": row["name"], "frequency": "rcf"[index % 3]}
        for index, row in enumerate(document["categories"])
    ]
    annotations = [
        {key: value for key, value in row.items() if key != "iscrowd"}
        | {"image_id": ids[row["image_id"]], "category_id": row["category_id"] + 1, "segmentation": []}
        for row in document["annotations"]
    ]
    images = []
    for number in sorted(ids.values()):
        present = sorted({row["category_id"] for row in annotations if row["image_id"] == number})
        absent = [row["id"] for row in categories if row["id"] not in present and rng.random() < 0.4]
        images.append(
            {
                "id": number,
                "width": 200,
                "height": 200,
                "neg_category_ids": absent,
                "not_exhaustive_category_ids": [key for key in present if rng.random() < 0.4],
            }
        )
    found = [row | {"image_id": ids[row["image_id"]], "category_id": row["category_id"] + 1} for row in results]
    return {"images": images, "annotations": annotations, "categories": categories}, found
