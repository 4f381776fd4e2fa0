"""One experiment: its configuration, components and data, composed once and handed down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from harness.core.structures import MiningPlan
from harness.criterion.compatibility import IncompatibleError, refusals
from harness.data.class_counts import class_counts
from harness.data.image_samplers.presence import class_presence
from harness.data.records import DataError
from harness.data.sources import extra_targets_of, look_for
from harness.data.splits import Splits
from harness.detectors.equip import planned
from harness.detectors.facts import SKETCHED_CLASSES, extra_targets, num_keypoints, sketch
from harness.detectors.options import check_sizes, check_weights
from harness.experiment.own_code import code_of, weights_of
from harness.experiment.pieces import Pieces, build, build_pieces, optimizer_parts
from harness.experiment.settings import settled
from harness.experiment.targets import located, wrong_arguments
from harness.runs.identity import config_hash
from harness.runs.presets import OVERRIDE, PRESETS
from harness.runs.schema import ConfigError, HarnessConfig, RunConfig
from harness.tracking.environment import settled as tracker_settled
from harness.training.devices import check_device
from harness.training.mining import mining_plan
from harness.training.optimizer import make_optimizer
from harness.training.process_group import module_refusals, processes_of
from harness.training.streams import Streams


class RefusedError(ValueError):
    """An experiment that cannot be: one line per reason."""


@dataclass(frozen=True)
class Experiment:
    """Everything that a run is made from. :meth:`compose` has checked it; nothing below reads the configuration again.

    Args:
        settings: the typed part of the configuration.
        plain: the resolved configuration as plain containers: what ``config.yaml`` holds and the identity is made of.
        choices: group -> option.
        overrides: the run's part of the command line, for its name.
        sources: folders of the configuration search path, for processes that compose it again.
        pieces: the assigner, sampler and loss of every stage.
        mining: when the training set is mined; None where no sampler asks for it.
        evaluator: measures detections.
        nodes: the configuration, for what is built when the run starts: data, detector, optimizer.
    """

    settings: HarnessConfig
    plain: Mapping[str, Any]
    choices: Mapping[str, str]
    overrides: Sequence[str]
    sources: Sequence[str]
    pieces: Pieces
    mining: MiningPlan | None
    evaluator: Any
    nodes: DictConfig

    @classmethod
    def compose(
        cls, config: DictConfig, *, choices: Mapping[str, str], sources: Sequence[str], overrides: Sequence[str] = ()
    ) -> Experiment:
        """Checks everything that can be refused before data, weights or the device are touched.

        Args:
            config: a composed configuration (:class:`harness.runs.schema.HarnessConfig`).
            choices: group -> option.
            sources: folders of the configuration search path, where shadow samplers are looked up.
            overrides: the run's part of the command line, for its name.

        Raises:
            RefusedError: something that the user wrote cannot be; one line per reason.
        """
        try:
            settings, nodes = settled(config)
            if lines := list(wrong_arguments(nodes, typed_keys(overrides))):
                raise ConfigError("\n".join(lines))
            pieces = build_pieces(nodes, sources)
            mining = mining_plan(pieces.samplers)
            evaluator = build(nodes.evaluator, "evaluator")
            if nodes.data.get("augment") is not None:
                build(nodes.data.augment, "data.augment")
            _check_optimizer(nodes)
            check_device(settings.run.device)
            processes_of(settings.run)
            _check_detector(nodes, pieces, settings.run)
            tracker_settled(settings.tracker)
            settings.code = {**code_of(nodes), **weights_of(nodes)}
        except (ConfigError, IncompatibleError, ImportError) as error:
            raise RefusedError(str(error)) from error
        plain = {**OmegaConf.to_container(nodes, resolve=True), "code": settings.code}  # type: ignore[dict-item]
        return cls(settings, plain, choices, overrides, sources, pieces, mining, evaluator, nodes)

    @cached_property
    def splits(self) -> Splits:
        """The data, read when they are first asked for.

        Raises:
            ConfigError: the source refused a value.
            harness.data.records.DataError: the annotations or the images cannot be used.
            OSError: a file that is not there or cannot be read.
        """
        return self.with_targets(build(self.nodes.data, "data"))

    def look_for_data(self) -> None:
        """Asks the source whether its files are there, which reads no annotation and takes no time.

        Raises:
            ConfigError: they are not, in the words of :attr:`splits`.
            OSError: a folder that cannot be looked into.
        """
        options: dict[str, Any] = OmegaConf.to_container(self.nodes.data, resolve=True)  # type: ignore[assignment]
        try:
            look_for(located(options.pop("_target_"), "data"), options)
        except DataError as error:
            raise ConfigError(f"data: {error}") from error

    def with_targets(self, splits: Splits) -> Splits:
        """The data with the masks or keypoints that the detector trains on.

        Raises:
            harness.data.records.DataError: the data have none.
        """
        options = self._detector_options()
        model = sketch(options.pop("_target_"), len(splits.classes) + 1, **options)
        splits = splits.yielding(extra_targets(model), num_keypoints(model))
        self._check_on(splits, model)
        return splits

    def _check_on(self, splits: Splits, model: nn.Module) -> None:
        """Refuses pieces that cannot work with the classes and images of the data, before a run folder is begun.

        Args:
            splits: the data.
            model: the detector without memory, for the classes of the data.
        """
        pieces = self.pieces.copy()
        try:
            pieces.equip(
                model, Streams(self.settings.seed, torch.device("cpu")), class_counts=class_counts(splits.train)
            )
            if not pieces.image_sampler.needs_losses:
                pieces.image_sampler.weights(class_presence(splits.train))
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error)) from error

    def _detector_options(self) -> dict[str, Any]:
        options: dict[str, Any] = OmegaConf.to_container(self.nodes.detector, resolve=True)  # type: ignore[assignment]
        return options

    @property
    def loss_is_published(self) -> bool:
        """Whether the losses are those of a recipe, which nothing else that was chosen changes."""
        recipe = self._preset("recipe")
        if recipe is None or any(key.startswith("loss") for key in typed_keys(self.overrides)):
            return False
        own = _overridden(recipe)
        for other in (self._preset(group) for group in PRESETS if group != "recipe"):
            keys = () if other is None else (*other, *(_overridden(other).keys() - own.keys()))
            if any(key.startswith("loss") for key in keys):
                return False
        groups = ("loss/classification", "loss/regression")
        return all(own.get(group, option) == option for group in groups if (option := self.choices.get(group)))

    def _preset(self, group: str) -> dict[str, Any] | None:
        """The file of the option chosen in a group of presets; None where none is."""
        name = self.choices.get(group)
        files = [Path(source) / group / f"{name}.yaml" for source in self.sources]
        file = next((one for one in files if name and one.is_file()), None)
        loaded = None if file is None else OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        return {str(key): value for key, value in loaded.items()} if isinstance(loaded, dict) else None

    def hash_on(self, fingerprint: str) -> str:
        """Names what can change the result: configuration, own code and the data of that fingerprint."""
        return config_hash(self.plain, fingerprint)

    def detector(self, streams: Streams, classes: Sequence[str]) -> nn.Module:
        """The plain detector with fresh weights of ``streams``, for the foreground ``classes``.

        Raises:
            ConfigError: its builder refused a value.
        """
        torch.manual_seed(streams.weights)
        detector: nn.Module = build(self.nodes.detector, "detector", num_classes=len(classes) + 1)
        return detector

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of the trainable parameters of ``model``, in groups by their kind."""
        return make_optimizer(*optimizer_parts(self.nodes), model)


def _overridden(preset: Mapping[str, Any]) -> dict[str, str]:
    """Group -> option, as the defaults of a recipe or another preset choose them."""
    entries = [entry for entry in preset.get("defaults", ()) if isinstance(entry, dict)]
    chosen = {str(group): str(option) for entry in entries for group, option in entry.items()}
    return {key.removeprefix(OVERRIDE): option for key, option in chosen.items() if key.startswith(OVERRIDE)}


def typed_keys(overrides: Iterable[str]) -> set[str]:
    """The keys and groups that a command line sets."""
    return {text.lstrip("+~").partition("=")[0] for text in overrides}


def _check_optimizer(nodes: DictConfig) -> None:
    """torch refuses an optimizer's values when it gets parameters, which the run has late."""
    make, factors = optimizer_parts(nodes)
    if not isinstance(make, partial):
        raise ConfigError("optimizer: _partial_: true is missing; the harness passes the parameters")
    try:
        make_optimizer(make, factors, nn.Sequential(nn.Linear(1, 1), nn.GroupNorm(1, 1)))
    except (TypeError, ValueError) as error:
        texts = [f"optimizer.{key}={value!r}" for key, value in make.keywords.items() if isinstance(value, str)]
        said = f"{', '.join(texts)} is a text: is a number meant? ({error})" if texts else f"optimizer: {error}"
        raise ConfigError(said) from error


def _check_detector(nodes: DictConfig, pieces: Pieces, run: RunConfig) -> None:
    """Builds the detector without memory or weights, and asks whether the pieces and the data fit it."""
    options: dict[str, Any] = OmegaConf.to_container(nodes.detector, resolve=True)  # type: ignore[assignment]
    target = options.pop("_target_")
    try:
        check_weights(target.rpartition(".")[2], options)
        model = sketch(target, SKETCHED_CLASSES, **options)
        check_sizes(model)
    except ImportError:
        raise
    except Exception as error:  # a builder checks few of its values; a wrong one fails wherever it is first used
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, ValueError):
            raise ConfigError(f"detector.{reason.removeprefix('detector.')}") from error
        raise ConfigError(
            f"detector: {target} cannot be built with these values ({type(error).__name__}: {reason})"
        ) from error
    try:
        lines = refusals(*planned(model, pieces.root, pieces.stages))
    except ValueError as error:
        lines = [str(error)]
    absent = extra_targets(model) - extra_targets_of(located(nodes.data["_target_"], "data"))
    lines += [
        f"detector: {type(model).__name__} trains on {name}, and the data have none; choose a detector of boxes alone"
        for name in sorted(absent)
    ]
    lines += module_refusals(model, run)
    if lines:
        raise IncompatibleError("\n".join(lines))
