"""The typed part of the configuration: every key with its role, its default and its check. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from harness.core import limits
from harness.runs.locations import folder as folder
from harness.runs.roles import Role, key


class ConfigError(ValueError):
    """A value that cannot work: one line with the key, the reason and what would be valid."""


@dataclass
class RunConfig:
    """``run``: how a training runs, whatever it trains."""

    root: str = key(Role.BOOKKEEPING, "results")  # run folders go to <root>/runs
    iterations: int = key(Role.LENGTH, 1500)  # optimizer steps, where epochs is null
    epochs: float | None = key(Role.LENGTH, None)  # passes over the training images, in place of iterations
    batch_size: int = key(Role.TRAINING, 4)  # images of an optimizer step
    accumulate: int = key(Role.TRAINING, 1)  # parts of a batch that are computed one after another, to save memory
    device: str = key(Role.CONDITION, "auto")  # auto | cpu | cuda | cuda:N | mps
    devices: int = key(Role.SPEED, 1)  # processes that train together, one a device; each takes its share of a batch
    jobs_per_device: int = key(Role.SPEED, 1)  # runs that share a CUDA device; one more waits for its end or for memory
    precision: str = key(Role.TRAINING, "fp32")  # fp32 | bf16
    threads: int | None = key(Role.CONDITION, None)  # null: $OMP_NUM_THREADS, else one a core; others give other bits
    channels_last: bool = key(Role.TRAINING, True)
    compile: bool = key(Role.CONDITION, False, added=True)  # torch.compile of backbone and heads; other bits
    clip_norm: float | None = key(Role.TRAINING, 10.0)  # gradient norm, null: none
    ema_decay: float | None = key(Role.TRAINING, None)  # evaluate an exponential moving average of the weights
    eval_every: int | None = key(Role.CONDITION, None)  # iterations between evaluations; null: at the end only
    select: str = key(Role.EVALUATION, "last")  # the weights of the result: last | best of all evaluations (optimistic)
    num_workers: int = key(Role.SPEED, 0)  # data loading processes
    loading_timeout: float = key(Role.SPEED, 300.0)  # seconds after which loading processes without a batch are stuck
    log_every: int = key(Role.BOOKKEEPING, 50)  # iterations between logged steps
    checkpoint_minutes: float = key(Role.BOOKKEEPING, 2.0)  # a kill loses at most this much
    checkpoint_iterations: int | None = key(Role.BOOKKEEPING, None)
    keep: str = key(Role.BOOKKEEPING, "weights")  # of a finished run: weights (model.pt) | all (checkpoint.pt as well)
    rehearse: bool = key(Role.BOOKKEEPING, True)  # evaluate one batch before training: faults there show early
    memory_bound: int = key(Role.SPEED, 2**30, everywhere=True)  # bytes of an assigner's pairwise work at once
    again: bool = key(Role.BOOKKEEPING, False)  # train anew what is done, in a folder beside it
    progress: str = key(Role.BOOKKEEPING, "auto")  # auto: a bar on a terminal, silence elsewhere | on | off

    def check(self) -> None:
        """Raises ValueError for the first value out of range."""
        for name in ("iterations", "batch_size", "accumulate", "devices", "jobs_per_device", "log_every"):
            limits.count(f"run.{name}", getattr(self, name), 1)
        for name in ("threads", "eval_every", "checkpoint_iterations"):
            limits.optional(limits.count, f"run.{name}", getattr(self, name), 1)
        limits.optional(limits.above, "run.epochs", self.epochs, 0)
        whole = self.batch_size % self.accumulate == 0
        limits.require(whole, "run.accumulate", self.accumulate, f"a divisor of run.batch_size={self.batch_size}")
        limits.one_of("run.select", self.select, ("last", "best"))
        limits.one_of("run.keep", self.keep, ("weights", "all"))
        limits.above("run.loading_timeout", self.loading_timeout, 0)
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

    def for_images(self, count: int) -> RunConfig:
        """The same with ``iterations`` that make ``epochs`` passes over ``count`` training images, rounded up."""
        if self.epochs is None:
            return self
        return replace(self, iterations=max(1, math.ceil(self.epochs * count / self.batch_size - 1e-9)))


@dataclass
class ScheduleConfig:
    """``schedule``: the learning rate over the iterations, as a factor of the optimizer's."""

    kind: str = key(Role.TRAINING, "cosine")  # cosine | multistep | constant
    warmup_fraction: float = key(Role.TRAINING, 0.05)  # warm-up over this share of the iterations
    final_factor: float = key(Role.TRAINING, 0.01)  # cosine: the factor at the end
    milestones: list[float] = key(Role.TRAINING, factory=lambda: [2 / 3, 8 / 9])  # multistep: shares of all iterations
    gamma: float = key(Role.TRAINING, 0.1)  # multistep: the factor at each milestone
    warmup_power: float = key(Role.TRAINING, 1.0, added=True)  # 1: linear warm-up, 2: quadratic
    final_fraction: float = key(Role.TRAINING, 0.0, added=True)  # cosine: the share of the iterations at final_factor

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
        limits.above("schedule.warmup_power", self.warmup_power, 0)
        final, most = self.final_fraction, 1 - warmup
        limits.require(0 <= final < most, "schedule.final_fraction", final, f"at least 0 and below {most:g}")


@dataclass
class TrackerConfig:
    """``tracker``: the Weights & Biases mirror of the run folder."""

    kind: str = key(Role.BOOKKEEPING, "wandb")  # wandb | none
    mode: str | None = key(Role.BOOKKEEPING, None)  # offline | online; null: $WANDB_MODE, else offline
    project: str | None = key(Role.BOOKKEEPING, None)  # null: $WANDB_PROJECT, else harness
    entity: str | None = key(Role.BOOKKEEPING, None)  # null: $WANDB_ENTITY, else the key's own
    group: str | None = key(Role.BOOKKEEPING, None)  # null: $WANDB_RUN_GROUP, else what differs in the seed alone
    tags: list[str] = key(Role.BOOKKEEPING, factory=list)  # none: $WANDB_TAGS; detector, sampler and data join them
    job_type: str | None = key(Role.BOOKKEEPING, None)  # null: $WANDB_JOB_TYPE, else train
    run_name: str | None = key(Role.BOOKKEEPING, None)  # null: $WANDB_NAME, else the run folder's
    dir: str | None = key(Role.BOOKKEEPING, None)  # of W&B's files; null: $WANDB_DIR, else the run folder
    init_timeout: float | None = key(Role.BOOKKEEPING, None)  # seconds until a host is unreachable; null: 10
    images: int = key(Role.BOOKKEEPING, 16)  # validation images uploaded with their boxes

    def check(self) -> None:
        """Raises ValueError for the first value out of range."""
        limits.one_of("tracker.kind", self.kind, ("wandb", "none"))
        limits.optional(limits.one_of, "tracker.mode", self.mode, ("offline", "online", "disabled"))
        limits.optional(limits.above, "tracker.init_timeout", self.init_timeout, 0)
        limits.count("tracker.images", self.images, 0)


@dataclass
class AnalysisConfig:
    """``analysis``: what is observed beside the training; never changes it."""

    telemetry: bool = key(Role.CONDITION, True)  # histograms of IoU, loss, size and level of the candidates
    shadow: list[str] = key(Role.CONDITION, factory=list)  # options of conf/sampler whose choice is only recorded
    guard_images: int = key(
        Role.CONDITION, 64
    )  # training images that the guard looks at before the first step; 0: none

    def check(self) -> None:
        """Raises ValueError for the first value out of range; unknown samplers are refused where they are composed."""
        limits.count("analysis.guard_images", self.guard_images, 0)


@dataclass
class QuotaConfig:
    """``quota``: how many candidates the samplers of a stage take by default; their YAML files refer to it."""

    num: int = key(Role.SHARED, 512)  # of an image
    pos_fraction: float = key(Role.SHARED, 0.25)  # at most this share of them positive


@dataclass
class MatchingConfig:
    """``matching``: the IoU thresholds of a stage's assigner by default."""

    pos_iou_thr: float = key(Role.SHARED, 0.5)
    neg_iou_thr: Any = key(Role.SHARED, 0.5)  # a number, or a pair [low, high)
    min_pos_iou: float = key(Role.SHARED, 0.5)
    match_low_quality: bool = key(Role.SHARED, False)


@dataclass
class StageConfig:
    """``rpn``, ``roi2``, ``roi3``: a stage with an assigner, a sampler and a loss of its own."""

    assigner: Any = key(Role.METHOD, MISSING)
    sampler: Any = key(Role.METHOD, None)  # null: the root's sampler, with the quota of the stage
    loss: Any = key(Role.METHOD, MISSING)
    quota: QuotaConfig = key(Role.SHARED, factory=QuotaConfig)
    matching: MatchingConfig = key(Role.SHARED, factory=MatchingConfig)
    smooth_l1_beta: float = key(Role.SHARED, 1 / 9)


@dataclass
class WarmUpConfig:
    """``warmup``: other pieces of the root stage for the first part of the training."""

    share: float = key(Role.METHOD, MISSING)  # of the training, above 0 and at most 1
    assigner: Any = key(Role.METHOD, None)  # null: the stage's own
    loss: Any = key(Role.METHOD, None)  # null: the stage's own


# What a recipe changes in a detector belongs to the method: two recipes may be compared.
_HEADS = dict.fromkeys(("regression", "reg_max", "quality_branch", "refinement", "score_voting"), Role.METHOD)
_PLACES = {"root": Role.BOOKKEEPING, "cache_dir": Role.BOOKKEEPING, "cache_bytes": Role.SPEED, "augment": Role.METHOD}
_OPTIMIZER_ADDED = {"fused": None, "norm_decay_mult": 1.0, "bias_decay_mult": 1.0, "bias_lr_mult": 1.0}
_SHOWN = dict.fromkeys(("backend", "tide", "calibration", "pr_curves"), Role.CONDITION)  # more numbers or the same


@dataclass
class HarnessConfig:
    """The root. Nodes with a ``_target_`` (detector, assigner, sampler, ...) are checked by their constructors."""

    data: Any = key(Role.DATA, MISSING, inside=_PLACES, added_inside={"augment.off_last_share": 0.0})
    detector: Any = key(Role.DETECTOR, MISSING, inside=_HEADS)
    assigner: Any = key(Role.METHOD, MISSING)
    sampler: Any = key(Role.METHOD, MISSING)
    loss: Any = key(Role.METHOD, MISSING)
    image_sampler: Any = key(Role.METHOD, MISSING)
    optimizer: Any = key(Role.TRAINING, MISSING, inside={"fused": Role.CONDITION}, added_inside=_OPTIMIZER_ADDED)
    schedule: ScheduleConfig = key(Role.TRAINING, factory=ScheduleConfig)
    evaluator: Any = key(Role.EVALUATION, MISSING, inside=_SHOWN)
    tracker: TrackerConfig = key(Role.BOOKKEEPING, factory=TrackerConfig)
    analysis: AnalysisConfig = key(Role.CONDITION, factory=AnalysisConfig)
    run: RunConfig = key(Role.CONDITION, factory=RunConfig)
    area_ranges: dict[str, list[Any]] | None = key(Role.SHARED, None)  # px^2 of small, medium, large; null: COCO's
    quota: QuotaConfig = key(Role.SHARED, factory=QuotaConfig)
    matching: MatchingConfig = key(Role.SHARED, factory=MatchingConfig)
    smooth_l1_beta: float = key(Role.SHARED, 1 / 9)
    point_scale: float = key(Role.SHARED, 8.0)  # side of the square that stands for a point in an assigner, strides
    regress_ranges: list[list[float]] | None = key(Role.SHARED, None)  # px of each level; null: FCOS's own
    rpn: StageConfig | None = key(Role.METHOD, None)
    roi2: StageConfig | None = key(Role.METHOD, None)
    roi3: StageConfig | None = key(Role.METHOD, None)
    warmup: WarmUpConfig | None = key(Role.METHOD, None)  # other pieces for the first part of the training
    recipe_fits: list[str] | None = key(Role.METHOD, None)  # options of conf/detector; null: any. Set by the recipe
    seed: int = key(Role.SEED, 0)
    code: dict[str, str] = key(Role.METHOD, factory=dict)  # hashes of own classes and weights, set by the run
    name: str | None = key(Role.BOOKKEEPING, None)  # of the run folder; null: made of the choices
    mode: str = key(Role.BOOKKEEPING, "train")  # train | check

    def check(self) -> None:
        """Raises ConfigError for the first value out of range."""
        try:
            limits.one_of("mode", self.mode, ("train", "check"))
            limits.between("seed", self.seed, 0, 2**32 - 1)
            begins = self.name is None or self.name[:1] not in ("", ".")
            plain = self.name is None or (self.name.isprintable() and not set(self.name) & set("/\\"))
            valid = "null or the name of a folder on one line, without slashes or a leading dot"
            limits.require(begins and plain, "name", self.name, valid)
            for part in (self.run, self.schedule, self.tracker, self.analysis):
                part.check()
        except ValueError as error:
            raise ConfigError(str(error)) from None


def for_batch(rate: float, images: int, *, _root_: DictConfig) -> float:
    """``${for_batch:0.02,16}``: a learning rate published for so many ``images`` a step, at ``run.batch_size``.

    It grows in proportion to the batch: the linear rule of Goyal et al. 2017, section 2.1.
    """
    return float(rate) * int(_root_.run.batch_size) / int(images)


# On import, as a configuration that reaches another process is resolved there.
OmegaConf.register_new_resolver("for_batch", for_batch, replace=True)


def register() -> None:
    """Makes the schema known to Hydra under the name ``schema``."""
    ConfigStore.instance().store(name="schema", node=HarnessConfig)
