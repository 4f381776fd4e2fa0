"""A split in COCO's format, for evaluation and for other people's tools."""

from __future__ import annotations

from typing import Any

from harness.data.dataset import DetectionDataset


def to_coco(dataset: DetectionDataset) -> dict[str, list[dict[str, Any]]]:
    """The split as the dict of a COCO instances file, its annotations as they were checked.

    Image ids are the targets' ``image_id``, category ids the labels 1..K, annotation ids 1, 2, ...; images and
    categories carry the annotation file's own id as ``source_id``. bbox is [x, y, width, height] in px. Difficult
    objects are ``iscrowd: 1, difficult: 1``: COCO's evaluation knows no other way to ignore an object.
    """
    notes = dataset.annotations
    images = [
        {"id": key, "file_name": file, "width": int(width), "height": int(height), "source_id": source_id}
        for key, file, (width, height), source_id in zip(
            notes.ids, notes.files, notes.sizes, notes.source_ids, strict=True
        )
    ]
    categories = [
        {"id": label, "name": name, "source_id": source_id}
        for label, (name, source_id) in enumerate(zip(dataset.classes, dataset.category_ids, strict=True), start=1)
    ]
    annotations = []
    for index, key in enumerate(notes.ids):
        rows = notes.rows(index)
        for row in range(rows.start, rows.stop):
            x1, y1, x2, y2 = notes.boxes[row].tolist()
            annotations.append(
                {
                    "id": row + 1,
                    "image_id": key,
                    "category_id": int(notes.labels[row]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(notes.areas[row]),
                    "iscrowd": int(notes.ignore[row]),
                    "difficult": int(notes.difficult[row]),
                }
            )
    return {"images": images, "annotations": annotations, "categories": categories}
