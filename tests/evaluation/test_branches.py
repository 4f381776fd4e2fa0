"""Masks and keypoints: hotcoco's numbers equal those of pycocotools, through this code and used directly."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from harness.evaluation.accuracy import evaluate
from harness.evaluation.branches import COCO_SIGMAS, branch_accuracy
from harness.evaluation.command import main

SIZE = 96
Document = dict[str, Any]


def random_scene(seed: int, iou_type: str, points: int = 17) -> tuple[Document, list[Document]]:
    """Objects as ellipses with keypoints, and detections that miss them by a little; text ids, crowds, empty images."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    images = [{"id": f"image{i}", "width": SIZE, "height": SIZE} for i in range(12)]
    objects: list[Document] = []
    results: list[Document] = []

    def part(center: np.ndarray, radii: np.ndarray) -> tuple[Document, Document]:
        inside = ((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2 < 1
        rle = rle_codec.encode(np.asfortranarray(inside.astype(np.uint8)))
        mask = {"size": rle["size"], "counts": rle["counts"].decode()}
        angle = np.arange(points) * 2 * np.pi / points
        at = center + radii * np.stack((np.cos(angle), np.sin(angle)), 1)
        seen = rng.integers(0, 3, points)
        flat = np.column_stack((at, seen)).ravel().tolist()
        return mask, {"keypoints": flat, "area": float(rle_codec.area(rle))}

    for image in images[1:]:
        for _ in range(rng.integers(0, 5)):
            center, radii = rng.uniform(15, SIZE - 15, 2), rng.uniform(5, 30, 2)
            mask, more = part(center, radii)
            category = int(rng.integers(1, 3))
            row = {"id": len(objects) + 1, "image_id": image["id"], "category_id": category}
            box = [*(center - radii), *(2 * radii)]
            row |= {"bbox": [float(v) for v in box], "iscrowd": int(iou_type == "segm" and rng.random() < 0.2)}
            row |= {"area": more["area"], "segmentation": mask} | {"keypoints": more["keypoints"]}
            objects.append(row)
            for noise in rng.choice([0.0, 1.0, 4.0], rng.integers(0, 4)):
                mask, more = part(center + rng.normal(size=2) * noise, radii + rng.normal(size=2) * noise / 2)
                results.append(
                    {"image_id": image["id"], "category_id": category, "score": float(rng.random())}
                    | {"segmentation": mask, "keypoints": more["keypoints"], "bbox": [float(v) for v in box]}
                )
    categories = [{"id": k, "name": f"kind {k}"} for k in (1, 2, 3)]
    return {"images": images, "annotations": objects, "categories": categories}, results


def reference(annotations: Document, detections: list[Document], iou_type: str) -> list[float]:
    """pycocotools used as its own demo does."""
    truth, found = copy.deepcopy(annotations), copy.deepcopy(detections)
    number = {image["id"]: index + 1 for index, image in enumerate(truth["images"])}
    for row in [*truth["annotations"], *found]:
        row["image_id"] = number[row["image_id"]]
        row["num_keypoints"] = sum(v > 0 for v in row["keypoints"][2::3])
    for row in truth["images"]:
        row["id"] = number[row["id"]]
    for row in found:
        del row["bbox"], row["keypoints" if iou_type == "segm" else "segmentation"]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(found), iou_type)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float("nan") if value == -1 else float(value) for value in run.stats]


@pytest.mark.parametrize("iou_type", ["segm", "keypoints"])
@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("seed", range(3))
def test_numbers_are_the_references(seed: int, backend: str, iou_type: str) -> None:
    annotations, detections = random_scene(seed, iou_type)
    ours = branch_accuracy(annotations, detections, iou_type, backend)
    stats = reference(annotations, detections, iou_type)
    if iou_type == "segm":
        expected = dict(zip(("map", "map50", "map75", "map_small", "map_medium", "map_large"), stats, strict=False))
        expected["ar"] = stats[8]
    else:
        expected = dict(zip(("map", "map50", "map75", "map_medium", "map_large", "ar"), stats, strict=False))
        expected["map_small"] = float("nan")
    assert 0.1 < expected["map"] < 0.95
    assert ours.scalars() == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert list(ours.per_class) == ["kind 1", "kind 2", "kind 3"]


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_no_detections_and_no_objects(backend: str) -> None:
    annotations, _ = random_scene(0, "segm")
    assert branch_accuracy(annotations, [], "segm", backend).map == 0
    assert np.isnan(branch_accuracy({**annotations, "annotations": []}, [], "segm", backend).map)


def test_perfect_keypoints_of_any_number() -> None:
    annotations, _ = random_scene(0, "keypoints", points=5)
    perfect = [{**row, "score": 0.9} for row in annotations["annotations"]]
    assert branch_accuracy(annotations, perfect, "keypoints").map == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"keypoint_sigmas=\[0.1\] must be 5 numbers above 0"):
        branch_accuracy(annotations, perfect, "keypoints", sigmas=[0.1])
    assert len(COCO_SIGMAS) == 17


def test_detections_of_unknown_categories_are_left_out_of_masks_as_of_boxes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, detections = random_scene(1, "segm")
    strange = [*detections, {**detections[0], "category_id": 99}]
    expected = evaluate(annotations, detections)
    found = evaluate(annotations, strange, lenient=True)
    assert found.segm is not None
    assert expected.segm is not None
    assert (found.map, found.segm.scalars()) == (expected.map, pytest.approx(expected.segm.scalars(), nan_ok=True))
    (tmp_path / "g.json").write_text(json.dumps(annotations))
    (tmp_path / "d.json").write_text(json.dumps(strange))
    line = ["--annotations", str(tmp_path / "g.json"), "--detections", str(tmp_path / "d.json"), "--iou-type", "segm"]
    assert main(line) == 2
    assert "category_id 99 is not in the annotations' categories; --lenient" in capsys.readouterr().err.replace(
        "\n", " "
    )
    assert main([*line, "--lenient"]) == 0
    printed = capsys.readouterr()
    assert f"map         {expected.segm.map:.4f}" in printed.out
    assert f"1 of {len(strange)} detections are of no known category and are left out" in printed.err


def test_boxes_and_masks_are_scored_together_and_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, detections = random_scene(1, "segm")
    both = evaluate(annotations, detections)
    assert both.segm is not None
    assert both.keypoints is not None
    assert both.to_dict()["segm"]["map"] == pytest.approx(branch_accuracy(annotations, detections, "segm").map)
    boxes = [{key: value for key, value in row.items() if key != "segmentation"} for row in detections]
    assert both.map == evaluate(annotations, boxes).map
    line = ["--annotations", str(tmp_path / "g.json"), "--detections", str(tmp_path / "d.json"), "--iou-type", "segm"]
    (tmp_path / "g.json").write_text(json.dumps(annotations))
    (tmp_path / "d.json").write_text(json.dumps(detections))
    assert main([*line, "--per-class"]) == 0
    out = capsys.readouterr().out
    assert f"map         {both.segm.map:.4f}" in out
    assert "kind 3" in out
    assert main([*line, "--tide"]) == 2
    assert "--tide is of boxes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "part", "value"),
    [("detections", "segmentation", None), ("annotations", "segmentation", []), ("detections", "keypoints", "x")],
)
def test_faulty_parts_are_named(where: str, part: str, value: Any) -> None:
    annotations, detections = random_scene(0, "keypoints")
    (detections if where == "detections" else annotations["annotations"])[1][part] = value
    with pytest.raises(ValueError, match=rf"{where}\[1\]: {part} is "):
        branch_accuracy(annotations, detections, "segm" if part == "segmentation" else part)


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        ("detections", {"score": True}, r"^detections\[1\]: score must be a finite number, not True$"),
        ("detections", {"score": "0.5"}, r"^detections\[1\]: score must be a finite number, not '0.5'$"),
        ("annotations", {"iscrowd": "maybe"}, r"^annotations\[1\]: iscrowd: flag is 'maybe'; valid: "),
    ],
)
def test_faulty_input_is_refused_in_one_line(where: str, change: Document, message: str) -> None:
    annotations, detections = random_scene(0, "segm")
    (detections if where == "detections" else annotations[where])[1].update(change)
    with pytest.raises(ValueError, match=message):
        branch_accuracy(annotations, detections, "segm")


def test_flags_are_read_as_words() -> None:
    """A text "0" is no crowd."""
    annotations, detections = random_scene(0, "segm")
    expected = branch_accuracy(annotations, detections, "segm")
    for row in annotations["annotations"]:
        row["iscrowd"] = str(row["iscrowd"])
    assert repr(branch_accuracy(annotations, detections, "segm")) == repr(expected)  # NaN, too
