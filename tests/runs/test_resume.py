"""Killed, stopped, continued: the result is the uninterrupted one's, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from harness.runs.folder import RunFolder
from harness.runs.metrics_log import MetricsLog
from harness.runs.records import State
from tests.runs.conftest import SMALL, outcome

ROOT = Path(__file__).resolve().parents[2]
LONG = ("run.iterations=40", "run.log_every=5", "run.checkpoint_iterations=4", "sampler=ohem", "run.ema_decay=0.9")


def start(cwd: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harness", *SMALL, *LONG, *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True)


def run_of(cwd: Path) -> Path | None:
    found = list((cwd / "results" / "runs").glob("*"))
    return found[0] if found else None


def wait_for_iteration(process: subprocess.Popen[str], cwd: Path, least: int) -> None:
    """Until a checkpoint of at least this iteration is on disk."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the run ended by itself: {process.stderr.read() if process.stderr else ''}"
        folder = run_of(cwd)
        status = RunFolder(folder).status if folder else None
        if status is not None and status.iteration >= least:
            return
        time.sleep(0.02)
    raise AssertionError("no checkpoint in time")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run, and where its scenes are."""
    cwd = tmp_path_factory.mktemp("whole")
    cache = f"data.cache_dir={cwd / 'scenes'}"
    process = start(cwd, cache)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    folder = run_of(cwd)
    assert folder is not None
    return folder, cache


def same(first: Path, second: Path) -> None:
    """Result, detections, histograms, log and weights."""
    assert outcome(first) == outcome(second)
    assert MetricsLog.rows(first / "metrics.jsonl") == MetricsLog.rows(second / "metrics.jsonl")
    assert (first / "sampling.npz").read_bytes() == (second / "sampling.npz").read_bytes()
    a, b = (torch.load(folder / "checkpoint.pt", weights_only=True)["model"] for folder in (first, second))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_after_kill_9_at_a_random_moment(uninterrupted: tuple[Path, str], tmp_path: Path) -> None:
    whole, cache = uninterrupted
    process = start(tmp_path, cache)
    wait_for_iteration(process, tmp_path, 4)
    time.sleep(random.uniform(0, 0.6))
    process.kill()
    process.communicate()
    folder = run_of(tmp_path)
    assert folder is not None
    if not (folder / "result.json").exists():
        status = RunFolder(folder).status
        assert status is not None
        assert status.state is State.INTERRUPTED, "no process is behind it"

    again = start(tmp_path, cache)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    same(whole, folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_so_and_the_same_command_continues(
    number: signal.Signals, uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    whole, cache = uninterrupted
    process = start(tmp_path, cache)
    wait_for_iteration(process, tmp_path, 4)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    folder = run_of(tmp_path)
    assert folder is not None
    status = RunFolder(folder).status
    assert status is not None
    assert (process.returncode, status.state) == (130, State.INTERRUPTED), errors
    assert f"stopped by {number.name} at iteration {status.iteration}" in errors
    assert "Traceback" not in errors

    again = start(tmp_path, cache)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    same(whole, folder)
    assert json.loads((folder / "result.json").read_text())["cost"]["sessions"] == 2
