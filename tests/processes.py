"""Processes of the tests, forked from one that has imported everything: torch alone costs a fresh one some seconds.

A forked process is one of its own in all that a test looks at: arguments, folder, environment, output, exit code,
signals. What a fresh interpreter does before the first line of the program is tested elsewhere
(tests/test_contributing.py, tests/test_readme.py).
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes

METHOD = "forkserver"
IMPORTED = ["harness.app.entry", "harness.app.runner", "harness.app.training_run", "harness.report.command"]
_CONTEXT = multiprocessing.get_context(METHOD)
_CONTEXT.set_forkserver_preload(IMPORTED)


class Started:
    """``python -m harness arguments`` in the folder ``cwd``; the methods are those of :class:`subprocess.Popen`.

    Args:
        before: a function of a module, or an object that can be pickled, called in the process before the command.
    """

    def __init__(self, cwd: Path, *arguments: str, before: Callable[[], None] | None = None) -> None:
        self.args = ["harness", *arguments]
        self._output = Path(tempfile.mkdtemp())
        what = (str(cwd), self.args, dict(os.environ), str(self._output), before)
        self._process = _CONTEXT.Process(target=_become, args=what)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait_until(self, what: Callable[[], object], timeout: float = 900) -> None:
        """Returns as soon as ``what()`` is true. Fails where the process ends before, and after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not what():
            assert self.returncode is None, self.communicate()[1]
            assert time.monotonic() < deadline, f"not in {timeout:g} s"
            time.sleep(0.02)

    def communicate(self, timeout: float = 900) -> tuple[str, str]:
        """Waits for the end of the process and returns its standard output and its standard error.

        Raises:
            subprocess.TimeoutExpired: it ran longer than ``timeout`` seconds and was killed.
        """
        self._process.join(timeout)
        late = self._process.is_alive()
        if late:
            self.kill()
            self._process.join()
        stdout, stderr = ((self._output / name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
        shutil.rmtree(self._output)
        if late:
            raise subprocess.TimeoutExpired(self.args, timeout, stdout, stderr)
        return stdout, stderr


def harness(
    cwd: Path, *arguments: str, timeout: float = 900, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """``python -m harness arguments`` in the folder ``cwd``, to its end; see :class:`Started`."""
    process = Started(cwd, *arguments, before=before)
    stdout, stderr = process.communicate(timeout)
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _become(
    cwd: str, arguments: list[str], environment: dict[str, str], output: str, before: Callable[[], None] | None
) -> None:
    """Makes this process the command's."""
    for number, name in enumerate(("stdout", "stderr"), start=1):
        os.dup2(os.open(os.path.join(output, name), os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
    sys.path.insert(0, cwd)
    sys.argv = arguments
    if before is not None:
        before()
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def together(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """``function(*arguments)``, of a module, in ``count`` processes of one gloo group.

    Returns:
        By rank, what each of them returned: tensors and plain containers.
    """
    with tempfile.TemporaryDirectory() as folder:
        start_processes(_enter, (count, folder, function, arguments), nprocs=count, start_method=METHOD)
        return [torch.load(Path(folder) / str(rank)) for rank in range(count)]


def _enter(rank: int, count: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    try:
        torch.save(function(*arguments), Path(folder) / str(rank))
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
