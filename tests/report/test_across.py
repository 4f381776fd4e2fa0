"""Several data sets together: what is put together, what the numbers are, and what is not compared."""

import math

import numpy as np
import pandas as pd
import pytest

from harness.report.build import Options, build_report
from harness.report.command import main
from harness.report.findings import across_text
from harness.report.folders import find_folders
from tests.report.folders import write_arm

FIRST, SECOND, THIRD = "a" * 32, "b" * 32, "c" * 32


def _across(root, **options):
    return build_report(find_folders(root), Options(**options)).across


@pytest.fixture
def two_sets(tmp_path):
    """The second data set is twice as hard, and random is ahead there."""
    write_arm(tmp_path, "random", [0.40, 0.42, 0.41], fingerprint=FIRST)
    write_arm(tmp_path, "ohem", [0.45, 0.46, 0.44], fingerprint=FIRST)
    write_arm(tmp_path, "random", [0.20, 0.21, 0.22], fingerprint=SECOND, data__num_train=50)
    write_arm(tmp_path, "ohem", [0.20, 0.20, 0.21], fingerprint=SECOND, data__num_train=50)
    return tmp_path


def test_gain_is_the_interquartile_mean_of_paired_differences(two_sets):
    (found,) = _across(two_sets)
    (row,) = found.rows
    differences = sorted([0.05, 0.04, 0.03, 0.0, -0.01, -0.01])
    assert row.gain == pytest.approx(np.mean(differences[1:5]))
    assert row.differences == pytest.approx((0.04, -0.02 / 3))
    assert row.pairs == 6
    assert row.ahead == 1
    low, high = row.gain_interval
    assert low < row.gain < high


def test_probability_of_improvement_counts_all_pairs_of_seeds(two_sets):
    (found,) = _across(two_sets)
    (row,) = found.rows
    # On the second: .20 and .20 tie with one of three, .21 beats one and ties with one.
    second = (0.5 + 0.5 + 1.5) / 9
    assert row.probabilities == pytest.approx((1, second))
    assert row.probability == pytest.approx((1 + second) / 2)
    low, high = row.probability_interval
    assert 0 <= low <= row.probability <= high <= 1
    (said,) = across_text(found)
    assert "ahead on 1 of 2 data sets" in said
    assert f"probability {row.probability:.2f}" in said


def test_less_is_better_for_errors(two_sets):
    (found,) = _across(two_sets, metric="train_seconds")
    (row,) = found.rows
    assert row.gain > 20  # ohem's folders say 125 s, random's 100
    assert row.probability == 0
    assert row.ahead == 0
    assert "lies below one half" in across_text(found)[0]


def test_a_data_set_counts_once_however_often_it_was_used(two_sets):
    for iterations in (500, 1000):
        write_arm(two_sets, "random", [0.1, 0.1], fingerprint=FIRST, run__iterations=iterations)
        write_arm(two_sets, "ohem", [0.9, 0.9], fingerprint=FIRST, run__iterations=iterations)
    (found,) = _across(two_sets)
    assert found.title == "tiny_rcnn over 2 data sets"
    assert found.rows[0].ahead == 1
    assert found.rows[0].pairs == 6
    assert "500 iterations" in found.notes[0]
    assert "1000 iterations" in found.notes[0]


def test_a_data_set_with_the_baseline_alone_is_left_out(two_sets):
    write_arm(two_sets, "random", [0.1, 0.1], fingerprint=THIRD, data__num_train=70)
    (found,) = _across(two_sets)
    assert len(found.contexts) == 2


def test_settings_that_differ_between_the_data_sets_are_named(tmp_path):
    for fingerprint, number, num in ((FIRST, 10, 64), (SECOND, 20, 512)):
        for chosen in ("random", "ohem"):
            more = {"fingerprint": fingerprint, "data__num_train": number, "sampler__num": num}
            write_arm(tmp_path, chosen, [0.40, 0.42], **more)
    (found,) = _across(tmp_path)
    assert found.notes == ("Between the data sets, runs of one name also differ in sampler.num.",)


def test_two_seeds_have_no_interval(tmp_path):
    for fingerprint, number in ((FIRST, 10), (SECOND, 20)):
        write_arm(tmp_path, "random", [0.40, 0.42], fingerprint=fingerprint, data__num_train=number)
        write_arm(tmp_path, "ohem", [0.45, 0.46], fingerprint=fingerprint, data__num_train=number)
    (found,) = _across(tmp_path)
    assert all(map(math.isnan, (*found.rows[0].gain_interval, *found.rows[0].probability_interval)))
    assert "no interval" in across_text(found)[0]
    assert found.rows[0].probability == 1


def test_one_data_set_other_detectors_and_lengths_are_not_put_together(tmp_path):
    write_arm(tmp_path, "random", [0.40, 0.42, 0.41])
    write_arm(tmp_path, "ohem", [0.40, 0.42, 0.43])
    write_arm(tmp_path, "random", [0.40, 0.42, 0.41], run__iterations=500)
    write_arm(tmp_path, "ohem", [0.40, 0.42, 0.43], run__iterations=500)
    assert _across(tmp_path) == []
    other = {"detector": "tiny_fcos"}
    for chosen in ("random", "ohem"):
        write_arm(tmp_path, chosen, [0.1, 0.2, 0.3], fingerprint=SECOND, data__num_train=50, choices=other)
    assert _across(tmp_path) == []


def test_a_method_that_some_data_set_lacks_is_named(two_sets):
    write_arm(two_sets, "iou_balanced", [0.45, 0.46, 0.44], fingerprint=FIRST)
    (found,) = _across(two_sets)
    assert [row.label for row in found.rows] == ["ohem"]
    assert "iou_balanced" in found.notes[0]


def test_all_files_say_it(two_sets, capsys):
    assert main([str(two_sets)]) == 0
    said = capsys.readouterr().out
    folder = two_sets / "report"
    for text in (said, (folder / "report.md").read_text(), (folder / "report.html").read_text()):
        assert "tiny_rcnn over 2 data sets" in text
        assert "P(improvement)" in text
    (row,) = pd.read_csv(folder / "across.csv").to_dict("records")
    assert row["method"] == "ohem"
    assert row["data_sets"] == 2
    assert row["gain_low"] < row["gain_iqm"] < row["gain_high"]
    assert "probability that a run beats one of the baseline" in (folder / "report.html").read_text()
