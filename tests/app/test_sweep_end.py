"""The end of a sweep, however it comes: its table, its failures, its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from harness.app import entry, sweep_record
from harness.app.job import Outcome
from harness.app.sweep import SweepEnd
from harness.app.sweep_record import SweepRecord
from harness.runs.records import State
from harness.runs.schema import ConfigError, folder
from tests.processes import harness
from tests.runs.conftest import SMALL

OWN, FOREIGN = "hydra_plugins.harness.UntilSettled", "hydra_plugins.theirs.Sweeper"
FAULT = RuntimeError("a fault of the sweeper")


@pytest.mark.parametrize("mode", ["train", "check"])
@pytest.mark.parametrize(
    ("error", "sweeper", "says"),
    [
        (ConfigError("hydra.sweeper.x: no"), OWN, "hydra.sweeper.x: no"),
        (FAULT, OWN, None),  # a fault of a program keeps its traceback
        (FAULT, FOREIGN, "Sweeper: RuntimeError: a fault of the sweeper (HYDRA_FULL_ERROR=1 shows where)"),
    ],
)
def test_a_sweeper_that_raises_does_not_hide_what_its_jobs_came_to(
    error: Exception,
    sweeper: str,
    says: str | None,
    mode: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = tmp_path / "sweep"
    config = OmegaConf.create(
        {
            "hydra": {"sweep": {"dir": str(sweep)}, "sweeper": {"_target_": sweeper}},
            "mode": mode,
            "run": {"root": str(tmp_path / "results")},
        }
    )
    end = SweepEnd()

    def broken() -> None:
        end.on_multirun_start(config)
        token = SweepRecord.read(sweep).token
        Outcome(State.FAILED, "the disk is full", overrides=["seed=1"], sweep=token).write(sweep / "0")
        raise error

    monkeypatch.setattr(entry, "compose_and_run", broken)
    try:
        with pytest.raises((SystemExit, RuntimeError)) as stop:
            entry._run()
    finally:
        assert end._signals is not None
        end._signals.__exit__()
    printed, said = capsys.readouterr()
    if mode == "check":
        assert "0 of 1 combinations can work\n(1) the disk is full" in printed
        assert not sweep.exists()
    else:
        assert "0 of 1 runs have a result\nfailed: seed=1: the disk is full\n" in said
    if says is not None:
        assert isinstance(stop.value, SystemExit)
        assert stop.value.code == 1
        assert said.endswith(f"harness: failed: the sweep ended early: {says}\n")
    else:
        assert stop.value is error


def test_a_sweep_knows_its_own_jobs_wherever_they_wrote(tmp_path: Path) -> None:
    """In folders named by ``hydra.sweep.subdir=${hydra.job.override_dirname}``, beside those of an earlier sweep."""
    earlier = SweepRecord.begin(tmp_path, [["seed=0"], ["seed=1"]])
    for number in range(2):
        Outcome(State.FAILED, number=number, sweep=earlier.token).write(tmp_path / str(number))
    own = SweepRecord.begin(tmp_path, [["sampler=random"]])
    Outcome(State.DONE, number=0, sweep=own.token).write(tmp_path / "sampler=random,sampler.num=8")
    assert [(one["state"], one["number"]) for one in own.outcomes()] == [("done", 0)]
    assert own.outcome(1) is None


def test_the_outcome_of_one_job_is_found_without_reading_those_of_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adaptive sweep and a launcher ask for the outcomes one by one: of n jobs that was n times n files."""
    own = SweepRecord.begin(tmp_path, None)
    for number in range(12):
        Outcome(State.DONE, number=number, sweep=own.token).write(tmp_path / str(number))
    read: list[str] = []
    real = sweep_record.read_json
    monkeypatch.setattr(sweep_record, "read_json", lambda path: read.append(path.name) or real(path))
    assert [own.outcome(number)["number"] for number in range(12)] == list(range(12))  # type: ignore[index]
    assert read == [f"outcome-{number}.json" for number in range(12)]


def test_sweeps_that_start_in_the_same_second_have_folders_of_their_own() -> None:
    assert "%f" in OmegaConf.to_container(OmegaConf.load(folder("conf") / "config.yaml"))["hydra"]["sweep"]["dir"]  # type: ignore[index,call-overload]


def test_a_check_satisfies_a_sweeper_that_wants_a_number(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    optuna = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1")
    done = harness(tmp_path, "-m", *optuna, "sampler.num=range(8,32)", "mode=check")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 combinations can work" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_sweeps_in_one_folder_report_their_own_jobs(tmp_path: Path) -> None:
    small = [*SMALL, f"data.cache_dir={tmp_path}", "hydra.sweep.dir=out", "sampler=random"]
    first = harness(tmp_path, "-m", *small, "sampler.num=8,16,-1")
    assert first.returncode == 1
    assert "2 of 3 runs have a result\nrefused: sampler.num=-1" in first.stderr
    second = harness(tmp_path, "-m", *small, "sampler.num=8,16")
    assert second.returncode == 0, second.stderr
    assert "2 of 2 runs have a result" in second.stderr
    assert "num=-1" not in second.stdout + second.stderr
