"""Loading processes that are stuck, dead or short of descriptors end a run with one line that names the cause."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from harness.data.loading import collate, val_loader
from harness.training.batches import LoadingError, watched


class Faulty(Dataset[Any]):
    """Eight images; the fifth one does ``what``."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        if index == 5:
            if self.what == "stops":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif self.what == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.what == "is told to end":
                for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
                    os.kill(os.getpid(), getattr(signal, name))
            elif self.what == "descriptors":
                raise OSError(24, "Too many open files")
            elif self.what == "own fault":
                raise ValueError("something of the data itself")
        return torch.zeros(3, 4, 4, dtype=torch.uint8), {"boxes": torch.zeros(0, 4)}


def loader(what: str) -> DataLoader[Any]:
    timeout = 2 if what == "stops" else 60
    return DataLoader(Faulty(what), batch_size=2, num_workers=1, timeout=timeout, collate_fn=collate)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            "stops",
            r"gave no batch for run.loading_timeout=2 seconds: the shared memory",
        ),
        ("dies", r"(were killed|died): the memory may be full"),  # who notices first, torch or the system
        ("descriptors", r"ran out of file descriptors: the limit \(`ulimit -n`\) is too small"),
    ],
)
def test_the_cause_and_what_helps_are_named(what: str, said: str) -> None:
    started = time.monotonic()
    with pytest.raises(LoadingError, match=rf"^the loading processes \(run.num_workers=1\) {said}.*run.num_workers=0"):
        list(watched(loader(what)))
    assert time.monotonic() - started < 60
    assert not multiprocessing.active_children()


def test_a_fault_of_the_data_is_not_blamed_on_the_processes() -> None:
    with pytest.raises(ValueError, match="something of the data itself"):
        list(watched(loader("own fault")))


def test_the_processes_end_with_the_iteration() -> None:
    batches = watched(loader("nothing"))
    next(batches)
    assert multiprocessing.active_children()
    batches.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")
def test_signals_to_all_processes_of_a_job_do_not_end_the_loading() -> None:
    """Slurm sends SIGTERM to every process of a job: batches still come, so that the training can save."""
    batches = list(watched(val_loader(Faulty("is told to end"), batch_size=2, num_workers=1, timeout=60)))
    assert [len(images) for images, _ in batches] == [2, 2, 2, 2]
    assert not multiprocessing.active_children()
