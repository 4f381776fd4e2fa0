"""``hydra/launcher=submitit_slurm`` and ``submitit_local``: jobs that save before preemption or a time-out and go on.

The options are those of Hydra's submitit plug-in. Its job, though, is ended by submitit's signal wherever it is and
loses what was trained since the last checkpoint, and one job that cannot report back ends its sweep. Here a run saves
its state first, submitit then puts the job back in the queue, and a lost job fails alone.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from harness.app.dispatch import CONTINUES, packed, run_elsewhere, run_packed
from harness.app.sweep_record import SweepRecord
from harness.runs.schema import ConfigError
from harness.training.interrupt import StopSignals

# Hydra accepts launchers only if their name begins with `hydra_plugins.`; under these the class is registered.
TARGET = "hydra_plugins.harness.Submitit"
# Options that submitit knows for every cluster; the names of the others begin with the cluster's.
SHARED = {"name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node"}
SHARED |= {"stderr_to_stdout"}
# Slurm sends SIGTERM before it kills a job, whether the user cancelled it or another job takes its place. Only Slurm
# knows which, so a run that has saved waits for the end: reporting back would tell submitit that the job is over.
WAIT_FOR_KILL = 300.0  # seconds


@dataclass
class LocalConfig:
    """``hydra.launcher`` of ``submitit_local``."""

    _target_: str = f"{TARGET}Local"
    submitit_folder: str = "${hydra.sweep.dir}/.submitit/%j"  # logs and pickled jobs
    n_jobs: int = 1  # at a time
    timeout_min: int = 60  # of one job; then it is put back in the queue
    signal_delay_s: int = 30  # between the signal to save and the end of the time
    max_num_timeout: int = 100  # submitit starts a local job six times at most
    gpus_per_node: int = 0  # visible to the jobs
    name: str = "${hydra.job.name}"
    stderr_to_stdout: bool = False


@dataclass
class SlurmConfig:
    """``hydra.launcher`` of ``submitit_slurm``; what is null is left to Slurm. See the manual of ``sbatch``."""

    _target_: str = f"{TARGET}Slurm"
    submitit_folder: str = "${hydra.sweep.dir}/.submitit/%j"  # logs and pickled jobs, on the shared file system
    timeout_min: int = 60  # of one job; then it is put back in the queue
    signal_delay_s: int = 120  # between the signal to save and the end of the time
    max_num_timeout: int = 100  # how often a job may run out of time; preemption does not count
    array_parallelism: int = 256  # jobs at a time
    name: str = "${hydra.job.name}"
    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    mem_gb: int | None = None
    stderr_to_stdout: bool = False
    partition: str | None = None
    qos: str | None = None
    comment: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    cpus_per_gpu: int | None = None
    gpus_per_task: int | None = None
    mem_per_gpu: str | None = None
    mem_per_cpu: str | None = None
    account: str | None = None
    additional_parameters: dict[str, Any] = field(default_factory=lambda: {"requeue": True})  # further ones of sbatch
    setup: list[str] | None = None  # commands to run before the job


def register() -> None:
    """Makes both launchers known to Hydra."""
    for name, node, launcher in (("slurm", SlurmConfig, SlurmLauncher), ("local", LocalConfig, LocalLauncher)):
        ConfigStore.instance().store(group="hydra/launcher", name=f"submitit_{name}", node=node)
        Plugins.instance().class_name_to_class[node._target_] = launcher


class ResumableJob:
    """What submitit pickles, runs and, after a signal, puts back in the queue.

    Args:
        job: packed (:func:`harness.app.dispatch.packed`).
        number: of the job in its sweep.
        folder: of the sweep.
    """

    def __init__(self, job: bytes, number: int, folder: Path) -> None:
        self.job, self.number, self.folder = job, number, folder

    def __call__(self) -> JobReturn:
        """Runs or continues the job; does not return where submitit puts it back in the queue."""
        import submitit

        environment = submitit.JobEnvironment()
        warning = signal.Signals[f"SIG{environment.USR_SIG}"]  # of preemption or of the end of the time
        requeue: Any = signal.getsignal(warning)  # submitit's handler
        with StopSignals() as stop:
            try:
                returned = run_packed(self.job)
            except KeyboardInterrupt:  # before the run had a handler of its own
                returned = JobReturn(status=JobStatus.COMPLETED)
        if stop.asked == warning.name:
            self._forget_outcome()
            requeue(warning, None)
        if stop.asked == "SIGTERM" and environment.name() == "slurm":
            time.sleep(WAIT_FOR_KILL)
        return returned

    def checkpoint(self) -> Any:
        """Called by submitit's handler: what to run next time."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _forget_outcome(self) -> None:
        """The word `interrupted` is not the last one of a job that is put back in the queue."""
        record = SweepRecord.read(self.folder)
        for path in self.folder.rglob(f"outcome-{self.number}.json"):
            if record.outcome(self.number) is not None:
                path.unlink(missing_ok=True)


class SubmititLauncher(Launcher):
    """Both launchers; the arguments are the keys of :class:`SlurmConfig` or :class:`LocalConfig`."""

    cluster = ""

    def __init__(self, **options: Any) -> None:
        self.options: dict[str, Any] = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in options.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before :meth:`launch`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submits all jobs and returns when none of them is left.

        Raises:
            ConfigError: submitit is not installed, or refuses an option.
            SweepStopped: a signal came; the jobs that ran have saved.
        """
        options = dict(self.options)
        parallel = options.pop("n_jobs", None)
        folder = Path(str(self.config.hydra.sweep.dir))
        jobs = [
            ResumableJob(job, number, folder)
            for number, job in enumerate(packed(self, job_overrides, initial_job_idx), start=initial_job_idx)
        ]
        queue = Queue(executor_of(self.cluster, options), jobs)
        return run_elsewhere(self, queue, job_overrides, initial_job_idx, parallel)


class SlurmLauncher(SubmititLauncher):
    """``hydra/launcher=submitit_slurm``."""

    cluster = "slurm"


class LocalLauncher(SubmititLauncher):
    """``hydra/launcher=submitit_local``."""

    cluster = "local"


def executor_of(cluster: str, options: Mapping[str, Any]) -> Any:
    """submitit's executor with the options of a launcher.

    Raises:
        ConfigError: submitit is not installed, there is no such cluster here, or an option is refused.
    """
    try:
        import submitit
    except ImportError:
        raise ConfigError(f"hydra/launcher=submitit_{cluster} needs submitit: pip install submitit") from None
    own = {key: value for key, value in options.items() if value is not None}
    where = (own.pop("submitit_folder"), own.pop("max_num_timeout"))
    try:
        if cluster == "local":  # under AutoExecutor it takes no signal_delay_s
            executor: Any = submitit.LocalExecutor(*where)
        else:
            executor = submitit.AutoExecutor(where[0], cluster=cluster, **{f"{cluster}_max_num_timeout": where[1]})
            own = {key if key in SHARED else f"{cluster}_{key}": value for key, value in own.items()}
        executor.update_parameters(**own)
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"hydra/launcher=submitit_{cluster}: {' '.join(str(error).split())}") from error
    return executor


class Queue:
    """Jobs in the hands of a submitit executor (:class:`harness.app.dispatch.Elsewhere`)."""

    def __init__(self, executor: Any, jobs: Sequence[ResumableJob]) -> None:
        self._executor = executor
        self._jobs = jobs
        self._submitted: dict[int, Any] = {}
        self._withdrawn = False

    def submit(self, places: Sequence[int]) -> None:
        """In one array of jobs, where the scheduler has them."""
        with self._executor.batch():
            submitted = [self._executor.submit(self._jobs[place]) for place in places]
        self._submitted.update(zip(places, submitted, strict=True))

    def ended(self) -> dict[int, JobReturn | str]:
        """Those that ended since the last call."""
        over = [place for place, job in self._submitted.items() if job.done()]
        return {place: self._returned(self._submitted.pop(place)) for place in over}

    def withdraw(self) -> None:
        """Cancels what waits in the scheduler's queue."""
        if not self._withdrawn:
            self._withdrawn = True
            for job in self._submitted.values():
                if job.state == "PENDING":
                    job.cancel(check=False)

    @staticmethod
    def _returned(job: Any) -> JobReturn | str:
        from submitit.core.utils import UncompletedJobError

        try:
            returned: JobReturn = job.result()
        except UncompletedJobError:
            return (
                f"job {job.job_id} ended ({job.state}) and could not report back: see {job.paths.stderr}; {CONTINUES}"
            )
        return returned
