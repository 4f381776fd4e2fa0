"""Where the noise comes from: the report's split is that of the statistics on the predictions in the run folders."""

import json

import numpy as np
import pytest

from harness.evaluation.match_table import MatchTable
from harness.report.build import build_report
from harness.report.document import document_of
from harness.report.evidence import gather
from harness.report.folders import find_folders
from harness.report.parts import Table, Text
from harness.report.rules import Options
from harness.report.variance import variance_of
from harness.report.variance_details import variance_details
from harness.statistics import pairing, resampled_scores, split_variance
from tests.report.folders import write_run
from tests.report.test_image_noise import FINGERPRINT, _scene


def _detections(boxes, rng, off):
    return [
        {"image_id": i, "category_id": 1, "bbox": [x + off * abs(rng.normal()), y, w, h], "score": float(rng.random())}
        for i, (x, y, w, h) in enumerate(boxes)
    ]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two methods with three seeds each, and their true match tables."""
    root = tmp_path_factory.mktemp("results")
    truth, boxes = _scene()
    (root / "annotations").mkdir()
    (root / "annotations" / f"{FINGERPRINT}.json").write_text(json.dumps(truth))
    tables = {}
    for chosen, off in (("random", 5), ("ohem", 3)):
        for seed in range(3):
            found = _detections(boxes, np.random.default_rng([seed, off]), off)
            tables[chosen, seed] = MatchTable.from_coco(truth, found)
            run = write_run(root, chosen, seed, tables[chosen, seed].mean_average_precision(), heavy=False)
            (run / "detections.json").write_text(json.dumps(found))
    return root, tables


def _variance(root):
    report = build_report(find_folders(root), Options())
    return variance_of(report.table, report.contexts[0].section)


def test_the_parts_are_those_of_the_statistics(sweep):
    root, tables = sweep
    found = _variance(root)
    random, ohem = ([tables[name, seed] for seed in range(3)] for name in ("random", "ohem"))
    for split, rows in zip(
        [*found.methods, *found.differences],
        (resampled_scores(random), resampled_scores(ohem), resampled_scores(ohem, random)),
        strict=True,
    ):
        expected = split_variance(rows[:, 1:], rows[:, 0], 12)
        assert [split.parts.seed, split.parts.images, split.parts.both] == pytest.approx(
            [expected.seed, expected.images, expected.both]
        )
    assert [split.label for split in found.differences] == ["ohem − random"]
    (paired,) = found.pairings
    assert paired.value == pairing(*(([table.mean_average_precision() for table in own]) for own in (ohem, random)))


def test_shares_add_up_and_the_better_purchase_is_said(sweep):
    root, _ = sweep
    found = _variance(root)
    _, _, table, text = variance_details(found)
    assert isinstance(table, Table)
    for row in table.rows:
        assert sum(cell.value for cell in row[4:7]) == pytest.approx(1)
        assert row[-1].text in ("seeds", "images")
    difference = table.rows[-1]
    more_seeds, more_images = difference[8].value, difference[9].value
    assert difference[-1].text == ("seeds" if more_seeds <= more_images else "images")
    assert isinstance(text, Text)
    assert text.lines[0].startswith("ohem − random: the mean of 3 seeds on 12 images has a standard error of 0.")
    assert text.lines[1].startswith("ohem and random: differences of the same seed have sd 0.")


def test_it_stands_in_the_report_where_predictions_are_read(sweep):
    report = build_report(find_folders(sweep[0]), Options())
    heads = [getattr(part, "text", "") for part in document_of(report, gather(report, 1))]
    assert "Where the noise comes from" in heads
    heads = [getattr(part, "text", "") for part in document_of(report, gather(report, 0))]
    assert "Where the noise comes from" not in heads


def test_missing_predictions_are_said(tmp_path):
    for chosen in ("random", "ohem"):
        for seed in range(3):
            write_run(tmp_path, chosen, seed, 0.4, heavy=False)
    found = _variance(tmp_path)
    assert found.notes == (f"The variance is not split: incomplete: no {FINGERPRINT}.json.",)


def test_two_seeds_are_not_split(tmp_path):
    for seed in range(2):
        write_run(tmp_path, "random", seed, 0.4, heavy=False)
    assert variance_details(_variance(tmp_path)) == []
