"""A split in COCO's format, for evaluation and for other people's tools."""

from __future__ import annotations

from typing import Any

from harness.data.dataset import BOXES, KEYPOINTS, MASKS, DetectionDataset


def to_coco(dataset: DetectionDataset) -> dict[str, list[dict[str, Any]]]:
    """The split as the dict of a COCO instances file, its annotations as they were checked.

    Image ids are the targets' ``image_id``, category ids the labels 1..K, annotation ids 1, 2, ...; images and
    categories carry the annotation file's own id as ``source_id``. bbox is [x, y, width, height] in px. Difficult
    objects are ``iscrowd: 1, difficult: 1``: COCO's evaluation knows no other way to ignore an object. Where the data
    set yields masks or keypoints, annotations have ``segmentation`` (compressed RLE) or ``keypoints``. Of LVIS, images
    keep their negative and not exhaustive categories, categories their frequency.
    """
    notes = dataset.annotations
    images = [
        {"id": key, "file_name": file, "width": int(width), "height": int(height), "source_id": source_id}
        for key, file, (width, height), source_id in zip(
            notes.ids, notes.files, notes.sizes, notes.source_ids, strict=True
        )
    ]
    categories: list[dict[str, Any]] = [
        {"id": label, "name": name, "source_id": source_id}
        for label, (name, source_id) in enumerate(zip(dataset.classes, dataset.category_ids, strict=True), start=1)
    ]
    if KEYPOINTS in dataset.parts:
        for category in categories:
            category["keypoints"] = list(dataset.keypoint_names)
    _add_federated(dataset, images, categories)
    annotations = [
        _annotation(dataset, index, row)
        for index in range(len(dataset))
        for row in range(notes.rows(index).start, notes.rows(index).stop)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def _annotation(dataset: DetectionDataset, index: int, row: int) -> dict[str, Any]:
    notes = dataset.annotations
    x1, y1, x2, y2 = notes.boxes[row].tolist()
    entry: dict[str, Any] = {
        "id": row + 1,
        "image_id": notes.ids[index],
        "category_id": int(notes.labels[row]),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": float(notes.areas[row]),
        "iscrowd": int(notes.ignore[row]),
        "difficult": int(notes.difficult[row]),
    }
    if dataset.parts == {BOXES}:
        return entry
    if MASKS in dataset.parts and notes.outlines is not None:
        width, height = notes.sizes[index].tolist()
        rle = notes.outlines.rle(row, height, width)
        entry["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
    if KEYPOINTS in dataset.parts and notes.keypoints is not None:
        points = notes.keypoints[row]
        entry["keypoints"] = points.ravel().tolist()
        entry["num_keypoints"] = int((points[:, 2] > 0).sum())
    return entry


def _add_federated(dataset: DetectionDataset, images: list[dict[str, Any]], categories: list[dict[str, Any]]) -> None:
    known = dataset.annotations.federated
    if known is None:
        return
    for category, frequency in zip(categories, known.frequencies, strict=True):
        category["frequency"] = frequency
    for index, image in enumerate(images):
        negative = known.negative[known.negative_offsets[index] : known.negative_offsets[index + 1]]
        start, stop = known.not_exhaustive_offsets[index : index + 2]
        image["neg_category_ids"] = negative.tolist()
        image["not_exhaustive_category_ids"] = known.not_exhaustive[start:stop].tolist()
