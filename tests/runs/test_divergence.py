"""A training whose loss leaves its start says so once, and keeps it for the report."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from harness.runs.records import read_json
from harness.training.divergence import DivergenceWatch
from tests.runs.conftest import Trained


@pytest.fixture
def guard(tmp_path: Path) -> Path:
    file = tmp_path / "guard.json"
    file.write_text(json.dumps({"terms": {"loss_a": {"value": 1.5}, "loss_b": {"value": 0.5}}, "warnings": ["other"]}))
    return file


def test_it_warns_once_above_ten_times_the_start(guard: Path) -> None:
    watch = DivergenceWatch(guard)
    assert watch.look(20, {"loss_a": 10.0, "loss_b": 10.0, "loss_later": 99.0, "lr": 0.02}) is None
    assert "diverged" not in read_json(guard)
    line = watch.look(40, {"loss_a": 50.0, "loss_b": 10.0})
    assert line is not None
    assert line.startswith("the loss at iteration 40 is 30 times that before the first step")
    assert watch.look(60, {"loss_a": 90.0, "loss_b": 10.0}) is None
    assert read_json(guard)["diverged"] == {"iteration": 40, "times": 30.0}
    assert read_json(guard)["warnings"] == ["other"]
    assert DivergenceWatch(guard).look(60, {"loss_a": 90.0, "loss_b": 10.0}) is None, "a continued run knows it"


def test_without_the_guard_nothing_is_watched(tmp_path: Path) -> None:
    assert DivergenceWatch(tmp_path / "guard.json").look(20, {"loss_a": 1e9}) is None
    assert not (tmp_path / "guard.json").exists()


def test_a_run_at_a_far_too_high_rate_is_marked_and_names_the_keys(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "harness"):
        folder = trained("optimizer.lr=3", "analysis.guard_images=8", "run.log_every=2", "run.rehearse=false")
    record = read_json(folder / "guard.json")["diverged"]
    assert record["times"] > 10
    (line,) = [one for one in caplog.messages if "diverges" in one]
    assert line.endswith("lower optimizer.lr, raise schedule.warmup_fraction or set run.clip_norm")
    assert f"at iteration {record['iteration']} is " in line
