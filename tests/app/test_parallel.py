"""Workers of a parallel sweep: one that dies fails its own task, and a signal ends all of them in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from harness.app.parallel import Workers
from harness.training import interrupt
from harness.training.interrupt import StopSignals


def task(function: Any, *arguments: Any) -> bytes:
    done: bytes = cloudpickle.dumps((function, arguments))
    return done


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def slow(number: int) -> int:
    time.sleep(0.5)
    return number


def until_stopped(file: Path) -> str:
    """A job: it begins, hears the signal, saves and returns."""
    with StopSignals() as stop:
        try:
            with stop.deferred():
                file.touch()
                while not stop.requested():
                    time.sleep(0.01)
        except KeyboardInterrupt:
            return "saved"
    return "nothing heard"


def test_a_worker_that_is_killed_takes_no_other_with_it(tmp_path: Path) -> None:
    tasks = [task(slow, 1), task(die), task(slow, 3)]
    with Workers(tmp_path / "stopped") as workers:
        answers = dict(workers.results(tasks, 2))
    assert (answers[0], answers[2]) == (1, 3)
    assert "was killed by SIGKILL" in answers[1]


def test_a_signal_is_passed_on_waited_for_and_nothing_new_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupt, "GRACE", 600.0)  # however slow this machine is, both signals are one wish
    begun = [tmp_path / str(number) for number in range(4)]
    tasks = [task(until_stopped, file) for file in begun]

    def interrupt_twice() -> None:
        while not (begun[0].exists() and begun[1].exists()):
            time.sleep(0.02)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    sender = threading.Thread(target=interrupt_twice)
    sender.start()
    with StopSignals() as outer:
        with Workers(tmp_path / "stopped") as workers:
            answers = dict(workers.results(tasks, 2))
        sender.join()  # the second signal may come after the workers have ended
        assert outer.requested() == "SIGINT"
    assert answers == {0: "saved", 1: "saved"}
    assert not begun[2].exists()
    assert (tmp_path / "stopped").read_text() == "SIGINT\n"
