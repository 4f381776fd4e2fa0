"""TIDE labels and costs equal the paper's definitions, written naively, and hotcoco's where it offers them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hotcoco import COCO, COCOeval

from harness.evaluation.accuracy import evaluate
from harness.evaluation.tide import ERROR_TYPES, TideErrors, classify_errors
from tests.evaluation.random_detections import random_detections

POS, BG = 0.5, 0.1


def iou(a: list[float], b: list[float], crowd: bool = False) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - width * height)


def naive_labels(objects: list[Any], detections: list[Any]) -> tuple[list[str], list[int], set[int]]:
    """Labels, the object of each, and the missed objects: one detection after the other."""
    labels, partner = ["?"] * len(detections), [-1] * len(detections)
    order = sorted(range(len(detections)), key=lambda i: -detections[i]["score"])
    taken: set[int] = set()
    for i in order:
        d = detections[i]
        here = [j for j, o in enumerate(objects) if o["image_id"] == d["image_id"]]
        own = [j for j in here if objects[j]["category_id"] == d["category_id"]]
        free = [j for j in own if not objects[j]["iscrowd"] and j not in taken]
        close = [(iou(d["bbox"], objects[j]["bbox"]), j) for j in free]
        close = [(value, j) for value, j in close if value >= POS]
        if close:
            labels[i], partner[i] = "true_positive", max(close)[1]
            taken.add(partner[i])
        elif any(objects[j]["iscrowd"] and iou(d["bbox"], objects[j]["bbox"], True) >= POS for j in own):
            labels[i] = "ignored"
    for i, d in enumerate(detections):
        if labels[i] != "?":
            continue
        here = [j for j, o in enumerate(objects) if o["image_id"] == d["image_id"] and not o["iscrowd"]]
        own = [(iou(d["bbox"], objects[j]["bbox"]), -j) for j in here if objects[j]["category_id"] == d["category_id"]]
        other = [
            (iou(d["bbox"], objects[j]["bbox"]), -j) for j in here if objects[j]["category_id"] != d["category_id"]
        ]
        best_own, best_other = max(own, default=(0.0, 1)), max(other, default=(0.0, 1))
        if BG <= best_own[0] < POS:
            labels[i], partner[i] = "localisation", -best_own[1]
        elif best_other[0] >= POS:
            labels[i], partner[i] = "classification", -best_other[1]
        elif best_own[0] >= POS:
            labels[i], partner[i] = "duplicate", -best_own[1]
        elif best_other[0] < BG:
            labels[i] = "background"
        else:
            labels[i], partner[i] = "both", -best_other[1]
    repairable = {partner[i] for i, label in enumerate(labels) if label in ("localisation", "classification")}
    missed = {j for j, o in enumerate(objects) if not o["iscrowd"]} - taken - repairable
    return labels, partner, missed


def naive_ap(rows: list[tuple[int, float, bool]], totals: dict[int, int]) -> float:
    """Mean over categories of the 101-point AP of (category, score, right) rows."""
    values = []
    for category, total in totals.items():
        true, curve = 0, []
        for n, row in enumerate(sorted((r for r in rows if r[0] == category), key=lambda r: -r[1]), start=1):
            true += row[2]
            curve.append((true / total if total else 0.0, true / n))
        points = [max([p for r, p in curve if r >= t], default=0.0) for t in np.linspace(0, 1, 101)]
        values.append(float(np.mean(points)) if total > 0 else 0.0)
    return float(np.mean(values))


def naive_gains(objects: list[Any], detections: list[Any]) -> dict[str, float]:
    labels, partner, missed = naive_labels(objects, detections)
    kept = [i for i, label in enumerate(labels) if label != "ignored"]
    plain = {i: (detections[i]["category_id"], detections[i]["score"], labels[i] == "true_positive") for i in kept}
    totals: dict[int, int] = {}
    for o in objects:
        if not o["iscrowd"]:
            totals[o["category_id"]] = totals.get(o["category_id"], 0) + 1
    ap = naive_ap(list(plain.values()), totals)
    found = {partner[i] for i in kept if labels[i] == "true_positive"}
    best: dict[int, int] = {}
    for i in sorted(kept, key=lambda i: -detections[i]["score"]):
        if labels[i] in ("localisation", "classification") and partner[i] not in found:
            best.setdefault(partner[i], i)
    gains = {}
    for kind in ERROR_TYPES[:5]:
        rows = [plain[i] for i in kept if labels[i] != kind]
        rows += [
            (objects[j]["category_id"], detections[i]["score"], True) for j, i in best.items() if labels[i] == kind
        ]
        gains[kind] = max(0.0, naive_ap(rows, totals) - ap)
    for name, gone in (("missed", missed), ("false negative", set(range(len(objects))) - found)):
        fewer = dict(totals)
        for j in gone:
            if not objects[j]["iscrowd"]:
                fewer[objects[j]["category_id"]] -= 1
        gains[name] = naive_ap(list(plain.values()), fewer) - ap
    gains["false positive"] = naive_ap([row for row in plain.values() if row[2]], totals) - ap
    return gains


def tide(annotations: Any, detections: Any) -> TideErrors:
    errors = evaluate(annotations, detections, tide=True).tide
    assert errors is not None
    return errors


@pytest.mark.parametrize("seed", range(8))
def test_labels_and_costs_equal_the_naive_form(seed: int) -> None:
    annotations, detections = random_detections(seed, ties=False)
    objects = annotations["annotations"]
    labels, partner, missed = naive_labels(objects, detections)
    ours = classify_errors(annotations, detections)
    assert list(ours.labels) == labels
    assert set(ours.missed.tolist()) == missed
    named = [i for i, label in enumerate(labels) if label not in ("ignored", "background")]
    assert [int(ours.object[i]) for i in named] == [partner[i] for i in named]
    errors = tide(annotations, detections)
    assert errors.counts == {k: labels.count(k) for k in ERROR_TYPES[:5]} | {"missed": len(missed)}
    gains = naive_gains(objects, detections)
    for kind in ERROR_TYPES:
        assert errors.delta_ap[kind] == pytest.approx(gains[kind], abs=1e-12)
    assert errors.delta_ap_false_positive == pytest.approx(gains["false positive"], abs=1e-12)
    assert errors.delta_ap_false_negative == pytest.approx(gains["false negative"], abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_equals_hotcoco(seed: int) -> None:
    annotations, detections = random_detections(seed, num_images=40, crowds=False, ties=False)
    truth = COCO(annotations)
    run = COCOeval(truth, truth.load_res(detections), "bbox")
    run.evaluate()
    run.accumulate()
    theirs, ours = run.tide_errors(), tide(annotations, detections)
    short = dict(zip(ERROR_TYPES, ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), strict=True))
    assert ours.counts == {kind: theirs["counts"][name] for kind, name in short.items()}
    for kind, name in short.items():
        assert ours.delta_ap[kind] == pytest.approx(theirs["delta_ap"][name], abs=1e-9)
    assert ours.ap == pytest.approx(theirs["ap_base"], abs=1e-9)


def test_ap_is_the_evaluations_ap50() -> None:
    annotations, detections = random_detections(9)
    assert tide(annotations, detections).ap == pytest.approx(evaluate(annotations, detections).map50, abs=1e-12)


def test_one_of_each_kind() -> None:
    box, crowd_box = [10, 10, 20, 20], [60, 60, 40, 40]
    objects = [(0, box, 0), (1, [10, 50, 20, 20], 0), (0, crowd_box, 1)]
    rows = [{"id": i, "image_id": 1, "category_id": k, "bbox": b, "iscrowd": c} for i, (k, b, c) in enumerate(objects)]
    annotations = {"images": [{"id": 1}], "categories": [{"id": 0}, {"id": 1}], "annotations": rows}
    expected = [
        (0, [10, 10, 20, 20], "true_positive"),
        (0, [11, 10, 20, 20], "duplicate"),
        (0, [20, 10, 20, 20], "localisation"),
        (1, [10, 10, 20, 20], "classification"),
        (1, [20, 10, 20, 20], "both"),
        (0, [100, 5, 10, 10], "background"),
        (0, [65, 65, 10, 10], "ignored"),
    ]
    detections = [
        {"image_id": 1, "category_id": k, "bbox": b, "score": 0.9 - 0.1 * i} for i, (k, b, _) in enumerate(expected)
    ]
    ours = classify_errors(annotations, detections)
    assert list(ours.labels) == [label for _, _, label in expected]
    assert ours.missed.tolist() == [1]


@pytest.mark.parametrize(("pos_thr", "bg_thr"), [(0.1, 0.5), (0.5, 0.0), (1.5, 0.1)])
def test_thresholds_that_make_no_sense_are_refused(pos_thr: float, bg_thr: float) -> None:
    with pytest.raises(ValueError, match="thresholds must be 0 < bg_thr <= pos_thr <= 1"):
        classify_errors(*random_detections(0), pos_thr=pos_thr, bg_thr=bg_thr)
