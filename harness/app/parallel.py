"""``hydra/launcher=joblib``: jobs side by side, so that neither a signal nor the death of one job loses the others.

Hydra's plug-in hands the jobs to joblib's loky executor. That one kills all workers as soon as one of them dies, and
kills them without a word on Ctrl-C. Here each worker is a process of its own: one that dies fails its job alone, and on
a signal the running jobs save, nothing new starts, and the parent waits for them. Options and their names are the
plug-in's; ``n_jobs`` counts.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

from harness.app.dispatch import CONTINUES, packed, record_death, run_packed
from harness.app.job import STOP_FILE
from harness.app.sweep import SweepStopped
from harness.training.interrupt import SIGNALS, StopSignals

if TYPE_CHECKING:
    from collections.abc import Iterator


class ParallelLauncher(JoblibLauncher):
    """Takes the place of the plug-in's launcher (:func:`harness.app.entry.start`)."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs all jobs and returns when none of them runs any more; a job that died returns None.

        Raises:
            SweepStopped: a signal came; the jobs that ran have saved.
        """
        from joblib import effective_n_jobs

        assert self.config is not None
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        count = min(effective_n_jobs(self.joblib.get("n_jobs") or 1), len(job_overrides))
        returns: dict[int, JobReturn] = {}
        with Workers(folder / STOP_FILE) as workers:
            for place, answer in workers.results(packed(self, job_overrides, initial_job_idx), count):
                if isinstance(answer, str):
                    answer = record_death(self, job_overrides[place], initial_job_idx + place, answer)
                returns[place] = answer
        if workers.asked:
            raise SweepStopped(folder, self.config)
        return [returns[place] for place in range(len(job_overrides))]


class Workers(StopSignals):
    """Processes that run packed jobs one after another. While entered, signals are passed on to them.

    Args:
        stop_file: written on the first signal; jobs look for it before they begin and between two steps.
    """

    def __init__(self, stop_file: Path) -> None:
        super().__init__()
        self._file = stop_file
        self._processes: dict[Connection, SpawnProcess] = {}

    def __exit__(self, *exception: object) -> None:
        for connection in self._processes:
            connection.close()  # an idle worker ends when nobody can send it a task any more
        super().__exit__(*exception)

    def results(self, tasks: Sequence[bytes], count: int) -> Iterator[tuple[int, Any]]:
        """Yields (place of the task, what it returned), ``count`` at a time; a text says how its process died.

        After a signal no further task begins; those that run are waited for.
        """
        context = multiprocessing.get_context("spawn")  # a fork of a process that uses threads may hang
        queue = deque(enumerate(tasks))
        idle: list[Connection] = []
        busy: dict[Connection, int] = {}
        while busy or (queue and not self.asked):
            while queue and len(busy) < count and not self.asked:
                connection = idle.pop() if idle else self._start(context)
                place, task = queue.popleft()
                busy[connection] = place
                with suppress(OSError):  # a worker that has died meanwhile is noticed below
                    connection.send_bytes(task)
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                place = busy.pop(ready)
                answer = self._answer(ready)
                if not isinstance(answer, str):
                    idle.append(ready)
                yield place, answer

    def _start(self, context: SpawnContext) -> Connection:
        own, other = context.Pipe()
        process = context.Process(target=_serve, args=(other,))
        with _blocked_signals():  # inherited by the process, until it has handlers of its own
            process.start()
        other.close()
        self._processes[own] = process
        return own

    def _answer(self, connection: Connection) -> Any:
        import cloudpickle

        try:
            return cloudpickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            process = self._processes.pop(connection)
            connection.close()
            process.join()
            code = process.exitcode or 0
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            return f"its process {how}; {CONTINUES}"

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.note(signal.Signals(number).name)
            with suppress(OSError):
                self._file.write_text(f"{self.asked}\n", encoding="utf-8")
        for process in self._processes.values():
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)


@contextmanager
def _blocked_signals() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection) -> None:
    """The life of a worker: signals are for the jobs, which have handlers of their own."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    import cloudpickle

    while True:
        try:
            job = connection.recv_bytes()
        except (EOFError, OSError):
            return
        answer = run_packed(job)
        with suppress(OSError):  # a parent that was killed does not read it, and the outcome is on disk
            connection.send_bytes(cloudpickle.dumps(answer))
