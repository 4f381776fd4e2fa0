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
    for expected in ("category 3", "VOC AP at IoU 0.7", "localisation", "delta AP50", "detection ECE", "map_large   -"):
        assert expected in out
    assert err.startswith("note: ")
    assert err.count("\n") == 1


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("harness.evaluation.command: ")
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
