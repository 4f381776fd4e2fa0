"""What the plots are made of: curves over seeds, shares of histograms."""

import json

import numpy as np
import pytest

from harness.report.histories import curves_of
from harness.report.plots.iou import easy_over_time_panel, negative_panel, over_time_panel, positive_panel
from harness.report.plots.panel import Panel, spread, ticks
from harness.report.sampling import sampling_of
from tests.report.folders import write_arm, write_run


def test_curves_are_mean_and_range_of_the_seeds(tmp_path):
    for seed, values in enumerate([[3.0, 2.0], [5.0, 4.0, 1.0]]):
        folder = tmp_path / str(seed)
        folder.mkdir()
        rows = [{"iteration": 10 * (i + 1), "loss": value} for i, value in enumerate(values)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"iter')
    curve = curves_of([tmp_path / "0", tmp_path / "1", tmp_path / "no such run"])["loss"]
    assert curve.iterations.tolist() == [10, 20, 30]
    assert curve.mean.tolist() == [4, 3, 1]
    assert curve.low.tolist() == [3, 2, 1]
    assert curve.high.tolist() == [5, 4, 1]
    assert curve.runs == 2


def test_a_curve_of_evaluations_ends_at_the_result(tmp_path):
    rows = [{"iteration": 10, "loss": 1.0}, {"iteration": 10, "eval/map": 0.2}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = curves_of([tmp_path], [{"iteration": 20, "eval/map": 0.3, "eval/map50": 0.5}])
    assert found["eval/map"].iterations.tolist() == [10, 20]
    assert found["eval/map"].mean.tolist() == [0.2, 0.3]
    assert "eval/map50" not in found  # never logged on the way: one dot is no curve


def test_histograms_add_up_over_runs(tmp_path):
    runs = write_arm(tmp_path, "ohem", [0.4, 0.4])
    both, notes = sampling_of(runs)
    alone = [np.load(run / "sampling.npz") for run in runs]
    expected = sum(file["roi/iou/sampled/negative"].sum(0) for file in alone)
    assert notes == []
    assert both.runs == 2
    assert both.total("roi", "sampled", "negative").tolist() == expected.tolist()
    assert both.easy_share("roi", "sampled") == pytest.approx(expected[0] / expected.sum())
    assert both.stages == ["rpn", "roi"]


def test_shadows_are_populations_of_their_own(tmp_path):
    found, _ = sampling_of([write_run(tmp_path, "random", 0, shadows=("ohem",))])
    assert found.populations("roi") == ["available", "sampled", "ohem"]
    assert found.easy_share("roi", "ohem") < 0.5 < found.easy_share("roi", "sampled")


def test_a_stage_that_came_late_has_empty_windows_first(tmp_path):
    run = write_run(tmp_path, "random", 0)
    arrays = dict(np.load(run / "sampling.npz"))
    for name in list(arrays):
        if name.startswith("roi/iou/"):
            arrays[name] = arrays[name][10:]
    np.savez(run / "sampling.npz", **arrays)
    found, _ = sampling_of([run])
    windows = found.windows["roi", "sampled", "negative"]
    assert windows.shape == (40, 20)
    assert windows[:10].sum() == 0
    assert "<path" in easy_over_time_panel("roi", [found])


def test_runs_with_other_windows_are_left_out_by_name(tmp_path):
    first, second = write_arm(tmp_path, "random", [0.4, 0.4])
    arrays = dict(np.load(second / "sampling.npz"))
    np.savez(second / "sampling.npz", **{**arrays, "iterations": arrays["iterations"] + 1})
    found, (note,) = sampling_of([first, second])
    assert found.runs == 1
    assert second.name in note


def test_panels_of_empty_histograms_do_not_fail(tmp_path):
    run = write_run(tmp_path, "random", 0)
    arrays = dict(np.load(run / "sampling.npz"))
    np.savez(run / "sampling.npz", **{k: v * ("/iou/" not in k) for k, v in arrays.items()})
    found, _ = sampling_of([run])
    drawn = [panel("t", found, "roi", "sampled", "c0") for panel in (negative_panel, positive_panel)]
    drawn += [over_time_panel("t", found, "roi", "sampled"), easy_over_time_panel("roi", [found])]
    assert all("nan" not in svg and "inf" not in svg for svg in drawn)


def test_the_share_on_the_panel_is_that_of_the_counts(tmp_path):
    found, _ = sampling_of([write_run(tmp_path, "ohem", 0)])
    share = found.easy_share("roi", "sampled")
    assert f"{share:.0%} below 0.05".replace("%", " %") in negative_panel("ohem", found, "roi", "sampled", "c1")


@pytest.mark.parametrize("limits", [(0, 1), (-0.03, 0.11), (0, 7e-5), (0, 123456), (5, 5.0001)])
def test_ticks_are_few_round_and_inside(limits):
    marks = ticks(limits)
    assert 2 <= len(marks) <= 8
    assert all(limits[0] - 1e-9 <= value <= limits[1] + 1e-9 for value, _ in marks)
    assert len({words for _, words in marks}) == len(marks)


def test_no_values_draw_an_empty_frame():
    panel = Panel("nothing", spread([]), spread([float("nan")]))
    panel.line([1.0, 2.0], [float("nan"), float("nan")], "c0")
    panel.dot(float("nan"), 1.0, "c0")
    assert "nan" not in panel.svg()
