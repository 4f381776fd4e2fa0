"""Sweeps on clusters: what Slurm is asked for, what becomes of lost jobs, and that preempted jobs go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from harness.app.dispatch import run_elsewhere
from harness.app.job import STOP_FILE
from harness.app.ray_launcher import Preempted, RayLauncher, run_task
from harness.app.submitit_launcher import LocalConfig, Queue, ResumableJob, SlurmConfig, executor_of
from harness.app.sweep import SweepStopped
from harness.app.sweep_record import SweepRecord
from harness.runs.schema import ConfigError
from tests.app.test_command_line import ROOT
from tests.processes import harness
from tests.runs.conftest import SMALL

has_submitit = pytest.mark.skipif(find_spec("submitit") is None, reason="the extra `slurm` is not installed")
has_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")


# --- the wait for jobs elsewhere ---


def launcher_in(folder: Path) -> Any:
    """As much of a launcher as the wait looks at."""
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder), "subdir": "x"}, "job": {"name": "harness"}}})
    loader = SimpleNamespace(load_sweep_config=lambda config, overrides: config.copy())
    return SimpleNamespace(config=config, hydra_context=SimpleNamespace(config_loader=loader))


class Pretended:
    """Jobs that end one poll after they were submitted; ``lost`` ones cannot report back."""

    def __init__(self, lost: Sequence[int] = (), stops_at: int | None = None) -> None:
        self.calls: list[list[int]] = []
        self.running: list[int] = []
        self.lost, self.stops_at, self.withdrawn = lost, stops_at, 0

    def submit(self, places: Sequence[int]) -> None:
        self.calls.append(list(places))
        self.running += places

    def ended(self) -> dict[int, JobReturn | str]:
        if self.stops_at in self.running:
            os.kill(os.getpid(), signal.SIGINT)
        over, self.running = self.running, []
        return {place: "its node burned" if place in self.lost else returned(0.5) for place in over}

    def withdraw(self) -> None:
        self.withdrawn += 1


def returned(value: float) -> JobReturn:
    job = JobReturn(status=JobStatus.COMPLETED)
    job.return_value = value
    return job


JOBS = [["sampler=random"], ["sampler=ohem"], ["sampler=all"]]


def test_a_job_that_cannot_report_back_fails_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SweepRecord.begin(tmp_path, JOBS)
    pretended = Pretended(lost=[1])
    returns = run_elsewhere(launcher_in(tmp_path), pretended, JOBS, first=10, parallel=None)
    assert pretended.calls == [[0, 1, 2]]
    assert [job.return_value for job in returns] == [0.5, None, 0.5]
    (outcome,) = SweepRecord.read(tmp_path).outcomes()
    assert (outcome["number"], outcome["state"], outcome["reason"]) == (11, "failed", "its node burned")
    assert capsys.readouterr().err.splitlines() == [
        "11/3 sampler=random: mAP 0.500",
        "12/3 sampler=ohem: no result",
        "13/3 sampler=all: mAP 0.500",
    ]


def test_a_job_of_a_check_is_said_by_the_table_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launcher = launcher_in(tmp_path)
    launcher.config.mode = "check"
    run_elsewhere(launcher, Pretended(), JOBS, first=0, parallel=None)
    assert capsys.readouterr().err == ""


def test_no_more_jobs_run_at_a_time_than_asked(tmp_path: Path) -> None:
    pretended = Pretended()
    run_elsewhere(launcher_in(tmp_path), pretended, JOBS, first=0, parallel=2)
    assert pretended.calls == [[0, 1], [2]]


def test_a_signal_is_told_to_all_jobs_and_nothing_new_begins(tmp_path: Path) -> None:
    pretended = Pretended(stops_at=0)
    with pytest.raises(SweepStopped):
        run_elsewhere(launcher_in(tmp_path), pretended, JOBS, first=0, parallel=1)
    assert pretended.calls == [[0]]
    assert (tmp_path / STOP_FILE).read_text() == "SIGINT\n"


# --- submitit ---


def options(config: Any, folder: Path, **given: Any) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(OmegaConf.structured(config))
    return {**plain, "submitit_folder": str(folder / "%j"), "name": "harness", **given} | {"_target_": None}


@has_submitit
def test_what_slurm_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With programs of Slurm's names that do nothing: the script that `sbatch` gets."""
    for name, says in (("srun", ""), ("sbatch", "Submitted batch job 12")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    executor = executor_of("slurm", options(SlurmConfig, tmp_path, partition="gpu", gpus_per_node=1, timeout_min=90))
    queue = Queue(executor, [ResumableJob(cloudpickle.dumps((len, ("",))), number, tmp_path) for number in range(2)])
    queue.submit([0, 1])
    (script,) = tmp_path.rglob("*submission.sh")
    asked = {line.removeprefix("#SBATCH --") for line in script.read_text().splitlines() if line.startswith("#SBATCH")}
    assert asked >= {"requeue", "signal=USR2@120", "array=0-1%2", "time=90", "partition=gpu", "gpus-per-node=1"}


@has_submitit
def test_a_refused_option_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r'hydra/launcher=submitit_slurm: .*"srun"'):
        executor_of("slurm", options(SlurmConfig, tmp_path))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("submitit", "ray"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match="hydra/launcher=submitit_local needs submitit: pip install"):
        executor_of("local", options(LocalConfig, tmp_path))
    with pytest.raises(ConfigError, match="hydra/launcher=ray needs ray: pip install"):
        RayLauncher({"init": {}, "remote": {}})._connect()


def interrupted_by(number: int, folder: str) -> str:
    """A job that is interrupted, says so and returns."""
    os.kill(os.getpid(), number)
    path = Path(folder) / "0" / "outcome-3.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"number": 3, "state": "interrupted", "sweep": SweepRecord.read(Path(folder)).token}))
    return "returned"


@has_submitit
@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_job_is_put_back_in_the_queue_after_its_run_has_saved(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After submitit's signal alone: SIGTERM also comes from a user who cancels the job."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", "1")
    record = SweepRecord.begin(tmp_path, None)

    def requeue(number: int, frame: object) -> None:
        asked.append((number, len(record.outcomes())))

    asked: list[tuple[int, int]] = []
    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        job = ResumableJob(cloudpickle.dumps((deferring, (number, str(tmp_path)))), 3, tmp_path)
        assert job() == "returned"
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert asked == ([(signal.SIGUSR2, 0)] if number == signal.SIGUSR2 else [])
    assert len(record.outcomes()) == (number == signal.SIGTERM)
    assert vars(job.checkpoint().function) == vars(job)


def deferring(number: int, folder: str) -> str:
    """:func:`interrupted_by` as a run is: the signal is noted, and looked at when the state is saved."""
    from harness.training.interrupt import StopRequested, StopSignals

    with StopSignals() as stop:
        try:
            with stop.deferred():
                said = interrupted_by(number, folder)
        except StopRequested:
            return said
    raise AssertionError("no signal was noted")


def test_a_task_of_ray_that_is_told_to_end_asks_for_another_node(tmp_path: Path) -> None:
    SweepRecord.begin(tmp_path, None)
    with pytest.raises(Preempted, match="SIGTERM"):
        run_task(cloudpickle.dumps((deferring, (signal.SIGTERM, str(tmp_path)))))
    assert run_task(cloudpickle.dumps((len, ("four",)))) == 4


# --- whole sweeps ---

LAUNCHERS = {
    "submitit_local": ["hydra/launcher=submitit_local", "hydra.launcher.n_jobs=2"],
    "ray": ["hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2"],
}
WORKER = {"submitit_local": "submitit.core._submit", "ray": "ray::run_task"}  # in the command line of a job's process
sweeping = pytest.mark.parametrize(
    "launcher", [pytest.param("submitit_local", marks=has_submitit), pytest.param("ray", marks=has_ray)]
)


def results(root: Path) -> dict[str, Any]:
    return {path.parent.name: json.loads(path.read_text()) for path in root.glob("runs/*/result.json")}


@pytest.mark.slow
@sweeping
def test_a_sweep_adds_rounds_on_a_cluster(launcher: str, tmp_path: Path) -> None:
    sweep = ["-m", *SMALL, "sampler=random,ohem", f"run.root={tmp_path}", f"data.cache_dir={tmp_path / 'cache'}"]
    sweep += ["hydra/sweeper=until_settled", "hydra.sweeper.first_seeds=1", "hydra.sweeper.max_seeds=2"]
    sweep += ["run.iterations=40", "hydra.sweeper.metric=ar_100"]  # enough is learned for a further round
    done = harness(tmp_path, *sweep, *LAUNCHERS[launcher], timeout=1800)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 runs have a result" in done.stderr
    assert "round 2: seed 1" in done.stderr
    assert len(results(tmp_path)) == 4


@pytest.mark.slow
@sweeping
def test_a_preempted_job_saves_and_goes_on(launcher: str, tmp_path: Path) -> None:
    """One of two jobs is told to end in the middle of its training; the sweep ends as if nothing had been."""
    marker = f"HARNESS_TEST={tmp_path}"
    sweep = ["-m", *SMALL, "run.iterations=60", "sampler=random,ohem", f"data.cache_dir={tmp_path / 'cache'}"]
    command = [sys.executable, "-m", "harness", *sweep, *LAUNCHERS[launcher], f"run.root={tmp_path}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HARNESS_TEST": str(tmp_path)}
    said = tmp_path / "said"
    with said.open("w") as file:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=file)
    deadline = time.monotonic() + 900
    while not (running := trained_to(tmp_path, 4)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running, said.read_text()
    number = signal.SIGUSR2 if launcher == "submitit_local" else signal.SIGTERM
    preempt(running[0], WORKER[launcher], marker, number)
    assert process.wait(timeout=1800) == 0, said.read_text()
    assert "2 of 2 runs have a result" in said.read_text()
    ended = results(tmp_path)
    assert sorted(result["cost"]["sessions"] for result in ended.values()) == [1, 2]
    assert ended[running[0].name]["cost"]["sessions"] == 2
    (method,) = [name for name in ("random", "ohem") if f"-{name}-" in running[0].name]
    plain = harness(tmp_path, *[a for a in sweep if a[:8] not in ("-m", "sampler=")], f"sampler={method}",
                    f"run.root={tmp_path / 'plain'}", timeout=1800)  # fmt: skip
    assert plain.returncode == 0, plain.stderr
    (undisturbed,) = results(tmp_path / "plain").values()
    assert ended[running[0].name]["metrics"] == undisturbed["metrics"]


def trained_to(root: Path, iteration: int) -> list[Path]:
    """The folders of unfinished runs that have logged this iteration."""
    logs = [path for path in root.glob("runs/*/metrics.jsonl") if not (path.parent / "result.json").exists()]
    return [path.parent for path in logs if f'"iteration": {iteration}' in path.read_text()]


def preempt(run: Path, worker: str, marker: str, number: signal.Signals) -> None:
    """Sends a signal to the process of this test's sweep that holds the lock of the run's folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mine = marker.encode() in (process / "environ").read_bytes().split(b"\0")
            held = [os.readlink(file) for file in (process / "fd").iterdir()] if mine else []
            called = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has ended meanwhile
        if worker in called and str(run / ".lock") in held:
            os.kill(int(process.name), number)
            return
    raise AssertionError(f"no {worker} of this sweep holds {run / '.lock'}")
