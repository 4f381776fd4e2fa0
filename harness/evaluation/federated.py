"""LVIS's federated evaluation: a detection counts only where the annotators have looked for its class.

Gupta, Dollar and Girshick, "LVIS", CVPR 2019, section 2: an image is annotated for the classes that it shows and for
some that are known to be absent. Detections of all other classes are ignored there, and unmatched ones are ignored
where a class is not annotated exhaustively. AP is also given for rare, common and frequent classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.values import BadValue, identifier
from harness.evaluation.coco_format import CocoTables, Id

FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}
MAX_DETS = 300  # of all classes together in an image


def is_federated(annotations: Mapping[str, Any]) -> bool:
    """Whether COCO-format annotations have LVIS's frequencies and lists of negative categories."""
    if not isinstance(annotations, Mapping):
        return False
    parts = (annotations.get(key) for key in ("categories", "images"))
    categories, images = (
        [row for row in part if isinstance(row, Mapping)] if isinstance(part, list) else [] for part in parts
    )
    return (
        bool(categories)
        and all("frequency" in row for row in categories)
        and any("neg_category_ids" in row for row in images)
    )


def without_federation(annotations: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same annotations, to be scored as COCO's: all classes count in all images."""
    if not is_federated(annotations):
        return annotations
    images = [{k: v for k, v in row.items() if k != "neg_category_ids"} for row in annotations["images"]]
    return {**annotations, "images": images}


def federated_curves(
    annotations: Mapping[str, Any], tables: CocoTables, area_ranges: list[list[float]], max_dets: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(10, 101, K, A) precision and (10, K, A) recall of LVIS-format input, by hotcoco; -1 without objects.

    Raises ValueError for a frequency or a list of categories that cannot be; one line.
    """
    from hotcoco import COCO, COCOeval

    truth = COCO(_as_lvis(annotations, tables))
    found = truth.load_res(
        np.column_stack(
            [tables.detection_image + 1, tables.detection_box, tables.detection_score, tables.detection_category + 1]
        )
    )
    run = COCOeval(truth, found, "bbox", lvis_style=True)
    run.params.area_rng = area_ranges
    run.params.max_dets = [max_dets]
    run.evaluate()
    run.accumulate()
    curves = run.eval
    assert curves is not None  # accumulate() has just filled it
    return curves["precision"][..., 0], curves["recall"][..., 0]


def frequency_means(annotations: Mapping[str, Any], tables: CocoTables, ap: NDArray[np.float64]) -> dict[str, float]:
    """Mean AP of rare, common and frequent classes.

    Args:
        annotations: with the frequencies.
        tables: the same as columns.
        ap: (K,) AP of each class, NaN without objects.
    """
    group = {identifier(row["id"]): row["frequency"] for row in annotations["categories"]}
    result = {}
    for letter, name in FREQUENCIES.items():
        chosen = ap[[group[key] == letter for key in tables.category_ids]]
        present = chosen[~np.isnan(chosen)]
        result[f"map_{name}"] = float(present.mean()) if present.size else float("nan")
    return result


def looked_for(annotations: Mapping[str, Any], tables: CocoTables) -> NDArray[np.bool_]:
    """(D,) whether the category of each detection is annotated in its image, as present or as absent."""
    position = {key: k + 1 for k, key in enumerate(tables.category_ids)}
    verified = np.zeros((len(tables.image_ids), len(tables.category_ids)), bool)
    verified[tables.object_image, tables.object_category] = True
    images = {identifier(row["id"]): row for row in annotations["images"]}
    for index, key in enumerate(tables.image_ids):
        verified[index, [k - 1 for k in _positions(images[key], "neg_category_ids", position)]] = True
    found: NDArray[np.bool_] = verified[tables.detection_image, tables.detection_category]
    return found


def best_of_images(tables: CocoTables, number: int = MAX_DETS) -> NDArray[np.bool_]:
    """(D,) whether a detection is among the ``number`` with the highest scores of its image, whatever their categories;
    the first of equal scores come first."""
    order = np.lexsort((-tables.detection_score, tables.detection_image))
    image = tables.detection_image[order]
    best = np.empty(len(order), bool)
    best[order] = np.arange(len(order)) - np.searchsorted(image, image, "left") < number
    return best


def not_exhaustive(annotations: Mapping[str, Any], tables: CocoTables) -> NDArray[np.bool_]:
    """(D,) whether objects of a detection's category may lack an annotation in its image: there, a detection that finds
    no object is no mistake."""
    position = {key: k for k, key in enumerate(tables.category_ids)}
    images = {identifier(row["id"]): row for row in annotations["images"]}
    partial = np.zeros((len(tables.image_ids), len(tables.category_ids)), bool)
    for index, key in enumerate(tables.image_ids):
        partial[index, _positions(images[key], "not_exhaustive_category_ids", position)] = True
    found: NDArray[np.bool_] = partial[tables.detection_image, tables.detection_category]
    return found


def _as_lvis(annotations: Mapping[str, Any], tables: CocoTables) -> dict[str, Any]:
    """LVIS-format annotations whose ids count from 1 in the order of the tables."""
    images = {identifier(row["id"]): row for row in annotations["images"]}
    categories = {identifier(row["id"]): row for row in annotations["categories"]}
    position = {key: k + 1 for k, key in enumerate(tables.category_ids)}
    for key, row in categories.items():
        if row["frequency"] not in FREQUENCIES:
            raise ValueError(f"categories: {key!r} has the frequency {row['frequency']!r}; valid: r, c, f")
    return {
        "images": [
            {
                "id": i + 1,
                "neg_category_ids": _positions(images[key], "neg_category_ids", position),
                "not_exhaustive_category_ids": _positions(images[key], "not_exhaustive_category_ids", position),
            }
            for i, key in enumerate(tables.image_ids)
        ],
        "categories": [
            {"id": position[key], "name": str(key), "frequency": categories[key]["frequency"]}
            for key in tables.category_ids
        ],
        "annotations": [
            {"id": i + 1, "image_id": image + 1, "category_id": category + 1, "bbox": box, "area": area, "iscrowd": 0}
            for i, (image, category, box, area) in enumerate(
                zip(
                    tables.object_image.tolist(),
                    tables.object_category.tolist(),
                    tables.object_box.tolist(),
                    tables.object_area.tolist(),
                    strict=True,
                )
            )
        ],
    }


def _positions(image: Mapping[str, Any], key: str, position: Mapping[Id, int]) -> Sequence[int]:
    try:
        return [position[identifier(value)] for value in image.get(key) or ()]
    except (KeyError, BadValue, TypeError):
        raise ValueError(f"images: {image.get('id')!r}: {key} {str(image.get(key))[:60]} names no categories") from None
