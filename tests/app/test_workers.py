"""One run in several processes: started by run.devices or by torchrun, killed, stopped, continued by fewer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.app.workers import Report, _answer
from harness.runs import launched
from harness.runs.folder import RunFolder
from harness.runs.records import State, read_json
from harness.runs.schema import ConfigError, RunConfig
from harness.training.process_group import module_refusals, processes_of
from tests.app.test_command_line import ROOT
from tests.processes import harness
from tests.runs.conftest import SMALL

# In float32 the RPN's NMS turns a difference of rounding into another proposal; a dense detector has none in training.
FEW = [*SMALL, "run.device=cpu", "run.batch_size=4", "detector=tiny_retinanet"]
LONG = [*FEW, "run.iterations=80", "run.checkpoint_iterations=1"]


def refused(**values: Any) -> str:
    with pytest.raises(ConfigError) as error:
        processes_of(RunConfig(device="cpu", **values))
    return str(error.value)


def test_what_several_processes_cannot_do_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes_of(RunConfig(device="cpu", devices=2, batch_size=4)) == 2
    assert refused(devices=3, batch_size=4).endswith("for 3 processes; choose a multiple of 3")
    accumulated = refused(devices=2, batch_size=6, accumulate=2)
    assert accumulated.endswith("for 2 processes and run.accumulate=2; choose a multiple of 4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"run.devices=4: only 2 CUDA device\(s\) are visible here"):
        processes_of(RunConfig(devices=4, batch_size=4))
    with pytest.raises(ConfigError, match=r"run.device=cuda:1: is one device"):
        processes_of(RunConfig(devices=2, batch_size=4, device="cuda:1"))
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    assert processes_of(RunConfig(device="cpu", batch_size=4)) == 4
    assert refused(devices=2, batch_size=4).startswith("run.devices=2: 4 processes were started already (WORLD_SIZE)")


def test_processes_of_a_launcher_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # alone it says nothing: job scripts use the name as they like
    assert (launched.processes(), launched.rank()) == (1, 0)
    for name, value in (("RANK", "5"), ("MASTER_ADDR", "node1"), ("MASTER_PORT", "29500"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert (launched.processes(), launched.rank()) == (8, 5)
    assert (launched.local_processes(), launched.local_rank()) == (4, 1)


def test_batch_norm_and_drawn_sizes_need_one_process_on_a_cpu() -> None:
    class Detector(torch.nn.Module):
        def __init__(self, norm: torch.nn.Module, *sizes: int) -> None:
            super().__init__()
            self.norm, self.transform = norm, torch.nn.Module()
            self.transform.min_size = sizes  # type: ignore[assignment]

    two = RunConfig(device="cpu", devices=2)
    assert module_refusals(Detector(torch.nn.GroupNorm(1, 4), 64), two) == []
    (line,) = module_refusals(Detector(torch.nn.BatchNorm2d(4), 64), two)
    assert line.startswith("detector: has BatchNorm")
    (line,) = module_refusals(Detector(torch.nn.GroupNorm(1, 4), 64, 96), two)
    assert line.startswith("detector.min_size=[64, 96]: of several sizes")
    assert module_refusals(Detector(torch.nn.BatchNorm2d(4), 64, 96), RunConfig(device="cpu")) == []


DONE = Report(State.DONE, folder="runs/a", map=0.5)
ALONE = Report(State.FAILED, "another process ended", "runs/a", left_alone=True)
STOPPED = Report(State.INTERRUPTED, "stopped by SIGTERM at iteration 3", "runs/a")
FAULT = Report(State.FAILED, "the loader died", "runs/a")


@pytest.mark.parametrize(
    ("reports", "exit_codes", "asked", "state", "says"),
    [
        ({0: DONE, 1: DONE}, {}, None, State.DONE, ""),
        ({0: ALONE}, {1: -9}, None, State.FAILED, "process 1 of 2 was killed by SIGKILL; the same command continues"),
        ({1: ALONE}, {0: -11}, None, State.FAILED, "process 0 of 2 was killed by SIGSEGV"),
        ({0: ALONE, 1: FAULT}, {1: 1}, None, State.FAILED, "process 1 of 2: the loader died"),
        ({0: FAULT, 1: ALONE}, {0: 1}, None, State.FAILED, "the loader died"),
        ({}, {0: 1}, None, State.FAILED, "processes of the run ended (0 with exit code 1)"),
        ({0: STOPPED, 1: STOPPED}, {}, "SIGTERM", State.INTERRUPTED, "stopped by SIGTERM at iteration 3"),
        ({0: ALONE}, {1: -15}, "SIGTERM", State.INTERRUPTED, "stopped by SIGTERM; the same command continues"),
        ({0: DONE, 1: DONE}, {}, "SIGTERM", State.DONE, ""),
    ],
)
def test_of_all_reports_one_answer_is_made(
    reports: dict[int, Report], exit_codes: dict[int, int], asked: str | None, state: State, says: str
) -> None:
    answer = _answer(reports, exit_codes, 2, asked)
    assert answer.state is state
    assert answer.reason.startswith(says)


def run_folder(root: Path) -> Path:
    (folder,) = (root / "runs").iterdir()
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / "model.pt", weights_only=True)
    return found


def check_equal(found: Path, expected: Path) -> None:
    """Up to the rounding of float32 over six steps; the sampled counts exactly."""
    for name, value in weights(expected).items():
        torch.testing.assert_close(weights(found)[name], value, rtol=1e-3, atol=1e-5, msg=name)
    results = [read_json(folder / "result.json") for folder in (found, expected)]
    assert results[0]["hash"] == results[1]["hash"]
    assert results[0]["sampling"] == results[1]["sampling"]
    assert results[0]["extra"] == results[1]["extra"]


def test_two_processes_leave_the_run_of_one(tmp_path: Path) -> None:
    done = [harness(tmp_path, *FEW, f"run.devices={count}", f"run.root={count}", timeout=900) for count in (2, 1)]
    assert [one.returncode for one in done] == [0, 0], done[0].stderr
    said = [[line for line in one.stderr.splitlines() if not line.startswith("drawing")] for one in done]
    assert [len(lines) for lines in said] == [3, 3], done[0].stderr
    folders = [run_folder(tmp_path / name) for name in ("2", "1")]
    check_equal(*folders)
    assert [read_json(folder / "result.json")["cost"]["processes"] for folder in folders] == [2, 1]
    ids = [[row["image_id"] for row in RunFolder(folder).detections()] for folder in folders]
    assert list(dict.fromkeys(ids[0])) == list(dict.fromkeys(ids[1]))
    again = harness(tmp_path, *FEW, "run.devices=2", "run.root=1")
    assert "already done" in again.stderr


def children(pid: int) -> list[int]:
    """The processes that train, of the process ``pid``, by rank."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sorted(int(text) for text in pids if b"spawn_main" in Path(f"/proc/{text}/cmdline").read_bytes())


@contextmanager
def training(cwd: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A run on two processes that has saved its state, and the processes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harness", *arguments, "run.devices=2", "run.root=r"]
    process = subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True)
    before = saved(cwd)
    deadline = time.monotonic() + 400
    while saved(cwd) < before + 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield process, children(process.pid)
    if process.poll() is None:
        process.kill()


def saved(cwd: Path) -> int:
    paths = list(cwd.glob("r/runs/*/status.json"))
    return int(read_json(paths[0])["iteration"]) if paths else 0


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_then_stopped_then_continued_by_one_process(tmp_path: Path) -> None:
    with training(tmp_path, *LONG) as (process, pids):
        assert len(pids) == 2
        os.kill(pids[1], signal.SIGKILL)
        started = time.monotonic()
        said = process.communicate(timeout=60)[1].splitlines()[-1]
        assert time.monotonic() - started < 30
        assert process.returncode == 1
        assert "failed: process 1 of 2 was killed by SIGKILL; the same command continues the run" in said
        assert gone(pids)
    status = read_json(run_folder(tmp_path / "r") / "status.json")
    assert status["state"] == "failed"
    assert "SIGKILL" in status["reason"]

    for number in (signal.SIGTERM, signal.SIGINT):
        with training(tmp_path, *LONG) as (process, pids):
            process.send_signal(number)
            said = process.communicate(timeout=60)[1]
            assert process.returncode == 130
            assert f"stopped by {number.name}" in said.splitlines()[-1]
            assert gone(pids)
        assert read_json(run_folder(tmp_path / "r") / "status.json")["state"] == "interrupted"
    done = harness(tmp_path, *LONG, "run.root=r")
    assert done.returncode == 0, done.stderr
    cost = read_json(run_folder(tmp_path / "r") / "result.json")["cost"]
    assert (cost["sessions"], cost["processes"]) == (4, 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_end_when_the_launching_one_is_killed(tmp_path: Path) -> None:
    """They save as after SIGTERM; the run is free, and the same command goes on from there."""
    with training(tmp_path, *LONG) as (process, pids):
        process.kill()
        process.communicate()
        assert gone(pids)
    status = read_json(run_folder(tmp_path / "r") / "status.json")
    assert status["state"] == "interrupted"
    assert status["iteration"] > 0
    done = harness(tmp_path, *LONG, "run.root=r")
    assert done.returncode == 0, done.stderr
    assert read_json(run_folder(tmp_path / "r") / "result.json")["cost"]["sessions"] == 2


@pytest.mark.slow
def test_torchrun_starts_the_processes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "harness"]
    done = subprocess.run([*launch, *FEW, "run.root=r"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("mAP") == 1
    assert read_json(run_folder(tmp_path / "r") / "result.json")["cost"]["processes"] == 2
    sweep = subprocess.run([*launch, "-m", *FEW], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "refused: a launcher (WORLD_SIZE) started several processes of one run, not a sweep" in sweep.stderr


@pytest.mark.slow
def test_jobs_of_a_parallel_sweep_have_processes_of_their_own(tmp_path: Path) -> None:
    swept = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1"]
    done = harness(tmp_path, *swept, *FEW, "run.devices=2", "run.root=r", timeout=600)
    assert done.returncode == 0, done.stderr
    results = [read_json(path) for path in (tmp_path / "r" / "runs").glob("*/result.json")]
    assert [result["cost"]["processes"] for result in results] == [2, 2]
