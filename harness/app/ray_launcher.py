"""``hydra/launcher=ray``: the jobs of a sweep as tasks of a Ray cluster, or of one that is started on this machine.

The option names (``hydra.launcher.ray.init``, ``.remote``) are those of Hydra's Ray plug-in, which cannot be installed
beside a current cloudpickle. A task whose worker or node dies is run again by Ray and continues from its checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from harness.app.dispatch import CONTINUES, packed, run_elsewhere, run_packed
from harness.runs.schema import ConfigError
from harness.training.interrupt import StopSignals

TARGET = "hydra_plugins.harness.Ray"  # Hydra accepts launchers only if their name begins with `hydra_plugins.`
# Of a cluster that is started here. Jobs exchange files, so Ray's store of objects may be as small as Ray allows.
OWN_CLUSTER = {"include_dashboard": False, "object_store_memory": 80_000_000}


def _init() -> dict[str, Any]:
    return {"address": None, "num_cpus": None, "log_to_driver": False}


def _remote() -> dict[str, Any]:
    return {"num_cpus": 1, "num_gpus": 0, "max_retries": 3}


@dataclass
class Ray:
    """``hydra.launcher.ray``."""

    # Arguments of ray.init. address: of a cluster, such as auto or ray://host:10001; null: $RAY_ADDRESS, else one that
    # is started here and ends with the sweep. num_cpus: of that one; null: all. Further arguments: +hydra.launcher...=
    init: dict[str, Any] = field(default_factory=_init)
    # Options of each task. num_gpus=1 gives a job a GPU of its own; with 0 it sees none.
    remote: dict[str, Any] = field(default_factory=_remote)


@dataclass
class RayConfig:
    """``hydra.launcher`` of ``ray``."""

    _target_: str = TARGET
    n_jobs: int | None = None  # at a time; null: as many as the cluster has room for
    ray: Ray = field(default_factory=Ray)


def register() -> None:
    """Makes ``hydra/launcher=ray`` known to Hydra."""
    ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayConfig)
    Plugins.instance().class_name_to_class[TARGET] = RayLauncher


class Preempted(Exception):
    """A task was told to end, as the tasks of a node that is taken away; Ray runs it again on another one."""


def run_task(job: bytes) -> JobReturn:
    """The task: runs or continues a packed job.

    Raises:
        Preempted: it was told to end by SIGTERM. Its run has saved.
    """
    with StopSignals() as stop:
        try:
            returned: JobReturn = run_packed(job)
        except KeyboardInterrupt:
            raise Preempted(stop.asked) from None
    if stop.asked == "SIGTERM":
        raise Preempted(stop.asked)
    return returned


class RayLauncher(Launcher):
    """The launcher; the arguments are the keys of :class:`RayConfig`."""

    def __init__(self, ray: Mapping[str, Any], n_jobs: int | None = None) -> None:
        options: Any = OmegaConf.to_container(ray, resolve=True) if isinstance(ray, DictConfig) else dict(ray)
        self.init, self.remote, self.n_jobs = dict(options["init"]), dict(options["remote"]), n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before :meth:`launch`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs all jobs and returns when none of them runs any more.

        Raises:
            ConfigError: ray is not installed, or its cluster cannot be reached.
            SweepStopped: a signal came; the jobs that ran have saved.
        """
        self._connect()
        tasks = Tasks(packed(self, job_overrides, initial_job_idx), self.remote)
        return run_elsewhere(self, tasks, job_overrides, initial_job_idx, self.n_jobs)

    def _connect(self) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError("hydra/launcher=ray needs ray: pip install -c constraints.txt ray") from None
        if ray.is_initialized():
            return
        given = {key: value for key, value in self.init.items() if value is not None}
        own = {} if "address" in given or os.environ.get("RAY_ADDRESS") else OWN_CLUSTER
        try:
            ray.init(**{**own, **given})
        except Exception as error:  # Ray raises that class itself where its processes do not start in time
            raise ConfigError(f"hydra/launcher=ray: {' '.join(str(error).split())}") from error


class Tasks:
    """Jobs in the hands of Ray (:class:`harness.app.dispatch.Elsewhere`)."""

    def __init__(self, jobs: Sequence[bytes], options: Mapping[str, Any]) -> None:
        import ray.exceptions

        self._jobs = jobs
        self._task: Any = ray.remote(**{"retry_exceptions": [Preempted], **options})(run_task)
        self._submitted: dict[Any, int] = {}

    def submit(self, places: Sequence[int]) -> None:
        """Ray starts them as soon as it has room."""
        self._submitted |= {self._task.remote(self._jobs[place]): place for place in places}

    def ended(self) -> dict[int, JobReturn | str]:
        """Those that ended since the last call."""
        import ray.exceptions

        tasks = list(self._submitted)
        over, _ = ray.wait(tasks, num_returns=len(tasks), timeout=0, fetch_local=False) if tasks else ([], [])
        return {self._submitted.pop(task): self._returned(task) for task in over}

    def withdraw(self) -> None:
        """Nothing to do: a task that begins after the stop file is there ends at once."""

    @staticmethod
    def _returned(task: Any) -> JobReturn | str:
        import ray.exceptions

        try:
            returned: JobReturn = ray.get(task)
        except ray.exceptions.RayError as error:
            return f"its Ray task ended with {' '.join(str(error).split())[:300]}; {CONTINUES}"
        return returned
