"""COCO accuracy of what detectors find beside boxes: masks (segm) and keypoints, from either backend."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.coco_format import Row, flags, index_of, known_only, lookup, numbers
from harness.evaluation.coco_metrics import AREA_ALL, BACKENDS, checked_area_ranges
from harness.runs.records import jsonable

IOU_TYPES = ("bbox", "segm", "keypoints")
KEYPOINT_MAX_DETS = 20  # an image and category, as in COCO's keypoint evaluation
# COCO's own of a person's 17 keypoints (cocoapi, `Params.setKpParams`): how far annotators disagree, as a share of the
# object's size. Other data have no such study; all of their keypoints take about the middle of COCO's.
COCO_SIGMAS = tuple(
    value / 10
    for value in (0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89)
)
OTHER_SIGMA = 0.05


@dataclass(frozen=True)
class BranchAccuracy:
    """COCO's numbers of masks or keypoints. Fractions in 0..1; NaN where there is no object to find."""

    iou_type: str  # segm | keypoints
    map: float  # AP@[.5:.95], by the overlap of masks or by object keypoint similarity
    map50: float
    map75: float
    map_small: float  # NaN for keypoints, which COCO has only from medium on
    map_medium: float
    map_large: float
    ar: float  # AR@[.5:.95] with max_dets detections
    max_dets: int
    per_class: dict[str, float]  # AP by the name of the category
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what has no value (NaN) is None."""
        plain: dict[str, Any] = jsonable(self)
        return plain

    def scalars(self) -> dict[str, float]:
        """The seven numbers alone."""
        return {key: getattr(self, key) for key in SCALARS}


SCALARS = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "ar")


def branch_accuracy(
    annotations: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    iou_type: str,
    backend: str = "hotcoco",
    area_ranges: Mapping[str, Sequence[float]] | None = None,
    max_dets: int = 100,
    sigmas: Sequence[float] | None = None,
    lenient: bool = False,
) -> BranchAccuracy:
    """COCO accuracy (Lin et al. 2014; cocodataset.org/#keypoints-eval) of masks or keypoints.

    Args:
        annotations: COCO-format; images with height and width where segmentations are polygons.
        detections: COCO results with `segmentation` (RLE) or `keypoints` (x, y, score, ...) beside the score.
        iou_type: segm or keypoints.
        backend: hotcoco or pycocotools.
        area_ranges: small, medium and large, px^2 of the annotation's `area`; None: COCO's.
        max_dets: detections per image and category of masks; keypoints have 20.
        sigmas: of the keypoints; None: COCO's for 17 of them, else 0.05 each.
        lenient: detections of unknown images and categories are left out, and a note counts them.

    Raises ValueError, one line, for faulty input (which list, which index) or settings.
    """
    if iou_type not in IOU_TYPES[1:]:
        raise ValueError(f"iou_type must be one of {', '.join(IOU_TYPES[1:])}, got {iou_type!r}")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    notes: list[str] = []
    truth, found = _numbered(annotations, detections, iou_type, notes, lenient)
    ranges = checked_area_ranges(area_ranges)
    labels = ["all", *ranges] if iou_type == "segm" else ["all", "medium", "large"]
    limits = [list(AREA_ALL) if label == "all" else list(ranges[label]) for label in labels]
    limit = max_dets if iou_type == "segm" else KEYPOINT_MAX_DETS
    precision, recall = _run(truth, found, iou_type, backend, labels, limits, limit, sigmas)
    by_label = {label: _mean(precision[:, :, :, index]) for index, label in enumerate(labels)}
    names = [category["name"] for category in truth["categories"]]
    return BranchAccuracy(
        iou_type=iou_type,
        map=by_label["all"],
        map50=_mean(precision[0, :, :, 0]),
        map75=_mean(precision[5, :, :, 0]),
        map_small=by_label.get("small", float("nan")),
        map_medium=by_label["medium"],
        map_large=by_label["large"],
        ar=_mean(recall[:, :, 0]),
        max_dets=limit,
        per_class={name: _mean(precision[:, :, k, 0]) for k, name in enumerate(names)},
        notes=tuple(dict.fromkeys(notes)),
    )


def _run(
    truth: dict[str, Any],
    found: list[dict[str, Any]],
    iou_type: str,
    backend: str,
    labels: list[str],
    limits: list[list[float]],
    max_dets: int,
    sigmas: Sequence[float] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(10, 101, K, A) precision and (10, K, A) recall; -1 for a category without an object in the range."""
    num_categories = len(truth["categories"])
    if not num_categories or not truth["images"]:
        return np.full((10, 101, num_categories, len(labels)), -1.0), np.full((10, num_categories, len(labels)), -1.0)
    if backend == "hotcoco":
        from hotcoco import COCO, COCOeval

        coco = COCO(truth)
        run = COCOeval(coco, coco.load_res(found), iou_type)
        run.params.area_rng, run.params.area_rng_lbl, run.params.max_dets = limits, labels, [max_dets]
        if iou_type == "keypoints":
            run.params.kpt_oks_sigmas = _sigmas(truth, sigmas)
        run.evaluate()
        run.accumulate()
        curves: Any = run.eval
        return curves["precision"][..., -1], curves["recall"][..., -1]
    from pycocotools.coco import COCO as ReferenceCOCO
    from pycocotools.cocoeval import COCOeval as ReferenceEval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress, which is no part of a result
        reference = ReferenceCOCO()
        reference.dataset = truth
        reference.createIndex()
        results = reference.loadRes(found) if found else ReferenceCOCO()
        check = ReferenceEval(reference, results, iou_type)
        check.params.areaRng, check.params.areaRngLbl, check.params.maxDets = limits, labels, [max_dets]
        if iou_type == "keypoints":
            check.params.kpt_oks_sigmas = np.array(_sigmas(truth, sigmas))
        check.evaluate()
        check.accumulate()
    return check.eval["precision"][..., -1], check.eval["recall"][..., -1]


def _sigmas(truth: Mapping[str, Any], sigmas: Sequence[float] | None) -> list[float]:
    number = max((len(row["keypoints"]) // 3 for row in truth["annotations"]), default=0)
    if sigmas is None:
        return list(COCO_SIGMAS) if number == len(COCO_SIGMAS) else [OTHER_SIGMA] * number
    if (number and len(sigmas) != number) or not all(value > 0 for value in sigmas):
        raise ValueError(f"keypoint_sigmas={list(sigmas)} must be {number} numbers above 0, one for each keypoint")
    return [float(value) for value in sigmas]


def _numbered(
    annotations: Mapping[str, Any], detections: Sequence[Row], iou_type: str, notes: list[str], lenient: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The input with ids from 1, in the order in which the COCO code walks them: id 0 means none there."""
    image_index = index_of(annotations["images"], "images")
    category_index = index_of(annotations["categories"], "categories")
    part = "segmentation" if iou_type == "segm" else "keypoints"
    objects = annotations["annotations"]
    rows = list(known_only(detections, image_index, category_index, notes) if lenient else detections)
    truth_images = lookup(objects, "image_id", image_index, "annotations", "images", notes)
    truth_categories = lookup(objects, "category_id", category_index, "annotations", "categories", notes)
    found_images = lookup(rows, "image_id", image_index, "detections", "images", notes)
    found_categories = lookup(rows, "category_id", category_index, "detections", "categories", notes)
    sizes = {key: _size(row) for row in annotations["images"] for key in index_of([row], "images")}
    of_index = [sizes[key] for key in image_index]
    names = {key: str(row.get("name")) for row in annotations["categories"] for key in index_of([row], "categories")}
    truth: dict[str, Any] = {
        "images": [{"id": i + 1, "height": h, "width": w} for i, (h, w) in enumerate(of_index)],
        "categories": [{"id": k + 1, "name": names[key]} for k, key in enumerate(category_index)],
        "annotations": [],
    }
    number = max((len(row["keypoints"]) for row in objects if isinstance(row.get("keypoints"), list)), default=0)
    crowd, scores = flags(objects, "iscrowd"), numbers(rows, "score", "detections")
    for i, row in enumerate(objects):
        ignored = bool(crowd[i])
        if iou_type == "segm" and ignored and not row.get(part):
            continue  # a region to ignore of which only the box is known
        held = row.get(part) or [0] * number if iou_type == "keypoints" else _held(row, part, f"annotations[{i}]")
        kept = {key: row[key] for key in ("bbox", "area", "num_keypoints") if key in row}
        kept |= {"id": i + 1, "image_id": int(truth_images[i]) + 1, "category_id": int(truth_categories[i]) + 1}
        kept |= {"iscrowd": int(ignored), part: held}
        if iou_type == "keypoints":
            kept["num_keypoints"] = sum(v > 0 for v in held[2::3])
        truth["annotations"].append(kept)
    found = [
        {
            "image_id": int(found_images[i]) + 1,
            "category_id": int(found_categories[i]) + 1,
            "score": float(scores[i]),
            part: _held(row, part, f"detections[{i}]"),
        }
        for i, row in enumerate(rows)
    ]
    return truth, found


def _held(row: Row, part: str, where: str) -> Any:
    value = row.get(part)
    if not value or not isinstance(value, list | dict):
        raise ValueError(f"{where}: {part} is {str(value)[:40]}; valid: as in COCO's format")
    return value


def _size(image: Row) -> tuple[int, int]:
    return int(image.get("height") or 0), int(image.get("width") or 0)


def _mean(values: NDArray[np.float64]) -> float:
    present = values[values > -1]
    return float(present.mean()) if present.size else float("nan")
