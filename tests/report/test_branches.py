"""Masks, keypoints and LVIS's frequency groups in the tables, beside the boxes; each can be the metric judged."""

import json

import pytest

from harness.report.build import build_report
from harness.report.command import main
from harness.report.details import details
from harness.report.evidence import gather
from harness.report.folders import find_folders
from harness.report.frame import load_runs
from harness.report.main_table import main_table
from harness.report.parts import Fold
from harness.report.rules import Options
from tests.report.folders import write_arm


def _with(runs, **more):
    for seed, run in enumerate(runs):
        result = json.loads((run / "result.json").read_text())
        result["metrics"] |= {key: value(seed) for key, value in more.items()}
        (run / "result.json").write_text(json.dumps(result))


def _branch(base):
    return lambda seed: {"iou_type": "segm", "map": base + 0.01 * seed, "map50": 0.5, "map75": 0.2, "map_small": None,
                         "map_medium": 0.3, "map_large": None, "ar": 0.4, "max_dets": 100,
                         "per_class": {"disc": base, "star": None}, "notes": []}  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    _with(write_arm(tmp_path, "random", [0.4, 0.41, 0.42], heavy=False), segm=_branch(0.2), keypoints=_branch(0.1))
    _with(write_arm(tmp_path, "ohem", [0.5, 0.51, 0.52], heavy=False), segm=_branch(0.3))
    return tmp_path


def _cells(table, head):
    place = [column.head for column in table.columns].index(head)
    return [row[place].text for row in table.rows]


def test_masks_and_keypoints_stand_beside_the_boxes(runs):
    (one,) = build_report(find_folders(runs), Options()).contexts
    table = main_table(one.section)
    assert [column.head for column in table.columns][2:5] == ["mAP", "mask mAP", "keypoint mAP"]
    assert _cells(table, "mask mAP") == ["0.210", "0.310"]
    assert _cells(table, "keypoint mAP") == ["0.110", "—"]


def test_mask_ap_can_be_judged(runs):
    (one,) = build_report(find_folders(runs), Options(metric="segm.map")).contexts
    row = one.section.row("ohem")
    assert row.comparison.differences == pytest.approx([0.1, 0.1, 0.1])
    assert one.section.rules.margin == 0.005
    assert [column.head for column in main_table(one.section).columns][2:5] == ["mask mAP", "mAP", "keypoint mAP"]


def test_classes_of_masks_have_a_table_of_their_own(runs):
    report = build_report(find_folders(runs), Options())
    (evidence,) = gather(report, 0)
    folds = {
        part.title: part
        for part in details(report.table, report.contexts[0].section, evidence, 0)
        if isinstance(part, Fold)
    }
    (table,) = folds["Mask AP by class, in numbers"].parts
    assert [[cell.text for cell in row] for row in table.rows] == [["disc", "0.200", "0.300"]]
    assert "Keypoint AP by class, in numbers" in folds


def test_frequency_groups_of_lvis(tmp_path, capsys):
    groups = {"map_rare": 0.1, "map_common": None, "map_frequent": 0.5}
    _with(write_arm(tmp_path, "random", [0.4, 0.41], heavy=False), frequencies=lambda seed: groups)
    (one,) = build_report(find_folders(tmp_path), Options()).contexts
    table = main_table(one.section)
    assert (_cells(table, "AP rare"), _cells(table, "AP frequent")) == (["0.100"], ["0.500"])
    assert "AP common" not in [column.head for column in table.columns]
    assert load_runs(tmp_path)["map_rare"].tolist() == [0.1, 0.1]
    assert main([str(tmp_path), "--metric", "map_frequent"]) == 0
    assert "AP frequent" in capsys.readouterr().out


def test_a_damaged_number_of_masks_is_named(runs):
    run = next((runs / "runs").iterdir())
    _with([run], segm=lambda seed: _branch(0.2)(0) | {"per_class": {"disc": 7}})
    (skipped,) = load_runs(runs).attrs["skipped"]
    assert skipped.reason == "corrupt: result.json: metrics.segm.per_class.disc is 7, not a number from 0 to 1"
