"""Killed, stopped, continued: the result is the uninterrupted one's, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import torch

from harness.runs.folder import RunFolder
from harness.runs.metrics_log import MetricsLog
from harness.runs.records import State
from tests.processes import harness
from tests.runs.conftest import SMALL, outcome

LONG = ("run.iterations=40", "run.log_every=5", "run.checkpoint_iterations=4", "sampler=ohem", "run.ema_decay=0.9")


@dataclass(frozen=True)
class At:
    """Called in the process of a run: sends it the signal so many seconds after it saved its state at the iteration."""

    number: signal.Signals
    iteration: int
    seconds: float = 0.0

    def __call__(self) -> None:
        real = RunFolder.set_status

        def set_status(folder: RunFolder, state: State, *arguments: Any, **more: Any) -> None:
            real(folder, state, *arguments, **more)
            if state is not State.RUNNING or more.get("iteration") != self.iteration:
                return
            if not self.seconds:
                os.kill(os.getpid(), self.number)
                return
            later = Timer(self.seconds, os.kill, (os.getpid(), self.number))
            later.daemon = True  # the run may end before
            later.start()

        RunFolder.set_status = set_status  # type: ignore[method-assign]


def trained(cwd: Path, *overrides: str, before: At | None = None) -> subprocess.CompletedProcess[str]:
    return harness(cwd, *SMALL, *LONG, *overrides, before=before)


def run_of(cwd: Path) -> Path:
    (found,) = (cwd / "results" / "runs").iterdir()
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run, and where its scenes are."""
    cwd = tmp_path_factory.mktemp("whole")
    cache = f"data.cache_dir={cwd / 'scenes'}"
    done = trained(cwd, cache)
    assert done.returncode == 0, done.stderr
    return run_of(cwd), cache


def same(first: Path, second: Path) -> None:
    """Result, detections, histograms, log and weights."""
    assert outcome(first) == outcome(second)
    assert MetricsLog.rows(first / "metrics.jsonl") == MetricsLog.rows(second / "metrics.jsonl")
    assert (first / "sampling.npz").read_bytes() == (second / "sampling.npz").read_bytes()
    a, b = (torch.load(folder / "checkpoint.pt", weights_only=True)["model"] for folder in (first, second))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_after_kill_9_at_a_random_moment(uninterrupted: tuple[Path, str], tmp_path: Path) -> None:
    whole, cache = uninterrupted
    killed = trained(tmp_path, cache, before=At(signal.SIGKILL, 4, random.uniform(0, 0.6)))
    folder = run_of(tmp_path)
    assert killed.returncode in (-signal.SIGKILL, 0)
    if not (folder / "result.json").exists():
        status = RunFolder(folder).status
        assert status is not None
        assert status.state is State.INTERRUPTED, "no process is behind it"

    again = trained(tmp_path, cache)
    assert again.returncode == 0, again.stderr
    same(whole, folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_so_and_the_same_command_continues(
    number: signal.Signals, uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    whole, cache = uninterrupted
    stopped = trained(tmp_path, cache, before=At(number, 12))
    folder = run_of(tmp_path)
    status = RunFolder(folder).status
    assert status is not None
    assert (stopped.returncode, status.state) == (130, State.INTERRUPTED), stopped.stderr
    assert f"stopped by {number.name} at iteration {status.iteration}" in stopped.stderr
    assert "Traceback" not in stopped.stderr

    again = trained(tmp_path, cache)
    assert again.returncode == 0, again.stderr
    same(whole, folder)
    assert json.loads((folder / "result.json").read_text())["cost"]["sessions"] == 2
