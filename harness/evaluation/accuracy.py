"""Accuracy of detections: COCO's numbers, and on request error types, calibration and precision-recall curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.branches import BranchAccuracy, branch_accuracy
from harness.evaluation.calibration import Calibration, calibration_of, has_probabilities
from harness.evaluation.coco_format import CocoTables, read_tables
from harness.evaluation.coco_metrics import AREA_ALL, CocoCurves, checked_area_ranges, coco_curves
from harness.evaluation.federated import MAX_DETS, federated_curves, frequency_means, is_federated
from harness.evaluation.matching import overlapping_pairs
from harness.evaluation.pr_curves import PrecisionRecall, precision_recall
from harness.evaluation.tide import TideErrors, tide_errors
from harness.runs.records import jsonable

NAN = float("nan")


@dataclass(frozen=True)
class ClassAccuracy:
    """One category. Fractions in 0..1, NaN without objects."""

    category_id: int | str
    category: str
    num_objects: int  # crowds not counted
    num_detections: int
    ap: float  # AP@[.5:.95]
    ap50: float
    ap75: float
    ar: float  # AR@[.5:.95] with max_dets detections


@dataclass(frozen=True)
class Accuracy:
    """COCO's twelve numbers and what goes with them. Fractions in 0..1; NaN where there is no object to find
    (the COCO code says -1)."""

    map: float  # AP@[.5:.95], mean over ten IoUs, categories and 101 recalls
    map50: float  # AP at IoU .5
    map75: float  # AP at IoU .75
    map_small: float  # AP@[.5:.95] of the objects in each size range (area of the annotation)
    map_medium: float
    map_large: float
    ar_1: float  # recall, mean over ten IoUs and the categories, with 1 detection an image and category
    ar_10: float  # with 10
    ar_100: float  # with max_dets (100 unless said otherwise)
    ar_small: float  # with max_dets, by size
    ar_medium: float
    ar_large: float
    per_class: tuple[ClassAccuracy, ...]  # in order of category id
    num_images: int
    num_objects: int  # crowds not counted
    num_detections: int
    backend: str  # hotcoco | pycocotools: who computed the numbers above
    max_dets: int  # detections per image and category, by score
    area_ranges: dict[str, tuple[float, float]]  # px^2, (lowest, highest) of small, medium and large
    notes: tuple[str, ...] = ()  # what was assumed about the input
    tide: TideErrors | None = None  # None: not asked for
    calibration: Calibration | None = None  # None: not asked for, or scores are no probabilities (a note says so)
    pr_curves: PrecisionRecall | None = None  # at IoU .5 and .75; None: not asked for
    segm: BranchAccuracy | None = None  # of the masks, where the annotations have them
    keypoints: BranchAccuracy | None = None  # of the keypoints, where the annotations have them
    frequencies: dict[str, float] | None = None  # LVIS: map_rare, map_common, map_frequent

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, keys as above; what has no value (NaN) is None."""
        plain: dict[str, Any] = jsonable(self)
        return plain | {"pr_curves": None if self.pr_curves is None else self.pr_curves.to_dict()}

    def scalars(self) -> dict[str, float]:
        """The twelve numbers alone, NaN where there is no object."""
        return {key: getattr(self, key) for key in SCALARS}


SCALARS = tuple(field.name for field in fields(Accuracy))[:12]


def evaluate(
    annotations: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    backend: str = "hotcoco",
    area_ranges: Mapping[str, Sequence[float]] | None = None,
    max_dets: int = 100,
    tide: bool = False,
    calibration: bool = False,
    pr_curves: bool = False,
    lenient: bool = False,
    keypoint_sigmas: Sequence[float] | None = None,
) -> Accuracy:
    """COCO box accuracy (Lin et al. 2014) of detections in the COCO results format.

    Boxes are [x, y, width, height] in pixels. Crowds, annotation area versus box area, images without objects or
    detections, ids that are texts or 0 count as in the COCO code; `read_tables` says what input may look like.
    `area_ranges` names small, medium and large, each (lowest, highest) px^2; None is COCO's 32^2 and 96^2, which a
    data set of small images needs rescaled (`area_ranges_from_sides`). `lenient` leaves out detections of unknown
    images and categories and counts them. Annotations and detections that both have `segmentation` or `keypoints`
    are scored by these as well (`branch_accuracy`). Annotations in LVIS's format are scored federatedly
    (`federated_curves`), without error types and calibration, which need to know all objects.

    Raises ValueError, one line, for faulty input (which list, which index), an unknown backend or a bad range.
    """
    tables = read_tables(annotations, detections, lenient)
    notes = list(tables.notes)
    federated = is_federated(annotations)
    if federated:
        curves, max_dets = _federated(annotations, tables, area_ranges), MAX_DETS
        notes.append("federated annotations (LVIS): scored by hotcoco; no error types, no calibration")
        backend, tide, calibration = "hotcoco", False, False
    else:
        curves = coco_curves(tables, backend, area_ranges, max_dets)
    calibrated = calibration and has_probabilities(tables)
    if calibration and not calibrated:
        notes.append("some scores lie outside [0, 1]: no calibration")
    pairs = overlapping_pairs(tables, 0.1, same_category=False) if tide or calibrated else None
    per_class = _per_class(tables, curves)
    ap = np.array([row.ap for row in per_class])

    def branch(iou_type: str, part: str) -> BranchAccuracy | None:
        if federated or not (_have(annotations["annotations"], part) and _have(detections, part)):
            return None
        limits = (area_ranges, max_dets, keypoint_sigmas, lenient)
        return branch_accuracy(annotations, detections, iou_type, backend, *limits)

    return Accuracy(
        **_summary(curves),
        per_class=per_class,
        num_images=len(tables.image_ids),
        num_objects=int((~tables.object_crowd).sum()),
        num_detections=len(tables.detection_score),
        backend=backend,
        max_dets=max_dets,
        area_ranges=checked_area_ranges(area_ranges),
        notes=tuple(notes),
        tide=tide_errors(tables, max_dets=max_dets, pairs=pairs) if tide else None,
        calibration=calibration_of(tables, max_dets=max_dets, pairs=pairs) if calibrated else None,
        pr_curves=precision_recall(curves, tables.category_names) if pr_curves else None,
        segm=branch("segm", "segmentation"),
        keypoints=branch("keypoints", "keypoints"),
        frequencies=frequency_means(annotations, tables, ap) if federated else None,
    )


class CocoEvaluator:
    """`evaluate` with its settings bound: what the configuration group `evaluator` builds.

    Raises ValueError for an unknown backend, a bad range or limit when built, so before any training.
    """

    def __init__(
        self,
        backend: str = "hotcoco",
        area_ranges: Mapping[str, Sequence[float]] | None = None,
        max_dets: int = 100,
        tide: bool = True,
        calibration: bool = True,
        pr_curves: bool = True,
        keypoint_sigmas: Sequence[float] | None = None,
    ) -> None:
        nothing = read_tables({"images": [], "annotations": [], "categories": []}, [])
        coco_curves(nothing, backend, area_ranges, max_dets)  # refuses what cannot be
        self.backend = backend
        self.area_ranges = checked_area_ranges(area_ranges)
        self.max_dets = max_dets
        self.tide, self.calibration, self.pr_curves = tide, calibration, pr_curves
        self.keypoint_sigmas = None if keypoint_sigmas is None else tuple(keypoint_sigmas)

    def __call__(self, annotations: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> Accuracy:
        """Accuracy of a run's own detections, COCO-format; raises as `evaluate` does, but for unknown categories."""
        return evaluate(
            annotations,
            detections,
            backend=self.backend,
            area_ranges=self.area_ranges,
            max_dets=self.max_dets,
            tide=self.tide,
            calibration=self.calibration,
            pr_curves=self.pr_curves,
            lenient=True,  # after a whole training, a label that cannot be is a note, not the end of the run
            keypoint_sigmas=self.keypoint_sigmas,
        )


def _have(rows: Sequence[Mapping[str, Any]], part: str) -> bool:
    return any(row.get(part) for row in rows)


def _federated(
    annotations: Mapping[str, Any], tables: CocoTables, area_ranges: Mapping[str, Sequence[float]] | None
) -> CocoCurves:
    ranges = [list(AREA_ALL), *map(list, checked_area_ranges(area_ranges).values())]
    precision, recall = federated_curves(annotations, tables, ranges, MAX_DETS)
    unknown = np.full((*recall.shape, 2), -1.0)  # LVIS has no recall with 1 or 10 detections
    return CocoCurves(precision, np.concatenate((unknown, recall[..., None]), -1))


def _summary(curves: CocoCurves) -> dict[str, float]:
    """The twelve numbers, each the mean over what is not -1, as cocoapi's `summarize`."""
    precision, recall = curves.precision, curves.recall
    values = [precision[..., 0], precision[0, :, :, 0], precision[5, :, :, 0]]
    values += [precision[..., area] for area in (1, 2, 3)]
    values += [recall[:, :, 0, limit] for limit in (0, 1, 2)]
    values += [recall[:, :, area, 2] for area in (1, 2, 3)]
    return dict(zip(SCALARS, map(_mean, values), strict=True))


def _per_class(tables: CocoTables, curves: CocoCurves) -> tuple[ClassAccuracy, ...]:
    num_categories = len(tables.category_ids)
    objects = np.bincount(tables.object_category[~tables.object_crowd], minlength=num_categories)
    detections = np.bincount(tables.detection_category, minlength=num_categories)
    return tuple(
        ClassAccuracy(
            category_id=tables.category_ids[k],
            category=tables.category_names[k],
            num_objects=int(objects[k]),
            num_detections=int(detections[k]),
            ap=_mean(curves.precision[:, :, k, 0]),
            ap50=_mean(curves.precision[0, :, k, 0]),
            ap75=_mean(curves.precision[5, :, k, 0]),
            ar=_mean(curves.recall[:, k, 0, 2]),
        )
        for k in range(num_categories)
    )


def _mean(values: NDArray[np.float64]) -> float:
    present = values[values > -1]
    return float(present.mean()) if present.size else NAN
