"""What the figures are made of: curves over seeds, shares of histograms, colors."""

import itertools
import json
import math

import numpy as np
import pytest

from harness.report.figures.candidates import candidate_figures
from harness.report.figures.differences import Effect, forest
from harness.report.figures.errors import confusion_figure
from harness.report.figures.iou import bands_figure, easy_share_figure, negative_figure, positive_figure
from harness.report.figures.steps import Population
from harness.report.figures.style import DARK, LIGHT
from harness.report.histories import curves_of
from harness.report.sampling import Sampling, sampling_of
from tests.report.folders import write_arm, write_run


def test_curves_are_mean_and_range_of_the_seeds(tmp_path):
    for seed, values in enumerate([[3.0, 2.0], [5.0, 4.0, 1.0]]):
        folder = tmp_path / str(seed)
        folder.mkdir()
        rows = [{"iteration": 10 * (i + 1), "loss": value} for i, value in enumerate(values)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"iter')
    found, notes = curves_of([tmp_path / "0", tmp_path / "1", tmp_path / "no such run"])
    curve = found["loss"]
    assert notes == []  # the last line of a run that was killed is no damage
    assert curve.iterations.tolist() == [10, 20, 30]
    assert curve.mean.tolist() == [4, 3, 1]
    assert curve.low.tolist() == [3, 2, 1]
    assert curve.high.tolist() == [5, 4, 1]
    assert curve.runs == 2


def test_a_curve_of_evaluations_ends_at_the_result(tmp_path):
    rows = [{"iteration": 10, "loss": 1.0}, {"iteration": 10, "eval/map": 0.2}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, _ = curves_of([tmp_path], [{"iteration": 20, "eval/map": 0.3, "eval/map50": 0.5}])
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


def _drawn(*found):
    lines = [Population(one, "sampled", f"method {i}", i) for i, one in enumerate(found)]
    return [draw() for _, _, draw in candidate_figures("roi", lines)]


def test_a_figure_draws_shares_of_the_bins_that_hold_something():
    one = _sampled([2, 4, 8, 16, 32], [0, 0, 30, 10, 0, 0], "size", "negative")
    two = _sampled([2, 4, 8, 16, 32], [0, 0, 0, 1, 1, 0], "size", "negative")
    (figure,) = _drawn(one, two)
    assert figure.layout.title.text == "Box size of negatives"
    assert list(figure.layout.xaxis.ticktext) == ["4", "8", "16", "32"]
    for trace, shares in zip(figure.data, ([0.75, 0.25, 0], [0, 0.5, 0.5]), strict=True):
        assert trace.line.shape == "hv"
        assert list(trace.x) == [2, 3, 4, 5]
        assert list(trace.y) == [*shares, shares[-1]]
        assert list(trace.customdata[:3]) == ["4 to 8", "8 to 16", "16 to 32"]


def test_round_bounds_are_named_and_single_levels_say_nothing():
    loss = _sampled(10 ** np.linspace(-4, 1, 21), [0, *[1] * 20, 0], "loss", "positive")
    (figure,) = _drawn(loss)
    assert list(figure.layout.xaxis.ticktext) == ["0.0001", "0.001", "0.01", "0.1", "1", "10"]
    assert _drawn(_sampled([0.5, 1.5], [9, 0, 0], "level", "positive")) == []
    (figure,) = _drawn(_sampled([0.5, 1.5], [9, 1, 0], "level", "positive"))
    assert list(figure.layout.xaxis.ticktext) == ["0", "1"]


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
    drawn = easy_share_figure("t", "roi", [Population(found, "sampled", "random", 0)])
    assert drawn.data[0].y[:10] == (None,) * 10


def test_runs_with_other_windows_are_left_out_by_name(tmp_path):
    first, second = write_arm(tmp_path, "random", [0.4, 0.4])
    arrays = dict(np.load(second / "sampling.npz"))
    np.savez(second / "sampling.npz", **{**arrays, "iterations": arrays["iterations"] + 1})
    found, (note,) = sampling_of([first, second])
    assert found.runs == 1
    assert second.name in note


def test_figures_of_empty_histograms_do_not_fail(tmp_path):
    run = write_run(tmp_path, "random", 0)
    arrays = dict(np.load(run / "sampling.npz"))
    np.savez(run / "sampling.npz", **{k: v * ("/iou/" not in k) for k, v in arrays.items()})
    found, _ = sampling_of([run])
    line = Population(found, "sampled", "random", 0)
    drawn = [draw("t", "roi", [line]) for draw in (negative_figure, positive_figure, easy_share_figure)]
    drawn.append(bands_figure("t", "roi", line))
    assert all(set(trace.y) <= {0, None} for figure in drawn for trace in figure.data)


def test_shares_are_those_of_the_counts(tmp_path):
    found, _ = sampling_of([write_run(tmp_path, "ohem", 0)])
    figure = negative_figure("t", "roi", [Population(found, "sampled", "ohem", 1)])
    assert figure.data[0].y[0] == pytest.approx(found.easy_share("roi", "sampled"), rel=1e-3)
    assert figure.data[0].customdata[0] == "IoU 0.00 to 0.05"
    both = negative_figure("t", "roi", [Population(found, name, "ohem", 1) for name in ("available", "sampled")])
    assert {trace.name for trace in both.data} == {"ohem, available", "ohem"}
    assert {trace.legendgroup for trace in both.data} == {"ohem"}  # toggled together
    bands = bands_figure("t", "roi", Population(found, "sampled", "ohem", 1))
    assert np.sum([trace.y for trace in bands.data], 0) == pytest.approx(np.ones(40), abs=1e-3)


def test_the_forest_has_a_row_per_method_and_finite_limits():
    far = Effect("far", "open", 0.01, (-math.inf, math.inf), [(0.0, "seed 0"), (0.02, "seed 1")], 1)
    near = Effect("a very long name of a method that has many settings, all of which differ from others",
                  "better: +0.1", 0.1, (0.05, 0.15), [(0.1, "seed 0")], 2)  # fmt: skip
    figure = forest([far, near], "Difference", "mAP minus that of random", margin=0.005)
    low, high = figure.layout.xaxis.range
    assert -0.2 < low < 0 < 0.15 < high < 0.3
    assert len(figure.layout.annotations) == 2
    assert "<br>" in figure.layout.annotations[1].text
    rows = {trace.legendgroup: set(trace.y) for trace in figure.data if trace.marker.symbol == "diamond"}
    assert len(set().union(*rows.values())) == 2
    (band,) = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert (band.x0, band.x1) == (-0.005, 0.005)


def test_a_confusion_matrix_shows_counts_and_shares_of_rows():
    counts = np.array([[8, 1, 1], [0, 3, 7], [2, 0, 0]])
    figure = confusion_figure("t", counts, ["disc", "star"])
    assert [list(row) for row in figure.data[0].z] == [[0.8, 0.1, 0.1], [0, 0.3, 0.7], [1, 0, 0]]
    assert {note.text for note in figure.layout.annotations} == {"8", "1", "3", "7", "2"}
    assert list(figure.layout.xaxis.ticktext) == ["disc", "star", "missed"]
    assert list(figure.layout.yaxis.ticktext) == ["disc", "star", "no object"]


def _lab(linear):
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira & Fernandes 2009, severity 1: linear RGB as it is seen.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_methods_are_told_apart_with_any_color_vision(palette, vision):
    channels = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in palette])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = [_lab(np.asarray(VISION[vision]) @ one) for one in linear]
    distance = np.array([[np.linalg.norm(a - b) for b in seen] for a in seen])
    assert min(distance[i, j] for i, j in itertools.combinations(range(5), 2)) > 17
    assert min(distance[i, j] for i, j in itertools.combinations(range(8), 2)) > 9
