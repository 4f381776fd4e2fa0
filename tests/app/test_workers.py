"""One run in several processes: what is refused, what a launcher says of them, and the one answer of their reports."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.app.workers import Report, _answer
from harness.runs import launched
from harness.runs.records import State
from harness.runs.schema import ConfigError, RunConfig
from harness.training.process_group import module_refusals, processes_of


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
