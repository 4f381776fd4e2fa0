"""COCO's own precision and recall arrays, from either backend.

hotcoco is the default because it is fast; pycocotools is the reference that it must agree with.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.coco_format import CocoTables

BACKENDS = ("hotcoco", "pycocotools")
IOU_THRS = np.linspace(0.5, 0.95, 10)
RECALL_THRS = np.linspace(0.0, 1.0, 101)
AREA_ALL = (0.0, 1e10)
AREA_RANGES: dict[str, tuple[float, float]] = {
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


@dataclass(frozen=True)
class CocoCurves:
    """What COCO's accumulation yields. -1 marks a category without an object in the range, as there."""

    precision: NDArray[np.float64]  # (10 IoUs, 101 recalls, K, 4 ranges) with max_dets detections
    recall: NDArray[np.float64]  # (10 IoUs, K, 4 ranges, 3 limits) with 1, 10 and max_dets detections


def area_ranges_from_sides(small: float, medium: float) -> dict[str, tuple[float, float]]:
    """Size ranges from two side lengths in pixels: COCO's own are (32, 96); images of 128 px want about (18, 36)."""
    if not 0 < small < medium < math.inf:
        raise ValueError(f"sides must be 0 < small < medium, got {small:g} and {medium:g}")
    return {"small": (0.0, small**2), "medium": (small**2, medium**2), "large": (medium**2, AREA_ALL[1])}


def checked_area_ranges(area_ranges: Mapping[str, Sequence[float]] | None) -> dict[str, tuple[float, float]]:
    """COCO's ranges for None, else the given ones: small, medium and large, each (lowest, highest) area in px^2."""
    if area_ranges is None:
        return AREA_RANGES
    if not isinstance(area_ranges, Mapping) or set(area_ranges) != set(AREA_RANGES):
        given = ", ".join(map(str, area_ranges)) if isinstance(area_ranges, Mapping) else area_ranges
        raise ValueError(f"area_ranges must name small, medium and large, got {given or 'none'}")
    for name, limits in area_ranges.items():
        pair = limits if isinstance(limits, Sequence) and not isinstance(limits, str) else [limits]
        numbers = all(isinstance(value, Real) and not isinstance(value, bool) for value in pair)
        if len(pair) != 2 or not numbers or not 0 <= pair[0] < pair[1]:
            raise ValueError(f"area_ranges.{name} must be two areas, 0 <= lowest < highest, got {limits}")
    return {name: (float(area_ranges[name][0]), float(area_ranges[name][1])) for name in AREA_RANGES}


def coco_curves(
    tables: CocoTables,
    backend: str = "hotcoco",
    area_ranges: Mapping[str, Sequence[float]] | None = None,
    max_dets: int = 100,
) -> CocoCurves:
    """Run the COCO evaluation (Lin et al. 2014; cocoapi's cocoeval) with the chosen backend.

    `max_dets` counts per image and category, as there. Raises ValueError for an unknown backend, a range or a limit
    that cannot be.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if max_dets < 1:
        raise ValueError(f"max_dets must be >= 1, got {max_dets}")
    ranges = [AREA_ALL, *checked_area_ranges(area_ranges).values()]
    limits = [min(1, max_dets), min(10, max_dets), max_dets]
    num_categories = len(tables.category_ids)
    if not num_categories or not len(tables.image_ids):
        shape = (len(IOU_THRS), len(RECALL_THRS), num_categories, len(ranges))
        return CocoCurves(np.full(shape, -1.0), np.full((len(IOU_THRS), num_categories, len(ranges), 3), -1.0))
    distinct = sorted(set(limits))
    run = _run_hotcoco if backend == "hotcoco" else _run_pycocotools
    precision, recall = run(tables, [list(limits_of) for limits_of in ranges], distinct)
    return CocoCurves(precision[..., -1], recall[..., [distinct.index(limit) for limit in limits]])


def _run_hotcoco(tables: CocoTables, ranges: list[list[float]], limits: list[int]) -> tuple[Any, Any]:
    from hotcoco import COCO, COCOeval

    truth = COCO.from_arrays(
        [{"id": i + 1} for i in range(len(tables.image_ids))],
        [{"id": k + 1, "name": name} for k, name in enumerate(tables.category_names)],
        tables.object_image + 1,
        tables.object_category + 1,
        tables.object_box,
        area=tables.object_area,
        iscrowd=tables.object_crowd.astype(np.int64),
    )
    found = truth.load_res(
        np.column_stack(
            [tables.detection_image + 1, tables.detection_box, tables.detection_score, tables.detection_category + 1]
        )
    )
    run = COCOeval(truth, found, "bbox")
    run.params.area_rng, run.params.area_rng_lbl = ranges, ["all", *AREA_RANGES]
    run.params.max_dets = limits
    run.evaluate()
    run.accumulate()
    curves = run.eval
    assert curves is not None  # accumulate() has just filled it
    return curves["precision"], curves["recall"]


def _run_pycocotools(tables: CocoTables, ranges: list[list[float]], limits: list[int]) -> tuple[Any, Any]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress, which is no part of a result
        truth, found = COCO(), COCO()
        truth.dataset, found.dataset = _as_coco_dicts(tables)
        truth.createIndex()
        found.createIndex()
        run = COCOeval(truth, found, "bbox")
        run.params.areaRng, run.params.areaRngLbl = ranges, ["all", *AREA_RANGES]
        run.params.maxDets = limits
        run.evaluate()
        run.accumulate()
    return run.eval["precision"], run.eval["recall"]


def _as_coco_dicts(tables: CocoTables) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ids count from 1: with annotation id 0, the COCO code takes a matched detection for an unmatched one."""
    images = [{"id": i + 1} for i in range(len(tables.image_ids))]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(tables.category_names)]
    objects = [
        {"id": i + 1, "image_id": image + 1, "category_id": category + 1, "bbox": box, "area": area, "iscrowd": crowd}
        for i, (image, category, box, area, crowd) in enumerate(
            zip(
                tables.object_image.tolist(),
                tables.object_category.tolist(),
                tables.object_box.tolist(),
                tables.object_area.tolist(),
                tables.object_crowd.astype(int).tolist(),
                strict=True,
            )
        )
    ]
    detections = [
        {"id": i + 1, "image_id": image + 1, "category_id": category + 1, "bbox": box, "area": box[2] * box[3]}
        | {"score": score, "iscrowd": 0}
        for i, (image, category, box, score) in enumerate(
            zip(
                tables.detection_image.tolist(),
                tables.detection_category.tolist(),
                tables.detection_box.tolist(),
                tables.detection_score.tolist(),
                strict=True,
            )
        )
    ]
    shared = {"images": images, "categories": categories}
    return shared | {"annotations": objects}, shared | {"annotations": detections}
