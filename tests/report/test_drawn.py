"""What the plots are made of: curves over seeds, shares of histograms."""

import json
import re

import numpy as np
import pytest

from harness.report.histories import curves_of
from harness.report.plots.candidates import Line, candidate_panels
from harness.report.plots.iou import easy_over_time_panel, negative_panel, over_time_panel, positive_panel
from harness.report.plots.panel import Panel, spread, ticks
from harness.report.sampling import Sampling, sampling_of
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


def test_other_quantities_add_up_over_windows_and_runs(tmp_path):
    runs = write_arm(tmp_path, "ohem", [0.4, 0.4], shadows=("random",))
    both, _ = sampling_of(runs)
    for place in ("roi/loss/random/negative", "rpn/level/available/positive", "roi/per_object/sampled/with_truth"):
        expected = sum(np.load(run / "sampling.npz")[place].sum(0) for run in runs)
        assert both.histogram(*place.split("/")).tolist() == expected.tolist()
    assert both.histogram("roi", "loss", "available", "negative") is None


def test_histograms_with_other_bins_than_edges_are_named(tmp_path):
    run = write_run(tmp_path, "random", 0)
    arrays = dict(np.load(run / "sampling.npz"))
    np.savez(run / "sampling.npz", **{**arrays, "edges/size": arrays["edges/size"][1:]})
    found, (note,) = sampling_of([run])
    assert found is None
    assert run.name in note


def _sampled(edges, counts, quantity, kind):
    return Sampling(
        {"iou": np.array([0.05]), quantity: np.asarray(edges, float)},
        np.array([50]),
        {("roi", "sampled", "negative"): np.array([[1, 1]])},
        {("roi", quantity, "sampled", kind): np.asarray(counts)},
        1,
    )


def test_a_panel_draws_shares_of_the_bins_that_hold_something():
    one = _sampled([2, 4, 8, 16, 32], [0, 0, 30, 10, 0, 0], "size", "negative")
    two = _sampled([2, 4, 8, 16, 32], [0, 0, 0, 1, 1, 0], "size", "negative")
    (drawn,) = candidate_panels("roi", [Line(one, "sampled", "c0", "one"), Line(two, "sampled", "c1", "two")])
    assert ">box size of negatives<" in drawn
    assert [f">{value}<" in drawn for value in (2, 4, 8, 16, 32)] == [False, True, True, True, True]
    heights = [
        [float(point.split(" ")[1]) for point in path[1:].split("L")]
        for path in re.findall(r'class="line c\d" d="([^"]+)"', drawn)
    ]
    bottom = heights[0][0]
    for found, shares in zip(heights, ([0.75, 0.25, 0], [0, 0.5, 0.5]), strict=True):
        steps = [bottom - y for y in found[1:-1:2]]
        assert steps == pytest.approx(
            [share * steps[0 if shares[0] else 1] / max(shares) for share in shares], abs=0.11
        )


def test_round_bounds_are_named_and_single_levels_say_nothing():
    loss = _sampled(10 ** np.linspace(-4, 1, 21), [0, *[1] * 20, 0], "loss", "positive")
    (drawn,) = candidate_panels("roi", [Line(loss, "sampled", "c0", "one")])
    ticks = re.findall(r'text-anchor="middle">([^<]+)<', drawn)
    assert ticks[:6] == ["0.0001", "0.001", "0.01", "0.1", "1", "10"]
    level = _sampled([0.5, 1.5], [9, 0, 0], "level", "positive")
    assert list(candidate_panels("roi", [Line(level, "sampled", "c0", "one")])) == []
    levels = _sampled([0.5, 1.5], [9, 1, 0], "level", "positive")
    (drawn,) = candidate_panels("roi", [Line(levels, "sampled", "c0", "one")])
    assert re.findall(r'text-anchor="middle">([^<]+)<', drawn)[:2] == ["0", "1"]


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
