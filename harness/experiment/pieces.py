"""From the composed configuration to the pieces of every stage, or to one line that says why not."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn
from torch.optim import Optimizer

from harness.core.structures import ClassCounts, Sampler
from harness.criterion.stage import LossObserver, Observer, StageComponents, WarmUp
from harness.data.image_samplers import ImageSampler
from harness.detectors.equip import equip
from harness.experiment.settings import STAGES
from harness.experiment.targets import PARAMWISE
from harness.losses.interface import ClassificationLoss, RegressionLoss
from harness.runs.schema import ConfigError
from harness.training.optimizer import ParamwiseFactors
from harness.training.streams import Streams

M = TypeVar("M", bound=nn.Module)

KINDS = {  # what the flow asks of a component; CONTRIBUTING says what each is
    "assigner": ("needs", "__call__"),
    "sampler": ("needs", "add_gt_as_proposals", "__call__"),
    "loss": ("classification", "regression"),
}
NEEDED = "harness.testing says what a class of your own must have"


@dataclass(frozen=True)
class Pieces:
    """What the flow is made of."""

    root: StageComponents
    stages: dict[str, StageComponents]
    shadows: dict[str, Sampler]
    image_sampler: ImageSampler

    @property
    def samplers(self) -> list[Sampler | None]:
        """The sampler of every stage, the root's first; ``None`` is the head's own."""
        return [stage.sampler for stage in (self.root, *self.stages.values())]

    def copy(self) -> Pieces:
        """The same pieces with a state of their own."""
        return copy.deepcopy(self)

    def equip(
        self,
        detector: M,
        streams: Streams,
        *,
        observers: Sequence[Observer] = (),
        loss_observers: Sequence[LossObserver] = (),
        class_counts: ClassCounts | None = None,
    ) -> M:
        """The twin of ``detector`` that trains with these pieces, their noise out of ``streams``."""
        return equip(
            detector,
            self.root.assigner,
            self.root.sampler,
            self.root.loss,
            stages=self.stages,
            warmup=self.root.warmup,
            generator=streams.sampling,
            shadows=self.shadows,
            shadow_generator=streams.shadow,
            observers=observers,
            loss_observers=loss_observers,
            class_counts=class_counts,
        )


def build_pieces(config: DictConfig, sources: Sequence[str]) -> Pieces:
    """Instantiates the components of every stage and the shadow samplers.

    Args:
        config: the composed configuration.
        sources: folders of the configuration search path, where the shadows' YAML files are.

    Raises:
        ConfigError: a constructor refused a value; the line names the key.
    """
    stages = {name: _components(_stage(config, name), name) for name in STAGES if config.get(name) is not None}
    images: ImageSampler = build(config.image_sampler, "image_sampler")
    return Pieces(_components(config), stages, _shadows(config, sources), images)


def build(node: DictConfig, key: str, **arguments: Any) -> Any:
    """Instantiates one node, which the user knows as ``key``, and those inside it.

    Raises:
        ConfigError: a constructor refused a value; the line begins with the full key of that value, or of the node
            where the constructor names none.
        OSError: a file that is there and cannot be read or written.
    """
    try:
        return instantiate(node, **arguments)
    except InstantiationException as error:
        refused = key + _key_of_failure(error).removeprefix(node._get_full_key(None))
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError | NotADirectoryError):
            raise cause from None  # the disk's or the network's doing, not the configuration's
        if isinstance(cause, ValueError | RuntimeError | OSError):
            raise ConfigError(_with_key(refused, str(cause))) from cause
        said = str(error).splitlines()[0]
        if cause is not None:
            said = f"{said} {type(cause).__name__}: {(str(cause).splitlines() or [''])[0]}"
        raise ConfigError(_with_key(refused, said)) from error


def optimizer_parts(config: DictConfig) -> tuple[Callable[..., Optimizer], ParamwiseFactors]:
    """The optimizer without its parameters, and the factors by kind of parameter, which are not its arguments.

    Args:
        config: the composed configuration.

    Raises:
        ConfigError: a factor out of range.
    """
    own = copy.deepcopy(config)  # whole: the values of the optimizer refer to other nodes
    try:
        with open_dict(own):
            factors = ParamwiseFactors(**{key: own.optimizer.pop(key) for key in PARAMWISE if key in own.optimizer})
    except ValueError as error:
        raise ConfigError(f"optimizer.{error}") from error
    return build(own.optimizer, "optimizer"), factors


def _key_of_failure(error: InstantiationException) -> str:
    """Where in the whole configuration the node stands that failed: Hydra says it in a line of its own."""
    found = re.search(r"^full_key: (.+)$", str(error), re.MULTILINE)
    return found[1] if found else ""


def _with_key(key: str, message: str) -> str:
    """``sampler`` and ``num=0 must be ...`` make ``sampler.num=0 must be ...``."""
    if message.startswith(f"{key}."):
        return message
    return f"{key}.{message}" if re.match(r"\w+=", message) else f"{key}: {message}"


def _stage(config: DictConfig, name: str) -> DictConfig:
    """The node of a stage. Without a sampler of its own (in a cascade) it has the root's, with the stage's quota."""
    if config[name].sampler is not None:
        return config[name]
    own = copy.deepcopy(config)
    OmegaConf.set_struct(own, False)
    own[name].sampler = OmegaConf.to_container(config.sampler, resolve=False)  # its ``${..quota.num}`` is the stage's
    return own[name]


def _components(node: DictConfig, stage: str = "") -> StageComponents:
    prefix = f"{stage}." if stage else ""
    built = {name: build(node[name], f"{prefix}{name}") for name in KINDS}
    for name, component in built.items():
        if absent := [part for part in KINDS[name] if not hasattr(component, part)]:
            raise ConfigError(f"{prefix}{name}: {type(component).__name__} has no {' and no '.join(absent)}; {NEEDED}")
        if name == "assigner" and (other := _other_kind(component)):
            raise ConfigError(f"{prefix}{name}: {type(component).__name__} is a {other}, no assigner; {NEEDED}")
    return StageComponents(**built, warmup=_warmup(node.get("warmup")))


def _other_kind(component: object) -> str | None:
    """What a component is that has all that an assigner has, and is none."""
    if isinstance(component, ClassificationLoss | RegressionLoss):
        return "loss"
    return "sampler" if isinstance(component, Sampler) else None


def _warmup(node: DictConfig | None) -> WarmUp | None:
    """The pieces of the first part of the training.

    Raises:
        ConfigError: a value out of range.
    """
    if node is None:
        return None
    pieces = {name: build(node[name], f"warmup.{name}") for name in ("assigner", "loss") if node.get(name) is not None}
    try:
        return WarmUp(node.share, **pieces)
    except ValueError as error:
        raise ConfigError(f"warmup.{error}") from None


def _shadows(config: DictConfig, sources: Sequence[str]) -> dict[str, Sampler]:
    """The samplers of ``analysis.shadow``, with the quota of the root stage as if they had been chosen for it."""
    shadows = {}
    for name in config.analysis.shadow:
        stage = copy.deepcopy(config)
        OmegaConf.set_struct(stage, False)
        stage.sampler = OmegaConf.load(_sampler_file(name, sources))
        shadows[name] = build(stage.sampler, f"analysis.shadow[{name}]")
    return shadows


def _sampler_file(name: str, sources: Sequence[str]) -> Path:
    folders = [Path(source) / "sampler" for source in sources]
    for folder in folders:
        if (file := folder / f"{name}.yaml").is_file():
            return file
    known = sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob("*.yaml")})
    raise ConfigError(f"analysis.shadow: there is no sampler {name!r}; choose from {', '.join(known)}")
