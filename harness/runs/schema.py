"""The typed part of the configuration and its checks. Floor 0: no torch, so that a typing error answers in a second."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from harness.core import limits


class ConfigError(ValueError):
    """A value that cannot work: one line with the key, the reason and what would be valid."""


@dataclass
class RunConfig:
    """``run``: how a training runs, whatever it trains."""

    root: str = "results"  # run folders go to <root>/runs
    iterations: int = 1500  # optimiser steps
    batch_size: int = 4
    device: str = "auto"  # auto | cpu | cuda | cuda:N | mps
    precision: str = "fp32"  # fp32 | bf16
    threads: int | None = None  # CPU; null: one per core. Other counts give other bits, so it is part of the run
    channels_last: bool = True
    clip_norm: float | None = 10.0  # gradient norm, null: none
    ema_decay: float | None = None  # evaluate an exponential moving average of the weights
    eval_every: int | None = None  # iterations between evaluations on the validation split; null: at the end only
    num_workers: int = 0  # data loading processes; cannot change the result
    log_every: int = 50  # iterations between logged steps
    checkpoint_minutes: float = 2.0  # a kill loses at most this much
    checkpoint_iterations: int | None = None
    memory_bound: int = 2**30  # bytes that an assigner's pairwise work may take at once; cannot change the result
    progress: str = "auto"  # auto: a bar on a terminal, silence elsewhere | on | off

    def check(self) -> None:
        """Raises ValueError for the first value out of range."""
        for key in ("iterations", "batch_size", "log_every"):
            limits.count(f"run.{key}", getattr(self, key), 1)
        for key in ("threads", "eval_every", "checkpoint_iterations"):
            limits.optional(limits.count, f"run.{key}", getattr(self, key), 1)
        limits.one_of("run.precision", self.precision, ("fp32", "bf16"))
        base, _, number = self.device.partition(":")
        known = base in ("auto", "cpu", "cuda", "mps") and (not number or (base == "cuda" and number.isdigit()))
        limits.require(known, "run.device", self.device, "one of auto, cpu, cuda, cuda:N, mps")
        limits.optional(limits.above, "run.clip_norm", self.clip_norm, 0)
        averaged = self.ema_decay is None or 0 < self.ema_decay < 1
        limits.require(averaged, "run.ema_decay", self.ema_decay, "above 0 and below 1, or null")
        limits.count("run.num_workers", self.num_workers, 0)
        limits.above("run.checkpoint_minutes", self.checkpoint_minutes, 0)
        limits.count("run.memory_bound", self.memory_bound, 1)
        limits.one_of("run.progress", self.progress, ("auto", "on", "off"))


@dataclass
class ScheduleConfig:
    """``schedule``: the learning rate over the iterations, as a factor of the optimiser's."""

    kind: str = "cosine"  # cosine | multistep | constant
    warmup_fraction: float = 0.05  # linear warm-up over this share of the iterations
    final_factor: float = 0.01  # cosine: the factor at the end
    milestones: list[float] = field(default_factory=lambda: [2 / 3, 8 / 9])  # multistep: shares of the iterations
    gamma: float = 0.1  # multistep: the factor at each milestone

    def check(self) -> None:
        """Raises ValueError for the first value out of range."""
        limits.one_of("schedule.kind", self.kind, ("cosine", "multistep", "constant"))
        warmup = self.warmup_fraction
        limits.require(0 <= warmup < 1, "schedule.warmup_fraction", warmup, "at least 0 and below 1")
        limits.between("schedule.final_factor", self.final_factor, 0, 1)
        shares = [0.0, *self.milestones, 1.0]
        rising = all(a < b for a, b in pairwise(shares))
        limits.require(rising, "schedule.milestones", self.milestones, "rising numbers above 0 and below 1")
        limits.above("schedule.gamma", self.gamma, 0, 1)


@dataclass
class TrackerConfig:
    """``tracker``: the Weights & Biases mirror of the run folder."""

    kind: str = "wandb"  # wandb | none
    mode: str = "offline"  # offline | online
    project: str = "harness"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    init_timeout: float = 10.0  # seconds until an unreachable host means offline
    images: int = 16  # validation images uploaded with their boxes

    def check(self) -> None:
        """Raises ValueError for the first value out of range."""
        limits.one_of("tracker.kind", self.kind, ("wandb", "none"))
        limits.one_of("tracker.mode", self.mode, ("offline", "online"))
        limits.above("tracker.init_timeout", self.init_timeout, 0)
        limits.count("tracker.images", self.images, 0)


@dataclass
class AnalysisConfig:
    """``analysis``: what is observed beside the training; never changes it."""

    telemetry: bool = True  # IoU, loss, size and level histograms of available and sampled candidates
    shadow: list[str] = field(default_factory=list)  # samplers (options of conf/sampler) whose choice is only recorded

    def check(self) -> None:
        """Nothing can be out of range: unknown samplers are refused where they are composed."""


@dataclass
class HarnessConfig:
    """The root. Nodes with a ``_target_`` (detector, assigner, sampler, ...) are checked by their constructors."""

    data: Any = MISSING
    detector: Any = MISSING
    assigner: Any = MISSING
    sampler: Any = MISSING
    loss: Any = MISSING
    optimizer: Any = MISSING
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evaluator: Any = MISSING
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    run: RunConfig = field(default_factory=RunConfig)
    area_ranges: Any = None  # small, medium, large: [lowest, highest] px^2 each; null: COCO's. Set by the data
    quota: Any = None
    matching: Any = None
    smooth_l1_beta: float = 1 / 9
    rpn: Any = None
    roi2: Any = None
    roi3: Any = None
    seed: int = 0
    name: str | None = None  # of the run folder; null: made of the choices
    mode: str = "train"  # train | check

    def check(self) -> None:
        """Raises ConfigError for the first value out of range."""
        try:
            limits.one_of("mode", self.mode, ("train", "check"))
            limits.between("seed", self.seed, 0, 2**32 - 1)
            plain = self.name is None or (self.name != "" and not set(self.name) & set("/\\"))
            limits.require(plain, "name", self.name, "null or the name of a folder, without slashes")
            for part in (self.run, self.schedule, self.tracker, self.analysis):
                part.check()
        except ValueError as error:
            raise ConfigError(str(error)) from None


def register() -> None:
    """Makes the schema known to Hydra under the name ``schema``."""
    ConfigStore.instance().store(name="schema", node=HarnessConfig)


def folder(name: str) -> Path:
    """``conf`` or ``sweeps``: beside the package in a checkout, inside it in an installed wheel.

    Raises:
        FileNotFoundError: neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"no folder {name!r} beside or inside {package}: the installation is incomplete")
