"""LVIS's federated numbers equal those of the authors' own code (lvis-api), kept in tests/golden/lvis_api.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.evaluation.accuracy import evaluate
from harness.evaluation.coco_format import read_tables
from harness.evaluation.command import main
from harness.evaluation.federated import MAX_DETS, is_federated, looked_for
from harness.evaluation.match_table import MatchTable
from tests.evaluation.federated_data import lvis_data

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden" / "lvis_api.json").read_text())["results"]
NAMES = {
    "AP": "map", "AP50": "map50", "AP75": "map75", "APs": "map_small", "APm": "map_medium", "APl": "map_large",
    "AR@300": "ar_100", "ARs@300": "ar_small", "ARm@300": "ar_medium", "ARl@300": "ar_large",
    "APr": "map_rare", "APc": "map_common", "APf": "map_frequent",
}  # fmt: skip


@pytest.mark.parametrize("seed", GOLDEN)
def test_numbers_are_the_authors(seed: str) -> None:
    accuracy = evaluate(*lvis_data(int(seed)))
    assert accuracy.frequencies is not None
    ours = accuracy.scalars() | accuracy.frequencies
    for theirs, name in NAMES.items():
        expected = GOLDEN[seed][theirs]
        assert ours[name] == pytest.approx(float("nan") if expected == -1 else expected, abs=1e-6, nan_ok=True), name
    assert accuracy.max_dets == 300
    assert np.isnan(accuracy.ar_1)


def test_what_was_not_looked_for_counts_in_neither_way() -> None:
    annotations, detections = lvis_data(0)
    tables = read_tables(annotations, detections)
    counted = looked_for(annotations, tables)
    images = {row["id"]: row for row in annotations["images"]}
    for row, kept in zip(detections, counted, strict=True):
        present = {a["category_id"] for a in annotations["annotations"] if a["image_id"] == row["image_id"]}
        assert kept == (row["category_id"] in present | set(images[row["image_id"]]["neg_category_ids"]))
    assert 0 < counted.mean() < 1
    kept_only = [row for row, kept in zip(detections, counted, strict=True) if kept]
    assert evaluate(annotations, kept_only).map == pytest.approx(evaluate(annotations, detections).map, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_kept_matches_give_the_same_ap(seed: int) -> None:
    annotations, detections = lvis_data(seed)
    rng = np.random.default_rng(seed)
    # More false ones than count in an image: of its other detections only those with a higher score are left.
    crowded = [{**row, "score": float(rng.random())} for row in detections[:1] for _ in range(MAX_DETS + 100)]
    for found in (detections, [*detections, *crowded]):
        expected = evaluate(annotations, found)
        ap = MatchTable.from_coco(annotations, found).average_precision()
        assert np.nanmean(ap) == pytest.approx(expected.map, abs=1e-12)
        np.testing.assert_allclose(ap.mean(0), [row.ap for row in expected.per_class], atol=1e-12)


def test_no_errors_where_not_all_objects_are_known() -> None:
    accuracy = evaluate(*lvis_data(0), tide=True, calibration=True)
    assert (accuracy.tide, accuracy.calibration) == (None, None)
    assert "federated annotations (LVIS)" in accuracy.notes[-1]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, detections = lvis_data(1)
    line = ["--annotations", str(tmp_path / "g.json"), "--detections", str(tmp_path / "d.json")]
    (tmp_path / "g.json").write_text(json.dumps(annotations))
    (tmp_path / "d.json").write_text(json.dumps(detections))
    assert main([*line, "--lvis", "--json"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert printed["frequencies"]["map_rare"] == pytest.approx(GOLDEN["1"]["APr"], abs=1e-6)
    assert main(line) == 0
    assert "map_rare" not in capsys.readouterr().out
    assert main([*line, "--lvis", "--tide"]) == 2
    for row in annotations["images"]:
        del row["neg_category_ids"]
    assert not is_federated(annotations)
    (tmp_path / "g.json").write_text(json.dumps(annotations))
    assert main([*line, "--lvis"]) == 2
    assert "--lvis: the annotations have no frequency" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frequency": "x"}, "categories: 1 has the frequency 'x'; valid: r, c, f"),
        ({"neg_category_ids": [99]}, r"images: 1: neg_category_ids \[99\] names no categories"),
        ({"not_exhaustive_category_ids": 5}, "images: 1: not_exhaustive_category_ids 5 names no categories"),
    ],
)
def test_faulty_input(change: dict[str, Any], message: str) -> None:
    annotations, detections = lvis_data(0)
    (annotations["categories"] if "frequency" in change else annotations["images"])[0].update(change)
    with pytest.raises(ValueError, match=message):
        evaluate(annotations, detections)
