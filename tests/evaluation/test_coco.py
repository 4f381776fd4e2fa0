"""COCO's numbers equal pycocotools' own, used directly, on random data with everything that evaluators trip over."""

from __future__ import annotations

import contextlib
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from harness.evaluation.accuracy import SCALARS, Accuracy, CocoEvaluator, evaluate
from harness.evaluation.coco_metrics import BACKENDS, area_ranges_from_sides
from harness.evaluation.match_table import MatchTable
from tests.evaluation.random_detections import random_detections

CONF = Path(__file__).resolve().parents[2] / "conf" / "evaluator"


def pycocotools_run(annotations: dict[str, Any], detections: list[dict[str, Any]], sides: Any = None) -> Any:
    """The reference, straight from its own API: loadRes, evaluate, accumulate, summarize."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(annotations))
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(json.loads(json.dumps(detections))), "bbox")
        if sides is not None:
            small, medium = sides[0] ** 2, sides[1] ** 2
            run.params.areaRng = [[0, 1e10], [0, small], [small, medium], [medium, 1e10]]
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def assert_equal(ours: Accuracy, reference: Any) -> None:
    stats = np.where(reference.stats == -1, np.nan, reference.stats)
    np.testing.assert_allclose(list(ours.scalars().values()), stats, atol=1e-6, rtol=0, equal_nan=True)
    for k, row in enumerate(ours.per_class):
        precision = reference.eval["precision"][:, :, k, 0, 2]
        expected = [precision.mean(), precision[0].mean(), precision[5].mean()]
        expected += [reference.eval["recall"][:, k, 0, 2].mean()]
        expected = [np.nan if value == -1 else value for value in expected]
        np.testing.assert_allclose([row.ap, row.ap50, row.ap75, row.ar], expected, atol=1e-6, rtol=0, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(12))
def test_equals_pycocotools(seed: int, backend: str) -> None:
    annotations, detections = random_detections(seed)
    assert_equal(evaluate(annotations, detections, backend), pycocotools_run(annotations, detections))


def test_the_random_data_holds_what_it_promises() -> None:
    annotations, detections = random_detections(0)
    with_objects = {row["image_id"] for row in annotations["annotations"]}
    with_results = {row["image_id"] for row in detections}
    assert len(with_objects) < 20
    assert len(with_results) < 20
    assert 0 in {row["category_id"] for row in annotations["annotations"]}
    assert any(row["iscrowd"] for row in annotations["annotations"])
    scores = [row["score"] for row in detections]
    assert len(set(scores)) < len(scores)


@pytest.mark.parametrize("backend", BACKENDS)
def test_text_ids_change_nothing(backend: str) -> None:
    with_numbers = evaluate(*random_detections(3), backend)
    with_texts = evaluate(*random_detections(3, text_ids=True), backend)
    assert with_numbers == with_texts
    assert with_numbers.map > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_size_ranges_for_small_images(backend: str) -> None:
    annotations, detections = random_detections(4, num_images=60)
    ours = evaluate(annotations, detections, backend, area_ranges_from_sides(18, 36))
    assert_equal(ours, pycocotools_run(annotations, detections, (18, 36)))
    assert ours.map_large > 0  # with COCO's own ranges nothing on these images is large
    assert np.isnan(evaluate(annotations, detections, backend).map_large)


@pytest.mark.parametrize("max_dets", [1, 2, 10, 300])
def test_backends_agree_on_any_limit(max_dets: int) -> None:
    for seed in range(3):
        document = random_detections(seed, num_categories=1)
        fast, reference = (evaluate(*document, backend=backend, max_dets=max_dets) for backend in BACKENDS)
        np.testing.assert_allclose(
            list(fast.scalars().values()), list(reference.scalars().values()), atol=1e-9, equal_nan=True
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_annotations_area_decides_an_objects_size(backend: str) -> None:
    big_box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 60, 60], "area": 500.0, "iscrowd": 0}
    annotations = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": [big_box]}
    found = evaluate(annotations, [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 60, 60], "score": 0.9}], backend)
    assert found.map_small == pytest.approx(1)
    assert np.isnan(found.map_medium)


@pytest.mark.parametrize("backend", BACKENDS)
def test_annotation_id_zero_can_be_found(backend: str) -> None:
    one = {"id": 0, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81.0, "iscrowd": 0}
    annotations = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": [one]}
    detections = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.9}]
    assert evaluate(annotations, detections, backend).map == pytest.approx(1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_find_or_nothing_found(backend: str) -> None:
    annotations, detections = random_detections(1)
    evaluator = CocoEvaluator(backend)
    assert evaluator(annotations, []).map == 0
    for no_objects in ({**annotations, "annotations": []}, {"images": [], "annotations": [], "categories": []}):
        accuracy = evaluator(no_objects, detections if no_objects["images"] else [])
        assert np.isnan(accuracy.map)
        assert accuracy.num_objects == 0
        json.dumps(accuracy.to_dict(), allow_nan=False)


def test_result_is_plain_json_with_every_key() -> None:
    accuracy = CocoEvaluator()(*random_detections(2))
    plain = json.loads(json.dumps(accuracy.to_dict(), allow_nan=False))
    assert SCALARS[:3] == ("map", "map50", "map75")
    assert set(SCALARS) < set(plain)
    assert plain["map"] == accuracy.map
    assert plain["map_large"] is None
    assert plain["per_class"][0]["category_id"] == 0
    assert plain["tide"]["counts"]["background"] > 0
    assert 0 < plain["calibration"]["d_ece"] < 1
    assert len(plain["pr_curves"]["curves"]) == 2 * (1 + 4)


def test_missing_areas_are_taken_from_the_boxes_and_said() -> None:
    annotations, detections = random_detections(5)
    for row in annotations["annotations"][::2]:
        row["area"] = row["bbox"][2] * row["bbox"][3]
    full = evaluate(annotations, detections)
    for row in annotations["annotations"][::2]:
        del row["area"], row["iscrowd"]
    for row in annotations["annotations"][1::2]:
        row["iscrowd"] = 0
    bare = evaluate(annotations, detections)
    assert "have no area" in bare.notes[0]
    assert full.notes == ()
    assert bare.num_objects == len(annotations["annotations"])


def test_scores_that_are_no_probabilities_are_not_calibrated() -> None:
    annotations, detections = random_detections(6)
    detections[0]["score"] = 7.5
    accuracy = CocoEvaluator()(annotations, detections)
    assert accuracy.calibration is None
    assert "no calibration" in accuracy.notes[0]


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        (
            "detections",
            {"image_id": 99},
            r"^detections\[2\]: image_id 99 is not in the annotations' images; --lenient",
        ),
        ("detections", {"category_id": None}, r"detections\[2\]: category_id None is not in the annotations' categor"),
        ("detections", {"bbox": [1, 2, 3]}, r"detections\[2\]: bbox must be four numbers \[x, y, w, h\]"),
        ("detections", {"bbox": [1, 2, 3, "4px"]}, r"detections\[2\]: bbox must be four numbers"),
        ("detections", {"bbox": [1, 2, -3, 4]}, r"detections\[2\]: bbox must be finite with width and height >= 0"),
        ("detections", {"score": float("nan")}, r"detections\[2\]: score must be a finite number, not nan"),
        ("detections", {"bbox": [1, 2, 3, "4"]}, r"detections\[2\]: bbox must be four numbers"),
        ("detections", {"bbox": [1, 2, 3, None]}, r"detections\[2\]: bbox must be finite"),
        ("detections", {"bbox": None}, r"detections\[2\]: bbox must be four numbers"),
        ("detections", {"score": "0.5"}, r"detections\[2\]: score must be a finite number, not '0.5'"),
        ("detections", {"score": True}, r"detections\[2\]: score must be a finite number, not True"),
        ("detections", {"bbox": [1, 2, 3, True]}, r"detections\[2\]: bbox must be four numbers"),
        ("detections", {"category_id": True}, r"detections\[2\]: category_id True is not in the annotations'"),
        ("annotations", {"area": True}, r"annotations\[2\]: area must be a finite number, not True"),
        ("detections", {"score": None}, r"detections\[2\]: score must be a finite number, not None"),
        ("annotations", {"category_id": 77}, r"annotations\[2\]: category_id 77 is not in the annotations' categories"),
        ("annotations", {"id": 1}, r"annotations\[2\]: id 1 is given twice"),
        ("images", {"id": 0}, r"images\[\d+\]: id 0 is given twice"),
        ("categories", {"name": "\ud800"}, r"categories\[2\]\.name='\\ud800' must be a text that UTF-8 can hold"),
        ("categories", {"id": [1]}, r"categories\[2\]: id is \[1\]; valid: a whole number of"),
    ],
)
def test_faulty_input_is_refused_in_one_line(where: str, change: dict[str, Any], message: str) -> None:
    annotations, detections = random_detections(7)
    if where == "images":
        annotations["images"].sort(key=lambda row: row["id"])
    rows = detections if where == "detections" else annotations[where]
    rows[2].update(change)
    with pytest.raises(ValueError, match=message) as refusal:
        evaluate(annotations, detections)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("where", "key"),
    [("detections", "score"), ("detections", "bbox"), ("annotations", "image_id"), ("images", "id")],
)
def test_missing_keys_are_named_with_their_index(where: str, key: str) -> None:
    annotations, detections = random_detections(7)
    del (detections if where == "detections" else annotations[where])[2][key]
    with pytest.raises(ValueError, match=rf"^{where}\[2\]: key '{key}' is missing$"):
        evaluate(annotations, detections)
    with pytest.raises(ValueError, match="key 'categories' is missing"):
        evaluate({"images": [], "annotations": []}, [])
    with pytest.raises(ValueError, match="detections: a list of results, not an object"):
        evaluate(annotations, {"annotations": detections})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "coco"}, "backend must be one of hotcoco, pycocotools, got 'coco'"),
        ({"max_dets": 0}, "max_dets must be >= 1, got 0"),
        ({"area_ranges": {"small": [0, 5]}}, "area_ranges must name small, medium and large, got small"),
        (
            {"area_ranges": {"small": [0, 5], "medium": [9, 5], "large": [9, 99]}},
            "area_ranges.medium must be two areas, 0 <= lowest < highest",
        ),
    ],
)
def test_bad_settings_are_refused_when_built(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CocoEvaluator(**settings)
    with pytest.raises(ValueError, match="sides must be 0 < small < medium, got 36 and 18"):
        area_ranges_from_sides(36, 18)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_configuration_builds_it(name: str) -> None:
    from hydra.utils import instantiate

    config = OmegaConf.load(CONF / f"{name}.yaml")
    config.area_ranges = {"small": [0, 324], "medium": [324, 1296], "large": [1296, 1e10]}
    evaluator = instantiate(config)
    accuracy = evaluator(*random_detections(8))
    assert accuracy.backend == name
    assert accuracy.area_ranges == area_ranges_from_sides(18, 36)
    assert accuracy.tide is not None


@pytest.mark.parametrize("seed", range(6))
def test_own_matching_gives_the_same_ap(seed: int) -> None:
    document = random_detections(seed)
    ap = MatchTable.from_coco(*document).average_precision()
    precision = pycocotools_run(*document).eval["precision"][:, :, :, 0, 2].mean(1)
    np.testing.assert_allclose(ap, np.where(precision == -1, np.nan, precision), atol=1e-12, equal_nan=True)


@pytest.mark.slow
def test_five_thousand_images_in_five_seconds() -> None:
    """Of processor time: what else runs on the machine changes nothing. Nearly all are duplicates, the worst case."""
    annotations, detections = random_detections(0, num_images=5000, num_categories=80)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(detections), 500_000 - len(detections))
    detections += [{**detections[i], "score": float(s)} for i, s in zip(rows, rng.random(len(rows)), strict=True)]
    start = time.process_time()
    accuracy = CocoEvaluator()(annotations, detections)
    assert accuracy.num_detections == 500_000
    assert time.process_time() - start < 5
