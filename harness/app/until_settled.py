"""``hydra/sweeper=until_settled``: adds seeds round by round until every comparison of the sweep is settled.

It launches batches of jobs through whatever launcher is configured and reads what they left in their run folders, so
its state is a function of the run folders: the same command after a kill plans the same rounds, finds finished runs
done, continues interrupted ones, and ends with the same table.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from harness.app.arms import Arm, arms_of, baseline_of, partners_of, seeds_of
from harness.core import limits
from harness.runs.schema import ConfigError

if TYPE_CHECKING:
    from harness.app.rounds import Ledger

# Hydra accepts sweepers only if their name begins with `hydra_plugins.`; under this one the class is registered.
TARGET = "hydra_plugins.harness.UntilSettled"


@dataclass
class UntilSettledConfig:
    """``hydra.sweeper``."""

    _target_: str = TARGET
    first_seeds: int = 3  # every arm gets these before the first look
    seeds_per_round: int | None = None  # per open arm and round; null: as many as the launcher runs at a time
    max_seeds: int = 20  # per arm
    budget_hours: float | None = None  # of training and evaluation, summed over the runs of the sweep
    goal: str = "baseline"  # baseline: every arm against the baseline | best: which arm is best
    baseline: str | None = None  # a swept value, as `random`; null: `random` where there is one, else the first arm
    metric: str = "map"  # a number of result.json's metrics; higher is better
    alpha: float = 0.05  # accepted probability of any false verdict, over all arms and looks
    margin: float = 0.005  # the smallest difference of the metric worth having
    params: dict[str, str] = field(default_factory=dict)  # swept values, as in Hydra's basic sweeper

    def check(self) -> None:
        """Raises ValueError for the first value out of range."""
        limits.at_least("hydra.sweeper.first_seeds", self.first_seeds, 1)
        if self.seeds_per_round is not None:
            limits.at_least("hydra.sweeper.seeds_per_round", self.seeds_per_round, 1)
        limits.at_least("hydra.sweeper.max_seeds", self.max_seeds, self.first_seeds)
        if self.budget_hours is not None:
            limits.above("hydra.sweeper.budget_hours", self.budget_hours, 0)
        limits.one_of("hydra.sweeper.goal", self.goal, ("baseline", "best"))
        if self.goal == "best" and self.baseline is not None:
            raise ConfigError("hydra.sweeper.baseline has no meaning with hydra.sweeper.goal=best: leave one out")
        limits.above("hydra.sweeper.alpha", self.alpha, 0, 1)
        limits.at_least("hydra.sweeper.margin", self.margin, 0)


def register() -> None:
    """Makes ``hydra/sweeper=until_settled`` known to Hydra."""
    ConfigStore.instance().store(group="hydra/sweeper", name="until_settled", node=UntilSettledConfig)
    plugins = Plugins.instance()
    plugins.register(UntilSettled)
    plugins.class_name_to_class[TARGET] = UntilSettled


class UntilSettled(Sweeper):
    """The sweeper; the arguments are the keys of :class:`UntilSettledConfig`."""

    def __init__(self, params: Mapping[str, str] | None = None, **settings: Any) -> None:
        self.settings = UntilSettledConfig(params=dict(params or {}), **settings)
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before :meth:`sweep`."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Launches rounds until nothing is open; returns the jobs' returns, one sequence a round."""
        from harness.app.rounds import Ledger, run_rounds  # numpy is wanted from here on, not for --help

        assert self.config is not None
        assert self.hydra_context is not None
        try:
            self.settings.check()
        except ValueError as error:
            raise ConfigError(str(error)) from error
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        own = [f"{key}={value}" for key, value in self.settings.params.items()]
        overrides = parser.parse_overrides([*own, *arguments])
        arms = {arm.label: arm for arm in arms_of(overrides)}
        seeds = seeds_of(overrides, self.settings.max_seeds)
        partners = self._partners(list(arms.values()))
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        self.validate_batch_is_legal([[*arm.overrides, f"seed={seeds[0]}"] for arm in arms.values()])
        ledger = Ledger(folder, self.settings.metric)
        returns: list[Any] = []

        def launch(jobs: Sequence[tuple[str, int]]) -> None:
            returns.append(self._launch([(arms[label], seed) for label, seed in jobs], ledger))

        if self.config.mode == "check":
            launch([(label, seeds[0]) for label in arms])
        else:
            run_rounds(list(arms), seeds, partners, launch, ledger, self.settings, self._parallel_jobs(len(arms)))
        return returns

    def _partners(self, arms: Sequence[Arm]) -> dict[str, str]:
        """Arm -> baseline; empty for a race. The baseline taken is left in the configuration, for the report."""
        if self.settings.goal == "best":
            return {}
        assert self.config is not None
        baseline = baseline_of(arms, self._baseline_named(arms))
        with open_dict(self.config):
            self.config.hydra.sweeper.baseline = ",".join(f"{key}={value}" for key, value in baseline.items())
        return partners_of(arms, baseline)

    def _baseline_named(self, arms: Sequence[Arm]) -> str | None:
        """The configured baseline; None, and a line, where the command line took its key out of the sweep.

        So it is with ``-cn assigners recipe=null assigner=max_iou,atss``: the file compares with one of its recipes.
        """
        named = self.settings.baseline
        swept = arms[0].swept
        gone = [key for key, value in self.settings.params.items() if key not in swept and named in value.split(",")]
        if not gone:
            return named
        print(f"hydra.sweeper.baseline={named} of the sweep file is left out: {gone[0]} is not swept", file=sys.stderr)
        return None

    def _launch(self, jobs: Sequence[tuple[Arm, int]], ledger: Ledger) -> Any:
        assert self.launcher is not None
        first = ledger.launched
        batch = [[*arm.overrides, f"seed={seed}"] for arm, seed in jobs]
        returned = self.launcher.launch(batch, initial_job_idx=first)
        ledger.read([(arm.label, seed) for arm, seed in jobs], returned)
        return returned

    def _parallel_jobs(self, arms: int) -> int:
        """How many jobs the launcher runs side by side, as far as its configuration says.

        A cluster that runs more of them than the first round has gets no larger rounds: a verdict may come sooner.
        """
        assert self.config is not None
        launcher = self.config.hydra.launcher
        if jobs := launcher.get("n_jobs"):
            return (os.cpu_count() or 1) if jobs == -1 else max(1, int(jobs))
        first_round = arms * self.settings.first_seeds
        if launcher.get("array_parallelism"):
            return min(int(launcher.array_parallelism), first_round)
        return first_round if "ray" in launcher else 1
