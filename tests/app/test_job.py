"""One job, before it trains: what is refused at once, what is said first, and where it goes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from harness.app import sweep_record
from harness.app.composition import composed
from harness.app.job import Job, Outcome, _announce, run_job
from harness.app.naming import folder_of
from harness.app.runner import check
from harness.app.sweep_record import SweepRecord
from harness.experiment.pieces import build_pieces
from harness.experiment.settings import settled
from harness.runs.folder import RunFolder
from harness.runs.records import State
from harness.runs.schema import ConfigError, folder
from harness.training.devices import check_device

SOURCES = (str(folder("conf")),)


def job(*overrides: str, sweep: SweepRecord | None = None) -> Job:
    return Job(0, overrides, composed([])[1], SOURCES, sweep)


@pytest.mark.parametrize("group", ["sampler", "loss/classification", "augment@data.augment", "recipe"])
def test_several_options_of_a_group_without_a_sweep_are_refused_with_the_sweep(group: str) -> None:
    """Hydra would lay the options over each other and train the last one."""
    with pytest.raises(ConfigError, match=rf"^{group}=\[a,b\]: .* several make a sweep: -m {group}=a,b$"):
        replace(job(f"{group}=[a,b]"), choices={**job().choices, group: "b"}).check_choices()
    job("data.classes=[a,b]").check_choices()


def test_the_first_line_says_what_will_run_before_torch_is_imported(caplog: pytest.LogCaptureFixture) -> None:
    settings, _ = settled(composed(["run=smoke", "seed=3"])[0])
    with caplog.at_level(logging.INFO):
        _announce(settings, job("sampler=ohem", "seed=3"))
    assert caplog.messages == ["shapes-tiny_rcnn-random: 8 iterations of 2 images, seed 3"]
    command = "import sys, harness.app.job; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], timeout=300).returncode == 0


def test_a_signal_before_the_training_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While data are read, nothing is saved yet; a scheduler's log tells this from a crash."""

    def stopped(*_: object) -> Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal came")

    monkeypatch.setattr("harness.app.job._run", stopped)
    outcome = run_job(composed([])[0], job())
    assert outcome.state is State.INTERRUPTED
    assert caplog.messages == [
        "harness: interrupted: stopped by SIGTERM before it trained; the same command begins it again"
    ]


def test_a_signal_while_torch_is_imported_waits_for_the_end_of_the_import(tmp_path: Path) -> None:
    """Broken off inside of it, torch aborts the process."""
    code = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Finder())
from harness.app.command_line import main
try:
    main()
except SystemExit as end:
    print(end.code, hasattr(sys.modules.get("torch"), "nn"))
"""
    command = [sys.executable, "-c", code, "run=smoke", "tracker=none", f"run.root={tmp_path}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout.split() == ["130", "True"], ended.stderr
    assert "stopped by SIGTERM before it trained" in ended.stderr


def test_a_sweep_says_how_long_the_rest_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = SweepRecord.begin(tmp_path, [["seed=0"], ["seed=1"], ["seed=2"]])
    assert replace(job("seed=1", sweep=record), number=1).label == "2/3 seed=1"
    assert record.remaining(0) == ""
    for number, seconds, left in ((0, None, ""), (1, 120.0, ", about 2 min left"), (2, 60.0, "")):
        record.note_begin(number)
        record.note_end(number, seconds)
        record.note_end(number, 900.0)  # the first one counts
        assert record.remaining(number) == left
    assert replace(record, jobs=None).remaining(2) == "", "a sweeper that decides as it goes"
    again = SweepRecord.begin(tmp_path, [[f"seed={seed}"] for seed in range(9)])
    for number in range(4):
        again.note_begin(number)
    again.note_end(2, 120.0)
    assert again.remaining(2) == ", about 4 min left", "eight jobs of two minutes on four places"
    monkeypatch.setattr(sweep_record, "read_json", lambda path: pytest.fail(f"{path} is read at every job's end"))
    again.note_begin(4)
    again.note_end(3, 60.0)
    with (tmp_path / "progress.jsonl").open("a") as log:
        log.write("[half a line")
    assert again.remaining(3) == ", about 3 min left", "1.5 min for 7 jobs on four places"


def test_a_run_that_is_done_is_made_again_in_a_folder_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, choices = composed([f"run.root={tmp_path}"])
    experiment = check(config, SOURCES, choices=choices)
    done: set[Path] = set()
    monkeypatch.setattr(RunFolder, "finished", property(lambda run: run.path in done))
    first = folder_of(experiment, "data")
    done.add(first)
    assert folder_of(experiment, "data") == first
    config.run.again = True
    again = check(config, SOURCES, choices=choices)
    second = folder_of(again, "data")
    assert second.name == f"{first.name}.again2"
    done.add(second)
    assert folder_of(again, "data").name == f"{first.name}.again3"


@pytest.mark.parametrize("missing", ["result.json", "detections.json", "config.yaml"])
def test_half_a_run_folder_is_not_done(missing: str, tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        run.set_status(State.DONE)
        for name in {"result.json", "detections.json", "config.yaml"} - {missing}:
            (tmp_path / name).write_text("{}")
        assert not run.finished


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^run\.device=cuda: no CUDA device is visible here; use run\.device=auto"):
        check_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"^run\.device=cuda:2: only 2 CUDA device\(s\) are visible$"):
        check_device("cuda:2")


class Bare:
    """A user's class that lacks what the flow asks for."""


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("assigner", "assigner: Bare has no needs and no __call__; harness.testing says"),
        ("rpn.sampler", "rpn.sampler: Bare has no needs and no add_gt_as_proposals and no __call__; harness.testing"),
    ],
)
def test_an_own_class_without_what_the_flow_asks_for_is_named(key: str, says: str) -> None:
    config, _ = composed([])
    OmegaConf.update(config, key, {"_target_": f"{__name__}.Bare"}, merge=False)
    with pytest.raises(ConfigError, match=f"^{says}"):
        build_pieces(config, SOURCES)


@pytest.mark.parametrize(
    ("key", "target", "says"),
    [
        ("assigner", "harness.samplers.AllSampler", "assigner: AllSampler is a sampler, no assigner"),
        ("assigner", "harness.losses.GIoULoss", "assigner: GIoULoss is a loss, no assigner"),
        (
            "loss.classification",
            "harness.losses.GIoULoss",
            "loss: .*subclass of harness.losses.ClassificationLoss, got a",
        ),
        (
            "rpn.loss.regression",
            "torch.nn.SmoothL1Loss",
            "rpn.loss: .*subclass of harness.losses.RegressionLoss, got a S",
        ),
    ],
)
def test_a_class_of_another_kind_is_named(key: str, target: str, says: str) -> None:
    config, _ = composed([])
    OmegaConf.update(config, key, {"_target_": target}, merge=False)
    with pytest.raises(ConfigError, match=f"^{says}"):
        build_pieces(config, SOURCES)
