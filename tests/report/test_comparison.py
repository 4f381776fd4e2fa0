"""The verdicts of the report are those of the statistics on the very numbers of the run folders."""

import pandas as pd
import pytest

from harness.report import contexts
from harness.report.answers import answer, question
from harness.report.build import Options, build_report
from harness.report.command import main
from harness.report.folders import ReportError, find_folders
from harness.report.main_table import main_table
from harness.report.presets import keys_of_presets
from harness.runs.records import State
from harness.statistics import compare
from tests.report.folders import write_arm, write_run

BASE = [0.400, 0.412, 0.395, 0.407, 0.403, 0.399]


def _section(root, **options):
    (one,) = build_report(find_folders(root), Options(**options)).contexts
    return one.section


def _shifted(by, noise):
    return [value + by + step for value, step in zip(BASE, noise, strict=True)]


@pytest.fixture
def sweep(tmp_path):
    write_arm(tmp_path, "random", BASE, heavy=False)
    write_arm(tmp_path, "ohem", _shifted(-0.05, [0.001, -0.002, 0.002, -0.001, 0.0, 0.001]), heavy=False)
    write_arm(tmp_path, "ohem_paper", _shifted(0.08, [0.002, 0.001, -0.003, 0.0, 0.001, -0.002]), heavy=False)
    write_arm(tmp_path, "iou_balanced", _shifted(0.001, [0.01, -0.01, 0.012, -0.013, 0.01, -0.012]), heavy=False)
    write_arm(tmp_path, "matched_random", [0.5, 0.5], heavy=False)
    return tmp_path


@pytest.mark.parametrize("test", ["anytime", "t", "sign_flip"])
def test_numbers_and_verdicts_are_those_of_the_statistics(sweep, test):
    section = _section(sweep, test=test)
    scores = {row.label: row.scores for row in section.rows}
    expected = {one.name: one for one in compare(scores, "random", test=test)}
    found = [str(row.comparison) for row in section.rows[1:]]  # as text, because NaN is not equal to itself
    assert found == [str(expected[row.label]) for row in section.rows[1:]]


def test_verdicts_in_words(sweep):
    section = _section(sweep)
    assert {row.label: row.comparison.verdict for row in section.rows[1:]} == {
        "ohem_paper": "better",
        "ohem": "worse",
        "iou_balanced": "open",
        "matched_random": "open",
    }
    assert section.rows[0].label == "random"
    assert section.rows[0].comparison is None
    means = [row.mean for row in section.rows[1:]]
    assert means == sorted(means, reverse=True)
    others = "matched_random, ohem_paper, iou_balanced and ohem"
    assert question(section) == f"Do {others} change mAP against random, and is the difference real?"
    said = " ".join(answer(section))
    for words in ("ohem_paper is better than random (+0.0798", "ohem is worse than random (−0.0498",
                  "iou_balanced is not settled against random", "From 3 paired seeds on"):  # fmt: skip
        assert words in said


def test_library_and_report_agree_on_the_table_that_the_report_writes(sweep):
    """The same verdicts from `runs.csv` by the library alone, all defaults."""
    assert main([str(sweep)]) == 0
    runs = pd.read_csv(sweep / "report" / "runs.csv")
    scores = {name: dict(zip(own["seed"], own["map"], strict=True)) for name, own in runs.groupby("sampler")}
    summary = pd.read_csv(sweep / "report" / "summary.csv").set_index("method")
    for one in compare(scores, "random"):
        row = summary.loc[one.name]
        assert row["verdict"] == one.verdict
        assert (row["pairs"], row["p_holm"]) == pytest.approx((one.n, one.p_holm))
        assert (row["interval_low"], row["interval_high"]) == pytest.approx(one.interval)


def test_same_within_the_margin_that_was_asked_for(sweep):
    section = _section(sweep, margin=0.04)
    assert section.row("iou_balanced").comparison.verdict == "same within ±margin"
    assert "iou_balanced is the same as random within ±0.04 (+0.0005, 98.75 % interval [" in " ".join(answer(section))
    assert "same within ±0.04" in [cell.text for row in main_table(section).rows for cell in row]


def test_with_the_sign_flip_test_six_seeds_show_nothing_among_four_methods(sweep):
    verdicts = {row.comparison.verdict for row in _section(sweep, test="sign_flip").rows[1:]}
    assert verdicts == {"open"}


def test_less_is_better_for_costs_and_errors(tmp_path):
    write_arm(tmp_path, "random", BASE, heavy=False)
    write_arm(tmp_path, "ohem", BASE, heavy=False)
    section = _section(tmp_path, metric="train_seconds")
    (one,) = [row.comparison for row in section.rows if row.comparison]
    assert one.mean_difference > 0
    assert one.verdict == "worse"


def test_pairs_are_the_seeds_that_both_have(tmp_path):
    write_arm(tmp_path, "random", BASE, heavy=False)
    write_arm(tmp_path, "ohem", [0.5, 0.5, 0.5], first_seed=4, heavy=False)
    one = _section(tmp_path).row("ohem").comparison
    assert one.seeds == (4, 5)
    assert one.differences == pytest.approx((0.097, 0.101))
    assert one.verdict == "open"


def test_no_shared_seed_is_said(tmp_path):
    write_arm(tmp_path, "random", [0.4], heavy=False)
    write_arm(tmp_path, "ohem", [0.5], first_seed=7, heavy=False)
    section = _section(tmp_path)
    assert answer(section) == ["ohem: shares no seed with random, so it is not compared."]


def test_an_undefined_metric_leaves_its_seed_out(tmp_path):
    write_arm(tmp_path, "random", BASE, heavy=False)
    write_arm(tmp_path, "ohem", [None, 0.5, 0.5, 0.5], heavy=False)
    section = _section(tmp_path)
    assert section.row("ohem").comparison.seeds == (1, 2, 3)
    assert "ohem: mAP is undefined in 1 of 4 seeds." in section.notes


def test_the_baseline_is_random_else_the_method_with_most_runs_or_as_asked(tmp_path):
    write_arm(tmp_path, "ohem", BASE, heavy=False)
    write_arm(tmp_path, "iou_balanced", BASE[:3], heavy=False)
    assert _section(tmp_path).baselines == ("ohem",)
    assert _section(tmp_path, baseline="sampler=iou_balanced").baselines == ("iou_balanced",)
    write_arm(tmp_path, "random", BASE[:1], heavy=False)
    assert _section(tmp_path).baselines == ("random",)


def test_of_two_random_arms_the_usual_one_is_the_baseline(tmp_path):
    write_arm(tmp_path, "random", BASE, heavy=False, sampler__pos_fraction=0.5)
    write_arm(tmp_path, "random", BASE, heavy=False)
    write_arm(tmp_path, "ohem", BASE, heavy=False)
    section = _section(tmp_path, baseline="sampler=random")
    assert section.baselines == ("random",)
    assert section.row("random pos_fraction=0.5").comparison.baseline == "random"
    asked = _section(tmp_path, baseline="sampler=random,sampler.pos_fraction=0.5")
    assert asked.baselines == ("random pos_fraction=0.5",)


def test_in_a_grid_each_method_meets_the_baseline_with_the_same_other_settings(tmp_path):
    for loss in ("cross_entropy", "focal"):
        for chosen in ("random", "ohem"):
            extra = {"choices": {"loss/classification": loss}, "loss__classification__label_smoothing": len(loss)}
            write_arm(tmp_path, chosen, BASE, heavy=False, **extra)
    section = _section(tmp_path, baseline="sampler=random", group_by=("sampler", "loss"))
    pairs = {row.label: row.comparison.baseline for row in section.rows if row.comparison}
    assert pairs == {"ohem + focal": "random + focal", "ohem + cross_entropy": "random + cross_entropy"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "sampler=banana"}, "sampler is one of ohem, random"),
        ({"baseline": "banana=1"}, "no run has a setting banana; there are sampler"),
        ({"baseline": "sampler"}, "write it as setting=value"),
        ({"metric": "banana"}, "no such metric; there are map, map50"),
        ({"metric": "sampler"}, "no such metric"),
    ],
)
def test_what_cannot_be_asked_names_what_can(tmp_path, options, message):
    write_run(tmp_path, "random", 0, heavy=False)
    write_run(tmp_path, "ohem", 0, heavy=False)
    with pytest.raises(ReportError, match=message) as error:
        _section(tmp_path, **options)
    assert "\n" not in str(error.value)


def test_the_comparison_with_most_runs_comes_first(tmp_path):
    """A short try is named before it (100 < 800 iterations) and made before it."""
    for iterations, seeds in ((100, 1), (800, 3), (90, 3)):
        for sampler in ("random", "ohem"):
            write_arm(tmp_path, sampler, [0.4] * seeds, heavy=False, run__iterations=iterations)
    titles = [one.section.context.title for one in build_report(find_folders(tmp_path), Options()).contexts]
    assert titles == [f"tiny_rcnn on shapes, {iterations} iterations" for iterations in (800, 90, 100)]


def test_a_report_of_many_contexts_goes_over_the_settings_of_all_runs_once(tmp_path, monkeypatch):
    """Not once a context: of 5,000 runs in 200 contexts that took minutes."""
    for length in (100, 200, 300, 400):
        write_arm(tmp_path, "random", BASE[:2], heavy=False, run__iterations=length)
        write_run(tmp_path, "ohem", 0, state=State.FAILED, reason="disk", heavy=False, run__iterations=length)
    placed, real = [], contexts._place
    monkeypatch.setattr(contexts, "_place", lambda table, row, *more: placed.append(row) or real(table, row, *more))
    keys_of_presets.cache_clear()
    report = build_report(find_folders(tmp_path), Options())
    assert [len(one.section.context.done) for one in report.contexts] == [2] * 4
    assert [len(one.section.context.stopped) for one in report.contexts] == [1] * 4
    assert sorted(placed) == list(range(12))
    assert keys_of_presets.cache_info().misses == 1
