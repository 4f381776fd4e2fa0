"""Signals and other processes: what is asked to stop saves, nothing is lost, and no lock outlives its process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from torch import nn

from harness.app import assembly, validation
from harness.app.run_end import Stopped
from harness.app.runner import run
from harness.app.training_run import TrainingRun
from harness.app.validation import Validation
from harness.runs import locks, records
from harness.runs.folder import KILLED, RunFolder, settle
from harness.runs.locks import FileLock, is_held
from harness.runs.metrics_log import MetricsLog
from harness.runs.records import State
from harness.training import interrupt
from harness.training.interrupt import SIGNALS, StopRequested, StopSignals
from harness.training.state import NonFiniteLossError, TrainState
from tests.runs.conftest import Composed, outcome

EVALUATED = ("run.eval_every=2", "run.log_every=1", "run.rehearse=false")


def send(number: int = signal.SIGTERM) -> None:
    signal.raise_signal(number)  # the handler has run when it returns


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_raises_where_nothing_has_to_be_saved(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=number.name), StopSignals():
        send(number)
    assert signal.getsignal(number) == before


def test_inside_deferred_a_signal_is_noted_and_raises_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "GRACE", 600.0)  # however slow this machine is
    reached = False
    with StopSignals() as stop:
        with pytest.raises(StopRequested, match="SIGTERM"), stop.deferred():  # noqa: PT012
            send()
            send(signal.SIGINT)  # the same wish again
            reached = stop.requested() == "SIGTERM"
        assert reached
        send()  # as well


def test_a_signal_long_after_the_first_ends_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "GRACE", -1.0)
    with StopSignals() as stop, pytest.raises(StopRequested, match="SIGINT"), stop.deferred():  # noqa: PT012
        send()
        send(signal.SIGINT)


def test_an_outer_block_knows_what_an_inner_one_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "GRACE", 600.0)
    with StopSignals() as outer:
        with pytest.raises(StopRequested), StopSignals():
            send()
        assert outer.requested() == "SIGTERM"
        send()  # the second Ctrl-C while the program says goodbye


def test_a_stop_file_is_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "LOOK_EVERY", 0.0)
    stop = StopSignals(tmp_path / "stopped")
    assert stop.requested() is None
    (tmp_path / "stopped").touch()
    assert stop.requested() == "a stopped sweep"


class AskedAt(StopSignals):
    """Asks to stop when the training has done so many iterations."""

    def __init__(self, iteration: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        real = assembly.TrainState

        def watched(**parts: Any) -> TrainState:
            self.training = real(**parts)
            return self.training

        monkeypatch.setattr(assembly, "TrainState", watched)
        self._at = iteration
        self.training: TrainState | None = None

    @property
    def asked(self) -> str | None:  # type: ignore[override]
        return "SIGTERM" if self.training is not None and self.training.iteration >= self._at else None

    @asked.setter
    def asked(self, value: str | None) -> None: ...


def stopped(config: DictConfig, stop: StopSignals | None = None) -> Stopped:
    with pytest.raises(Stopped) as caught:
        run(config, choices={}, sources=[], stop=stop)
    assert caught.value.state is State.INTERRUPTED, caught.value.reason
    return caught.value


def evaluations(folder: Path) -> list[int]:
    return [row["iteration"] for row in MetricsLog.rows(folder / "metrics.jsonl") if "eval/map" in row]


def test_a_signal_at_an_evaluation_does_not_lose_it(composed: Composed) -> None:
    whole = run(composed(*EVALUATED, root="whole"), choices={}, sources=[]).folder
    with pytest.MonkeyPatch.context() as patch:
        end = stopped(composed(*EVALUATED), AskedAt(2, patch))
    assert "stopped by SIGTERM at iteration 2; the same command continues it" in end.reason
    assert evaluations(Path(str(end.folder))) == []
    folder = run(composed(*EVALUATED), choices={}, sources=[]).folder
    assert evaluations(folder) == evaluations(whole) == [2, 4]
    assert MetricsLog.rows(folder / "metrics.jsonl") == MetricsLog.rows(whole / "metrics.jsonl")
    assert outcome(folder) == outcome(whole)


def test_evaluations_before_an_interruption_count_among_the_costs(
    composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Validation.evaluate

    def slow(self: Validation, model: nn.Module) -> Any:
        found = real(self, model)
        self.seconds += 1000
        return found

    monkeypatch.setattr(Validation, "evaluate", slow)
    with pytest.MonkeyPatch.context() as patch:
        stopped(composed(*EVALUATED), AskedAt(3, patch))  # after the evaluation at 2
    folder = run(composed(*EVALUATED), choices={}, sources=[]).folder
    assert RunFolder(folder).result()["cost"]["eval_seconds"] // 1000 == 3  # at 2, at 4 and at the end


def raise_in_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **named: Any) -> None:
        raise StopRequested("SIGTERM")

    monkeypatch.setattr(validation, "detect_together", interrupted)


def test_a_signal_while_the_end_is_evaluated(composed: Composed) -> None:
    with pytest.MonkeyPatch.context() as patch:
        raise_in_detection(patch)
        end = stopped(composed("run.rehearse=false"))
    status = RunFolder(Path(str(end.folder))).status
    assert status is not None
    assert (status.state, status.reason, status.iteration) == (State.INTERRUPTED, "stopped by SIGTERM", 6)
    assert run(composed("run.rehearse=false"), choices={}, sources=[]).folder == Path(str(end.folder))


def test_a_signal_while_the_tracker_finishes_leaves_the_run_done(composed: Composed) -> None:
    from harness.tracking import NoTracker

    def interrupted(*arguments: Any) -> None:
        raise StopRequested("SIGINT")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NoTracker, "finish", interrupted)
        end = stopped(composed())
    assert "after the result was written" in end.reason
    assert RunFolder(Path(str(end.folder))).finished


def test_a_run_of_a_killed_process_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a"
    with RunFolder(path) as folder:
        folder.set_status(State.RUNNING, iteration=4)
        (path / ".checkpoint.pt.0123456789abcdef0123456789abcdef").touch()
        (path / "error.txt").touch()
        status = RunFolder(path).status
        assert status is not None
        assert status.state is State.RUNNING, "this process holds the lock"
        settle(path.parent)
    status = RunFolder(path).status
    assert status is not None
    assert (status.state, status.reason, status.iteration) == (State.INTERRUPTED, KILLED, 4)
    settle(path.parent)
    assert '"interrupted"' in (path / "status.json").read_text()
    assert {file.name for file in path.iterdir()} == {".lock", "status.json"}, "leftovers are removed"


@pytest.mark.parametrize(
    ("error", "state", "says"),
    [
        (RuntimeError("the cause"), State.FAILED, "RuntimeError: the cause (and its folder cannot be written: "),
        (
            OSError(errno.ENOSPC, "No space left on device", "log"),
            State.FAILED,
            "log: No space left on device (and its",
        ),
        (NonFiniteLossError("the loss is nan"), State.FAILED, "the loss is nan (and its folder cannot be written: "),
        (KeyboardInterrupt("SIGTERM"), State.INTERRUPTED, "stopped by SIGTERM; the same command continues it (and its"),
    ],
    ids=["program", "disk", "foreseen", "signal"],
)
def test_a_disk_that_takes_neither_the_status_nor_the_traceback(
    error: BaseException, state: State, says: str, composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stopped the run is said all the same, with its state, and the next call does not see a running one."""

    def fails(run: Any) -> None:
        monkeypatch.setattr(records.os, "fsync", full)
        raise error

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TrainingRun, "execute", fails)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(Stopped) as caught:
        run(composed(), choices={}, sources=[])
    end = caught.value
    assert end.state is state
    assert end.reason.startswith(says)
    assert end.reason.endswith("status.json: No space left on device)")
    status = RunFolder(Path(str(end.folder))).status
    assert status is not None
    assert (status.state, status.reason) == (State.INTERRUPTED, KILLED)
    assert not list(Path(str(end.folder)).glob(".status*")), "nothing half written stays"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that takes the lock of the folder that it is given and forks; the forked one says "held", both wait."""
    code = (
        "import os, sys, time; from pathlib import Path; from harness.runs.locks import FileLock;"
        "lock = FileLock(Path(sys.stdin.readline().strip()));"
        "assert lock.acquire(); os.fork() or print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_of_a_killed_process_do_not_keep_its_lock(child: subprocess.Popen[str], tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert child.stdin is not None
    assert child.stdout is not None
    print(path, file=child.stdin, flush=True)
    assert child.stdout.readline() == "held\n"
    assert is_held(path)
    assert not FileLock(path).acquire(patience=0.0)
    child.kill()
    child.wait()
    assert not is_held(path)
    lock = FileLock(path)
    assert lock.acquire()
    lock.release()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_worked_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*arguments: Any, **named: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks, "_lock", refuses)
    with RunFolder(tmp_path) as folder:
        folder.set_status(State.RUNNING)
    assert "has no locks" in caplog.text
    status = RunFolder(tmp_path).status
    assert status is not None
    assert status.state is State.RUNNING, "whether the process lives cannot be known"
