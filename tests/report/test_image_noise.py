"""One pair of runs: the bootstrap over test images, where the annotations are at hand."""

import json

import numpy as np
import pytest

from harness.report.build import Options, build_report
from harness.report.document import document_of
from harness.report.folders import find_folders
from harness.report.views.terminal import render_terminal
from tests.report.folders import write_arm, write_run

FINGERPRINT = "f00d" * 8


def _scene(images=12):
    rng = np.random.default_rng(0)
    boxes = [[float(x), float(y), 20.0, 20.0] for x, y in rng.integers(0, 80, (images, 2))]
    truth = {
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": 1, "name": "disc"}],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 1, "bbox": box, "area": 400.0, "iscrowd": 0}
            for i, box in enumerate(boxes)
        ],
    }
    return truth, boxes


def _detections(boxes, off):
    return [
        {"image_id": i, "category_id": 1, "bbox": [x + off * (i % 3), y, w, h], "score": 0.5 + 0.01 * i}
        for i, (x, y, w, h) in enumerate(boxes)
    ]


@pytest.fixture
def pair(tmp_path):
    truth, boxes = _scene()
    good = write_run(tmp_path, "ohem", 0, 0.9, heavy=False)
    poor = write_run(tmp_path, "random", 0, 0.5, heavy=False)
    (good / "detections.json").write_text(json.dumps(_detections(boxes, 0)))
    (poor / "detections.json").write_text(json.dumps(_detections(boxes, 5)))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / f"{FINGERPRINT}.json").write_text(json.dumps(truth))
    return tmp_path


def _judged(root):
    report = build_report(find_folders(root), Options())
    return report, report.contexts[0]


def test_a_single_pair_gets_the_noise_of_the_test_set_by_its_name(pair):
    report, judged = _judged(pair)
    found = judged.noise.found["ohem"]
    assert found.num_images == 12
    assert found.interval[0] <= found.difference <= found.interval[1]
    assert found.difference > 0.2
    assert judged.section.row("ohem").comparison.verdict == "open"  # the bootstrap decides nothing
    assert "noise of the test set, not of training" in " ".join(render_terminal(document_of(report)).split())


def test_several_runs_of_one_seed_have_no_single_pair(pair):
    for rate in (0.001, 0.1):
        write_run(pair, "ohem", 0, 0.2, optimizer__lr=rate)
    report = build_report(find_folders(pair), Options(group_by=("sampler",)))
    noise = report.contexts[0].noise
    assert noise.found == {}
    assert "several runs have seed 0" in noise.notes[0]


def test_without_annotations_there_is_a_note(pair):
    (pair / "annotations" / f"{FINGERPRINT}.json").unlink()
    _, judged = _judged(pair)
    assert judged.noise.found == {}
    assert judged.noise.notes[0].endswith(f"no {FINGERPRINT}.json.")


def test_spoilt_detections_are_named(pair):
    next((pair / "runs").glob("*ohem*")).joinpath("detections.json").write_text("[{")
    _, judged = _judged(pair)
    assert judged.noise.found == {}
    assert "detections.json is not what the run wrote" in judged.noise.notes[0]


def test_several_pairs_speak_for_themselves(pair):
    write_arm(pair, "random", [0.5, 0.5], first_seed=1, heavy=False)
    write_arm(pair, "ohem", [0.9, 0.9], first_seed=1, heavy=False)
    assert _judged(pair)[1].noise.found == {}
