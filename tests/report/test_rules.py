"""A report judges by the alpha, margin, goal and baseline of its runs' sweep, unless it is asked for others."""

import json

import pytest
import yaml

from harness.report.answers import answer, method_text, question
from harness.report.build import build_report
from harness.report.command import main
from harness.report.document import document_of
from harness.report.folders import find_folders
from harness.report.main_table import main_table
from harness.report.rules import Options
from harness.report.views.markdown import render_markdown
from harness.statistics import best_of, compare, compared_with_best
from tests.report.folders import write_arm, write_run

BASE = [0.400, 0.412, 0.395, 0.407, 0.403, 0.399]


def write_sweep(root, runs, name="2026-01-01", **settings):
    """The record that `hydra/sweeper=until_settled` leaves."""
    own = {"_target_": "hydra_plugins.harness.UntilSettled", "metric": "map", "alpha": 0.05, "margin": 0.005,
           "goal": "baseline", "baseline": "sampler=random", "max_seeds": 20} | settings  # fmt: skip
    folder = root / "sweeps" / name
    folder.mkdir(parents=True)
    (folder / "multirun.yaml").write_text(yaml.safe_dump({"seed": 0, "hydra": {"sweeper": own}}))
    for number, run in enumerate(runs):
        (folder / str(number)).mkdir()
        outcome = {"state": "done", "folder": f"/elsewhere/runs/{run.name}", "number": number}
        (folder / str(number) / f"outcome-{number}.json").write_text(json.dumps(outcome))
    return folder


def _section(root, **options):
    (one,) = build_report(find_folders(root), Options(**options)).contexts
    return one.section


@pytest.fixture
def arms(tmp_path):
    runs = write_arm(tmp_path, "random", BASE, heavy=False)
    runs += write_arm(
        tmp_path, "ohem", [b + d for b, d in zip(BASE, [0.02, 0.0, 0.02, 0.01, 0.0, 0.015], strict=False)], heavy=False
    )
    runs += write_arm(tmp_path, "iou_balanced", [b + 0.1 + 0.01 * (i % 2) for i, b in enumerate(BASE)], heavy=False)
    return tmp_path, runs


def test_the_sweeps_own_alpha_and_margin_decide(arms):
    root, runs = arms
    assert _section(root).row("ohem").comparison.verdict == "open"
    assert "at alpha = 0.05" in method_text(_section(root))
    assert method_text(_section(root)).endswith("Alpha, margin and goal: the default.")
    write_sweep(root, runs, alpha=0.3, margin=0.002)
    section = _section(root)
    scores = {row.label: row.scores for row in section.rows}
    expected = {one.name: one for one in compare(scores, "random", alpha=0.3, margin=0.002)}
    assert {row.label: row.comparison for row in section.rows[1:]} == expected
    assert expected["ohem"].verdict == "better"
    told = method_text(section)
    assert "at alpha = 0.3, corrected for 2 comparisons" in told
    assert "hold for all comparisons together with probability 0.7. Differences within ±0.002" in told
    assert told.endswith("Alpha, margin and goal: of the sweep 2026-01-01.")
    asked = _section(root, alpha=0.05)
    assert asked.row("ohem").comparison.verdict == "open"
    assert asked.rules.margin == 0.002
    assert method_text(asked).endswith("alpha as asked, the rest of the sweep 2026-01-01.")


def test_the_sweeps_baseline_is_the_reports(arms):
    root, runs = arms
    write_sweep(root, runs, baseline="sampler=ohem")
    assert _section(root).baselines == ("ohem",)
    assert "Baseline: ohem (as in the sweep)" in method_text(_section(root))
    assert _section(root, baseline="sampler=random").baselines == ("random",)


def test_a_race_is_reported_as_one(arms):
    root, runs = arms
    write_sweep(root, runs, goal="best", baseline=None)
    section = _section(root)
    scores = {row.label: row.scores for row in section.rows}
    standing = best_of(scores)
    assert section.baselines == ("iou_balanced",)
    assert standing.verdicts == {"iou_balanced": "best", "random": "worse", "ohem": "worse"}
    assert {row.label: row.comparison.verdict for row in section.rows[1:]} == {"random": "worse", "ohem": "worse"}
    assert section.comparisons == 3
    first = main_table(section).rows[0]
    assert [cell.text for cell in first[:2]] == ["iou_balanced", "best"]
    assert question(section) == "Which of iou_balanced, ohem and random is best in mAP, and is that settled?"
    assert answer(section)[0].startswith("iou_balanced is best (0.508 ± ")
    assert "ohem is worse than iou_balanced" in " ".join(answer(section))
    assert "corrected for 3 comparisons" in method_text(section)
    assert "**iou_balanced**" in render_markdown(document_of(build_report(find_folders(root), Options())))


def test_a_race_that_is_not_over_says_who_leads(tmp_path):
    write_arm(tmp_path, "random", BASE, heavy=False)
    write_arm(tmp_path, "ohem", [value + 0.01 for value in BASE[:2]], heavy=False)
    write_arm(tmp_path, "iou_balanced", [value - 0.3 + 0.01 * (i % 2) for i, value in enumerate(BASE)], heavy=False)
    section = _section(tmp_path, goal="best")
    assert section.baselines == ("ohem",)
    assert answer(section)[0].startswith("ohem leads")
    # Two seeds show nothing against the leader, six against random do: each arm stands beside the one it lost to.
    assert section.row("iou_balanced").comparison.baseline == "random"
    head = next(i for i, column in enumerate(main_table(section).columns) if column.head == "versus")
    assert [row[head].text for row in main_table(section).rows] == ["", "ohem", "random"]


def test_pairs_of_a_race_agree_with_its_standing():
    scores = {
        name: {seed: value + by for seed, value in enumerate(BASE)} for name, by in (("a", 0), ("b", 0), ("c", 0.1))
    }
    scores["b"] = {seed: value + 0.001 * (-1) ** seed for seed, value in scores["a"].items()}
    scores["c"] = {seed: value + 0.001 * (seed % 3) for seed, value in scores["c"].items()}
    found = {one.name: one for one in compared_with_best(scores)}
    assert found.keys() == {"a", "b"}
    assert {name: one.verdict for name, one in found.items()} == {"a": "worse", "b": "worse"}
    assert all(one.baseline == "c" and one.mean_difference < 0 and one.interval[1] < 0 for one in found.values())
    assert found["a"].level == pytest.approx(1 - 0.05 / 3)


def test_sweeps_that_disagree_decide_nothing(arms):
    root, runs = arms
    write_sweep(root, runs[:6], alpha=0.3)
    write_sweep(root, runs[6:], name="2026-01-02", alpha=0.1)
    section = _section(root)
    assert section.rules.alpha == 0.05
    assert "asked different things (2026-01-01: alpha 0.3" in " ".join(section.notes)


def test_a_sweep_by_another_metric_or_of_other_runs_decides_nothing(arms):
    root, runs = arms
    write_sweep(root, [], name="empty", alpha=0.3)
    assert (_section(root).rules.alpha, _section(root).notes) == (0.05, ())
    write_sweep(root, runs, alpha=0.3, metric="map50")
    section = _section(root)
    assert section.rules.alpha == 0.05
    assert (
        section.notes[0] == "The sweep of these runs judged by map50: the report is by its rules with --metric map50."
    )
    assert _section(root, metric="map50").rules.alpha == 0.3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"alpha": 7}, "says hydra.sweeper.alpha=7"),
        ({"margin": "wide"}, "says hydra.sweeper.margin='wide'"),
        ({"goal": "win"}, "says hydra.sweeper.goal='win', none of baseline, best"),
    ],
)
def test_a_damaged_record_is_said_and_left_out(arms, settings, says):
    root, runs = arms
    write_sweep(root, runs, **settings)
    section = _section(root)
    assert section.rules.alpha == 0.05
    (note,) = section.notes
    assert note.startswith("sweeps/2026-01-01: corrupt: multirun.yaml ")
    assert says in note


@pytest.mark.parametrize(
    ("option", "value"), [("--alpha", "0"), ("--alpha", "1.5"), ("--margin", "-1"), ("--goal", "win")]
)
def test_values_out_of_range_are_refused(tmp_path, capsys, option, value):
    write_run(tmp_path, "random", 0, heavy=False)
    with pytest.raises(SystemExit):
        main([str(tmp_path), option, value])
    assert value in capsys.readouterr().err
