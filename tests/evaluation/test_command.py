"""The command line scores any COCO-format files and refuses faulty ones in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.evaluation.accuracy import evaluate
from harness.evaluation.coco_metrics import area_ranges_from_sides
from harness.evaluation.command import main
from harness.evaluation.voc_ap import voc_ap
from tests.evaluation.random_detections import random_detections


def files(folder: Path, annotations: Any, detections: Any) -> list[str]:
    (folder / "gt.json").write_text(json.dumps(annotations))
    (folder / "dt.json").write_text(json.dumps(detections))
    return ["--annotations", str(folder / "gt.json"), "--detections", str(folder / "dt.json")]


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_json_holds_the_librarys_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str], backend: str) -> None:
    annotations, detections = random_detections(1)
    line = files(tmp_path, annotations, detections)
    assert main([*line, "--json", "--voc", "--tide", "--backend", backend, "--sides", "18", "36"]) == 0
    printed = json.loads(capsys.readouterr().out)
    ours = evaluate(annotations, detections, backend, area_ranges_from_sides(18, 36), tide=True)
    voc = printed.pop("voc")
    assert printed == json.loads(json.dumps(ours.to_dict()))
    assert voc["map_every_point"] == voc_ap(annotations, detections).map_every_point


@pytest.mark.parametrize("key", ["annotations", "predictions"])
def test_results_may_be_wrapped(tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    annotations, detections = random_detections(1, text_ids=True)
    assert main(files(tmp_path, annotations, {"info": {}, key: detections})) == 0
    assert f"map         {evaluate(annotations, detections).map:.4f}" in capsys.readouterr().out


def test_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, detections = random_detections(1)
    for row in annotations["annotations"]:
        del row["area"]
    line = files(tmp_path, annotations, detections)
    assert main([*line, "--per-class", "--voc", "--iou", "0.7", "--tide", "--calibration"]) == 0
    out, err = capsys.readouterr()
    for expected in ("category 3", "VOC AP at IoU 0.7", "localization", "delta AP50", "detection ECE", "map_large   -"):
        assert expected in out
    assert err.startswith("note: ")
    assert err.count("\n") == 1


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("harness.evaluate: ")
    assert err.count("\n") == 1
    return err


def test_faulty_input_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, detections = random_detections(1)
    line = files(tmp_path, annotations, detections)
    assert "no such file" in refused([*line[:3], str(tmp_path / "none.json")], capsys)
    (tmp_path / "broken.json").write_text('[{"image_id": 1,')
    assert "broken JSON" in refused([*line[:3], str(tmp_path / "broken.json")], capsys)
    (tmp_path / "picture.json").write_bytes(b"\xff\xd8\xff\xe0")
    assert "picture.json: no JSON text" in refused([*line[:3], str(tmp_path / "picture.json")], capsys)
    assert "under 'annotations' or 'predictions'" in refused(files(tmp_path, annotations, {"a": 1}), capsys)
    assert "not a list" in refused(files(tmp_path, detections, detections), capsys)
    detections[4]["category_id"] = 1234
    assert "detections[4]: category_id 1234 is not" in refused(files(tmp_path, annotations, detections), capsys)
    del detections[3]["score"]
    detections[4]["category_id"] = 1
    assert "detections[3]: key 'score' is missing" in refused(files(tmp_path, annotations, detections), capsys)
    assert "max_dets must be >= 1" in refused([*files(tmp_path, annotations, []), "--max-dets", "0"], capsys)
    assert "iou_thr must be in (0, 1]" in refused([*files(tmp_path, annotations, []), "--voc", "--iou", "7"], capsys)


def test_the_module_runs_without_torch(tmp_path: Path) -> None:
    line = files(tmp_path, *random_detections(1))
    code = (
        "import sys, harness.evaluation.command as command; c = command.main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; "
    )
    run = subprocess.run([sys.executable, "-c", code + "sys.exit(c)", *line], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    module = subprocess.run([sys.executable, "-m", "harness.evaluate", *line[:2]], capture_output=True, text=True)
    assert module.returncode == 2
    assert "--detections" in module.stderr
    missing = [*line[:3], str(tmp_path / "none.json")]
    refusal = subprocess.run([sys.executable, "-m", "harness.evaluate", *missing], capture_output=True, text=True)
    assert (refusal.returncode, refusal.stdout) == (2, "")


def test_ids_in_any_writing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, detections = random_detections(1)
    expected = evaluate(annotations, detections).map
    odd = [dict(row, image_id=f"{row['image_id']:06d}", category_id=float(row["category_id"])) for row in detections]
    assert main([*files(tmp_path, annotations, odd), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["map"] == expected
    assert printed["notes"] == ["detections: image_id is a text of a whole number somewhere and counts as that number"]


def test_flags_and_areas_are_read_as_annotations_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, detections = random_detections(1)
    expected = evaluate(annotations, detections).map
    for row in annotations["annotations"]:
        row["iscrowd"] = str(row["iscrowd"])
    assert evaluate(annotations, detections).map == expected
    annotations["annotations"][3]["iscrowd"] = "maybe"
    assert "annotations[3]: iscrowd: flag is 'maybe'" in refused(files(tmp_path, annotations, detections), capsys)
    del annotations["annotations"][0]["area"]
    annotations["annotations"][2]["area"] = None
    assert "annotations[2]: area must be" in refused(files(tmp_path, annotations, detections), capsys)


def test_unknown_categories_are_refused_or_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, detections = random_detections(1)
    expected = evaluate(annotations, detections).map
    strange = [*detections, {**detections[0], "category_id": 99}, {**detections[0], "image_id": "none.jpg"}]
    assert "is not in the annotations' images; --lenient" in refused(files(tmp_path, annotations, strange), capsys)
    assert main([*files(tmp_path, annotations, strange), "--lenient", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["map"] == expected
    assert printed["notes"] == [
        f"1 of {len(strange)} detections are of no known image and are left out",
        f"1 of {len(strange)} detections are of no known category and are left out",
    ]


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    line = files(tmp_path, *random_detections(1))
    command = [sys.executable, "-m", "harness.evaluate", *line, "--per-class"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_values_that_are_nested_too_deeply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = files(tmp_path, *random_detections(1))
    (tmp_path / "dt.json").write_text("[" * 100_000)
    assert "nested too deeply" in refused(line, capsys)


def yolo_and_voc(folder: Path, annotations: Any, detections: Any) -> None:
    """Write COCO-format input as YOLO's and VOC's files, images of 128 px."""
    from PIL import Image

    for sub in ("y/images/val", "y/labels/val", "y/found", "v/Annotations", "v/found"):
        (folder / sub).mkdir(parents=True)
    names = [row["name"] for row in annotations["categories"]]
    (folder / "y" / "data.yaml").write_text(json.dumps({"train": "images/val", "val": "images/val", "names": names}))
    for image in annotations["images"]:
        stem = f"{image['id']:04d}"
        Image.new("RGB", (128, 128)).save(folder / "y" / "images" / "val" / f"{stem}.png")
        for place, rows in (("labels/val", annotations["annotations"]), ("found", detections)):
            lines, objects = [], []
            for row in rows:
                if row["image_id"] != image["id"]:
                    continue
                x, y, w, h = row["bbox"]
                score = row.get("score")
                shares = [(x + w / 2) / 128, (y + h / 2) / 128, w / 128, h / 128, *([] if score is None else [score])]
                lines.append(f"{row['category_id']} {' '.join(map(repr, shares))}")
                corners = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + w, y + h), strict=True)
                box = "".join(f"<{key}>{value!r}</{key}>" for key, value in corners)
                tail = "" if score is None else f"<score>{score!r}</score>"
                name = names[row["category_id"]]
                objects.append(f"<object><name>{name}</name><bndbox>{box}</bndbox>{tail}</object>")
            (folder / "y" / place / f"{stem}.txt").write_text("\n".join(lines))
            size = "<size><width>128</width><height>128</height></size>"
            target = "Annotations" if place == "labels/val" else "found"
            (folder / "v" / target / f"{stem}.xml").write_text(f"<annotation>{size}{''.join(objects)}</annotation>")


def test_yolo_and_voc_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, detections = random_detections(2, num_images=6, crowds=False)
    inside = [row for row in detections if max(row["bbox"][0] + row["bbox"][2], row["bbox"][1] + row["bbox"][3]) < 128]
    inside = [row for row in inside if min(row["bbox"]) >= 0]
    for row in annotations["annotations"]:
        del row["area"]
        x, y, w, h = row["bbox"]
        row["bbox"] = [x, y, min(w, 128 - x), min(h, 128 - y)]
    yolo_and_voc(tmp_path, annotations, inside)
    expected = evaluate(annotations, inside).scalars()
    for kind in ("y", "v"):
        line = ["--annotations", str(tmp_path / kind), "--detections", str(tmp_path / kind / "found"), "--json"]
        assert main([*line, "--lenient"]) == 0  # VOC has no list of classes, so one without objects is unknown
        printed = json.loads(capsys.readouterr().out)
        assert {key: printed[key] for key in ("map", "map50", "map_small")} == pytest.approx(
            {key: expected[key] for key in ("map", "map50", "map_small")}, abs=1e-9
        )
    (tmp_path / "y" / "found" / "0003.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert "0003.txt, line 1: '0 0.5 0.5 0.1 0.1'; valid: class cx cy w h score" in refused(
        ["--annotations", str(tmp_path / "y"), "--detections", str(tmp_path / "y" / "found")], capsys
    )
    (tmp_path / "v" / "found" / "other.xml").write_text("<annotation/>")
    assert "no image of this name" in refused(
        ["--annotations", str(tmp_path / "v"), "--detections", str(tmp_path / "v" / "found")], capsys
    )


def two_images() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """COCO-format input of two images of 128 px, everything inside them."""
    rows = [
        {"image_id": i, "category_id": k, "bbox": [10.0 + 9 * k, 20.0 * i, 30.0, 25.0], "area": 750.0, "iscrowd": 0}
        for i in (1, 2)
        for k in (0, 1)
    ]
    return {
        "images": [{"id": 1, "width": 128, "height": 128}, {"id": 2, "width": 128, "height": 128}],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        "annotations": [{**row, "id": number} for number, row in enumerate(rows, start=1)],
    }, [{key: row[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9} for row in rows]


def test_unusable_objects_are_refused_or_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in training: a click that some tool saved as a box is no object."""
    annotations, detections = two_images()
    yolo_and_voc(tmp_path, annotations, detections)
    size = "<size><width>128</width><height>128</height></size>"
    box = "<bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    xml = f"<annotation>{size}<object><name>cat</name>{box}</object></annotation>"
    click = {"y": "0 0.5 0.5 0.0 0.1\n", "v": xml}
    named = {"y": "line 1: box has zero area [0.5, 0.5, 0, 0.1]", "v": "object 0: box has zero area [9, 9, 9, 9]"}
    for kind, place in (("y", "labels/val/0001.txt"), ("v", "Annotations/0001.xml")):
        file = tmp_path / kind / place
        file.write_text(click[kind])
        line = ["--annotations", str(tmp_path / kind), "--detections", str(tmp_path / kind / "found")]
        assert named[kind] in refused(line, capsys)
        assert main([*line, "--lenient"]) == 0
        assert f"annotations: 1 left out (the first: {file}, {named[kind]})" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("9 0.5 0.5 0.1 0.1 0.9", "class 9; valid: 0 to"),
        ("0.5 0.5 0.5 0.1 0.1 0.9", "class 0.5; valid: 0 to"),
        ("cat 0.5 0.5 0.1 0.1 0.9", "valid: class cx cy w h score"),
    ],
)
def test_wrong_rows_of_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str) -> None:
    yolo_and_voc(tmp_path, *two_images())
    (tmp_path / "y" / "found" / "0001.txt").write_text(text)
    found = refused(["--annotations", str(tmp_path / "y"), "--detections", str(tmp_path / "y" / "found")], capsys)
    assert "0001.txt, line 1: " in found
    assert says in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<annotation><object><name>a</name></object></annotation>", "object 0: valid: <bndbox> and <score>"),
        ("<annotation>", "broken XML"),
        ("<other/>", "the root element is <other>; valid: <annotation>"),
    ],
)
def test_wrong_xml_of_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str) -> None:
    yolo_and_voc(tmp_path, *two_images())
    (tmp_path / "v" / "found" / "0001.xml").write_text(text)
    found = refused(["--annotations", str(tmp_path / "v"), "--detections", str(tmp_path / "v" / "found")], capsys)
    assert "0001.xml" in found
    assert says in found


def test_places_without_predictions_and_parts_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, detections = two_images()
    yolo_and_voc(tmp_path, annotations, detections)
    line = ["--annotations", str(tmp_path / "y"), "--detections"]
    assert "no .txt and no .xml file" in refused([*line, str(tmp_path / "y" / "images" / "val")], capsys)
    own = [*line, str(tmp_path / "y" / "found")]
    assert "annotations[0]: segmentation is None; valid" in refused([*own, "--iou-type", "segm"], capsys)
    assert "--tide is of boxes; valid: --iou-type bbox" in refused([*own, "--iou-type", "segm", "--tide"], capsys)
    assert "no frequency of each category" in refused([*own, "--lvis"], capsys)
    bare = [{"id": row["id"], "file_name": f"{row['id']:04d}.png"} for row in annotations["images"]]
    (tmp_path / "gt.json").write_text(json.dumps({**annotations, "images": bare}))
    sizes = refused(["--annotations", str(tmp_path / "gt.json"), *own[2:]], capsys)
    assert "has no width and height, which the shares in" in sizes


def test_a_box_whose_area_overflows_lies_beyond_every_range() -> None:
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}],
    }
    boxes = ([1, 1, 9, 9], [0, 0, 1e300, 1e300])
    found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in boxes]
    assert evaluate(truth, found, tide=True).scalars()["map"] == pytest.approx(1.0)


def test_the_split_that_is_asked_for_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key of data.yaml such as test, a list of VOC; a misspelled one is not taken for all images."""
    yolo_and_voc(tmp_path, *two_images())
    lines = {
        kind: ["--annotations", str(tmp_path / kind), "--detections", str(tmp_path / kind / "found"), "--split"]
        for kind in "yv"
    }
    assert "data.yaml: no 'test'" in refused([*lines["y"], "test"], capsys)
    content = json.loads((tmp_path / "y" / "data.yaml").read_text())
    (tmp_path / "y" / "data.yaml").write_text(json.dumps({**content, "test": "images/val"}))
    assert main([*lines["y"], "test"]) == 0
    assert main([*lines["v"], "test"]) == 0, "without lists, all are meant"
    (tmp_path / "v" / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "v" / "ImageSets" / "Main" / "test.txt").write_text("0001\n0002\n")
    assert main([*lines["v"], "test"]) == 0
    capsys.readouterr()
    assert "--split tset: it is not in" in refused([*lines["v"], "tset"], capsys)
