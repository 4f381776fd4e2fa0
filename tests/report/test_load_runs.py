"""`load_runs`: a row for every run that came to an end, a reason for every folder that is none."""

import json
import math

import pandas as pd
import pytest

from harness.report import ReportError, SkippedFolder, load_runs
from harness.report.command import main
from harness.runs.records import State
from tests.report.folders import CLASSES, write_arm, write_run


def test_one_row_a_run_with_choices_metrics_cost_sampling_and_settings(tmp_path):
    folder = write_run(tmp_path, "ohem", 3, 0.41, sampler__num=128)
    frame = load_runs(tmp_path)
    assert len(frame) == 1
    row = frame.iloc[0]
    assert (row["run"], row["state"], row["seed"]) == (folder.name, "done", 3)
    assert (row["detector"], row["assigner"], row["sampler"]) == ("tiny_rcnn", "max_iou", "ohem")
    assert (row["classification"], row["regression"], row["data"]) == ("cross_entropy", "smooth_l1", "shapes")
    assert row["rpn.sampler"] == "random"
    assert row["data.augment"] == "flip"
    assert row["sampler.num"] == 128
    assert row["rpn.sampler.pos_fraction"] == 0.5
    assert row["map"] == pytest.approx(0.41)
    assert math.isnan(row["map_large"])  # no large object: undefined, not 0
    assert row["images_per_second"] == pytest.approx(8000 / row["train_seconds"])
    assert row["sampling.roi.sampled.negatives_below_iou_0.05"] == 0.35
    assert {f"ap.{name}" for name in CLASSES} <= set(frame.columns)
    assert list(frame.columns[:10]) == ["run", "state", "reason", "data", "detector", "assigner", "sampler",
                                        "classification", "regression", "seed"]  # fmt: skip


@pytest.mark.parametrize("part", ["", "runs", "one"])
def test_the_folder_the_runs_folder_and_one_run_can_be_named(tmp_path, part):
    run = write_run(tmp_path, "random", 0)
    assert list(load_runs(run if part == "one" else tmp_path / part)["run"]) == [run.name]


def test_failures_and_refusals_are_rows_with_their_reason(tmp_path):
    write_run(tmp_path, "ohem", 0, state=State.FAILED, reason="loss is nan at iteration 7")
    write_run(tmp_path, "ohem", 1, state=State.REFUSED, reason="sampler.num=-1 is not valid")
    frame = load_runs(tmp_path)
    assert dict(zip(frame["state"], frame["reason"], strict=True)) == {
        "failed": "loss is nan at iteration 7",
        "refused": "sampler.num=-1 is not valid",
    }
    assert frame.attrs["skipped"] == []


def _spoil(folder, name, text):
    (folder / name).write_text(text)


BROKEN = {
    "corrupt: result.json is not JSON": lambda f: _spoil(f, "result.json", '{"metrics": {'),
    "corrupt: result.json has no metrics": lambda f: _spoil(f, "result.json", "{}"),
    "corrupt: result.json is not a JSON object": lambda f: _spoil(f, "result.json", "[1]"),
    "incomplete: no result.json": lambda f: (f / "result.json").unlink(),
    "corrupt: status.json is not JSON": lambda f: _spoil(f, "status.json", ""),
    "corrupt: status.json says state 'lost'": lambda f: _spoil(f, "status.json", '{"state": "lost"}'),
    "incomplete: no status.json": lambda f: (f / "status.json").unlink(),
    "incomplete: no config.yaml": lambda f: (f / "config.yaml").unlink(),
    "corrupt: config.yaml is not a YAML mapping": lambda f: _spoil(f, "config.yaml", "a: [1\nb: }"),
    "corrupt: config.yaml has no choices": lambda f: _spoil(f, "config.yaml", "seed: 0\n"),
    "corrupt: config.yaml is not text": lambda f: (f / "config.yaml").write_bytes(b"\xff\xfe\x00\x81"),
    "incomplete: running at iteration 7 of 2000": lambda f: _spoil(
        f, "status.json", json.dumps({"state": "running", "iteration": 7})
    ),
    "incomplete: interrupted at iteration 9 of 2000": lambda f: _spoil(
        f, "status.json", json.dumps({"state": "interrupted", "iteration": 9})
    ),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_cannot_be_read_is_named_and_left_out(tmp_path, reason):
    whole = write_run(tmp_path, "random", 0)
    broken = write_run(tmp_path, "ohem", 0)
    BROKEN[reason](broken)
    frame = load_runs(tmp_path)
    assert list(frame["run"]) == [whole.name]
    (left_out,) = frame.attrs["skipped"]
    assert isinstance(left_out, SkippedFolder)
    assert left_out.folder == broken.name
    assert left_out.reason.startswith(reason)
    assert main([str(tmp_path)]) == 0


def test_a_foreign_folder_is_named_and_a_foreign_file_does_not_matter(tmp_path):
    write_run(tmp_path, "random", 0)
    (tmp_path / "runs" / "my notes").mkdir()
    (tmp_path / "runs" / "todo.txt").write_text("buy milk")
    frame = load_runs(tmp_path)
    assert frame.attrs["skipped"] == [SkippedFolder("my notes", "foreign: neither config.yaml nor status.json")]


def test_no_folder_and_no_runs_are_one_line(tmp_path):
    with pytest.raises(ReportError, match="there is no such folder") as missing:
        load_runs(tmp_path / "nowhere")
    with pytest.raises(ReportError, match="no runs there") as empty:
        load_runs(tmp_path)
    assert "\n" not in str(missing.value) + str(empty.value)


def test_the_frames_survive_csv(tmp_path):
    write_arm(tmp_path, "random", [0.4, 0.41, 0.42])
    write_arm(tmp_path, "ohem", [0.45, 0.46, 0.49])
    write_run(tmp_path, "ohem", 4, state=State.FAILED, reason='said "no", twice')
    assert main([str(tmp_path)]) == 0
    frame = load_runs(tmp_path)
    back = pd.read_csv(tmp_path / "report" / "runs.csv")
    assert len(back) == 7
    assert list(back["reason"].dropna()) == ['said "no", twice']
    for column in ("run", "sampler", "seed", "map", "train_seconds", "ap.disc"):
        pd.testing.assert_series_equal(back[column], frame[column], check_dtype=False, check_exact=True)
    summary = pd.read_csv(tmp_path / "report" / "summary.csv").set_index("method")
    expected = frame[frame["state"] == "done"].groupby("sampler")["map"].mean()
    assert summary.loc["ohem", "mean"] == pytest.approx(expected["ohem"], abs=1e-12)
    assert summary.loc["ohem", "difference"] == pytest.approx(expected["ohem"] - expected["random"], abs=1e-12)
    assert summary.loc["ohem", "failed"] == 1
