"""``equip``: the chosen assigner, sampler and loss inside a torchvision detector, in anybody's training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import nn

from harness.core.structures import Assigner, ClassCounts, Sampler
from harness.criterion.compatibility import IncompatibleError, refusals
from harness.criterion.criterion import Criterion
from harness.criterion.heads import HeadSpec
from harness.criterion.stage import LossObserver, Observer, StageComponents, WarmUp
from harness.detectors.adapters import cascade, dense_detector, fcos, rcnn, retinanet, ssd, yolox
from harness.losses.pair import Loss

M = TypeVar("M", bound=nn.Module)


class Family(Protocol):
    """What a module of ``harness.detectors`` offers for the detectors of one torchvision class."""

    HOST: type[nn.Module]  # the class it adapts
    ROOT: str  # the stage that the root components belong to

    def heads(self, model: Any) -> dict[str, HeadSpec]:
        """The facts of the stages' heads."""

    def default_components(self, model: Any) -> dict[str, StageComponents]:
        """The components whose losses are the host's own."""

    def head_under(self, head: HeadSpec, loss: Loss) -> HeadSpec:
        """The head as it is read under ``loss``: another activation, where the family's inference follows it."""

    def adapt(self, model: Any, criteria: Mapping[str, Criterion]) -> Any:
        """The equipped twin of ``model``."""


FAMILIES: tuple[Family, ...] = tuple(
    cast(Family, module) for module in (cascade, rcnn, retinanet, fcos, ssd, yolox, dense_detector)
)  # subclasses before their bases


def family_of(model: nn.Module) -> Family:
    """The family of a built detector.

    Raises:
        TypeError: not a detector that the harness knows.
    """
    for family in FAMILIES:
        if isinstance(model, family.HOST):
            return family
    hosts = ", ".join(family.HOST.__name__ for family in FAMILIES)
    raise TypeError(f"cannot equip a {type(model).__name__}: it is none of {hosts} or a subclass of them")


def equip(
    model: M,
    assigner: Assigner | None = None,
    sampler: Sampler | None = None,
    loss: Loss | None = None,
    *,
    stages: Mapping[str, StageComponents] | None = None,
    warmup: WarmUp | None = None,
    generator: torch.Generator | None = None,
    shadows: Mapping[str, Sampler] | None = None,
    shadow_generator: torch.Generator | None = None,
    observers: Sequence[Observer] = (),
    loss_observers: Sequence[LossObserver] = (),
    class_counts: ClassCounts | None = None,
) -> M:
    """A twin of ``model`` that trains with the given pieces; what is not given stays the detector's own.

    The twin has the same parameters (the same tensors, in the same submodules), the same ``state_dict`` keys and in
    evaluation mode the same output to the bit, but that under autocast its boxes stay in float32. ``model`` keeps its
    class, its matcher and its sampler, but the two share their parameters: training the twin trains ``model``. In
    training mode it is called as torchvision's detectors are, ``model(images, targets) -> dict of losses``, with
    torchvision's names of the losses.

    Args:
        model: a built torchvision detector, or an object of a subclass.
        assigner: of the root stage: the RoI head (``roi``) of a two-stage detector, else the dense head (``dense``).
        sampler: of the root stage.
        loss: of the root stage.
        stages: the components of the other stages: ``rpn`` of a two-stage detector, ``roi2`` and ``roi3`` of a cascade.
        warmup: other pieces of the root stage for the first part of the training, of which the loop tells by
            ``model.set_progress(share)`` before every step; a loop that does not trains without warm-up.
        generator: the stream of the samplers' noise; ``None`` uses torch's global one.
        shadows: samplers, by name, that choose on the root stage's candidates beside the real one and never train.
        shadow_generator: their stream.
        observers: called with (stage, selection) for every selection of every stage.
        loss_observers: called with (stage, selection, losses of its slots), once these are known.
        class_counts: how often each foreground class occurs in the training set; losses for long-tailed data need it.

    Raises:
        TypeError: not a detector that the harness knows, or an argument that is no assigner, sampler or loss object.
        ValueError: a stage that the detector does not have.
        IncompatibleError: pieces that cannot work in their stage, one line each; or a user's subclass whose methods
            would keep them from being used.
    """
    _check_arguments(assigner, sampler, loss, stages or {}, shadows or {})
    family = family_of(model)
    heads, components = planned(model, StageComponents(assigner, sampler, loss, warmup), stages or {})
    if lines := refusals(heads, components):
        raise IncompatibleError("\n".join(lines))
    criteria = {
        stage: Criterion(
            head,
            cast(Assigner, components[stage].assigner),
            cast(Sampler, components[stage].sampler),
            cast(Loss, components[stage].loss),
            warmup=components[stage].warmup,
            baseline=_baseline(cast(Loss, components[stage].loss), family.default_components(model)[stage]),
            generator=generator,
            shadows=shadows if stage == family.ROOT else None,
            shadow_generator=shadow_generator,
            observers=observers,
            loss_observers=loss_observers,
        )
        for stage, head in heads.items()
    }
    twin = family.adapt(model, criteria)
    for criterion in criteria.values():
        criterion.train(model.training)
        criterion.to(next(model.parameters()).device)
        if class_counts is not None:
            criterion.set_class_counts(class_counts)
    return cast(M, twin)


def _check_arguments(
    assigner: object,
    sampler: object,
    loss: object,
    stages: Mapping[str, StageComponents],
    shadows: Mapping[str, object],
) -> None:
    """Refuses a name, a class or an object of another kind where an assigner, a sampler or a loss is meant."""
    _check_kind("assigner", assigner, Assigner, "harness.assigners.ATSSAssigner()")
    _check_kind("sampler", sampler, Sampler, "harness.samplers.OHEMSampler(num=256, pos_fraction=0.25)")
    _check_kind("loss", loss, Loss, "harness.Loss(classification, regression)")
    for name, shadow in shadows.items():
        _check_kind(f"shadows[{name!r}]", shadow, Sampler, "harness.samplers.RandomSampler(num=256, pos_fraction=0.25)")
    for stage, components in stages.items():
        if not isinstance(components, StageComponents):
            raise TypeError(
                f"stages[{stage!r}] must be a harness.StageComponents(assigner=..., sampler=..., loss=...), "
                f"got {_described(components)}"
            )
        _check_arguments(components.assigner, components.sampler, components.loss, {}, {})


def _check_kind(name: str, value: object, kind: type, example: str) -> None:
    wrong = isinstance(value, type) or not isinstance(value, kind)
    if kind is Assigner:
        wrong = wrong or isinstance(value, Sampler)  # a sampler has what the protocol of an assigner asks for
    if value is not None and wrong:
        raise TypeError(f"{name} must be an object such as {example}, got {_described(value)}")


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}: call it to make an object"
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"


def planned(
    model: nn.Module, root: StageComponents, stages: Mapping[str, StageComponents]
) -> tuple[dict[str, HeadSpec], dict[str, StageComponents]]:
    """What :func:`equip` would train: the heads' facts, as the losses read them, and complete components, by stage.

    Raises:
        TypeError: not a detector that the harness knows.
        ValueError: a stage that the detector does not have.
    """
    family = family_of(model)
    components = family.default_components(model)
    for stage, chosen in ((family.ROOT, root), *stages.items()):
        if stage not in components:
            raise ValueError(f"{type(model).__name__} has no stage {stage!r}; its stages are {', '.join(components)}")
        components[stage] = _over(chosen, components[stage])
    heads = {
        stage: family.head_under(head, cast(Loss, components[stage].loss))
        for stage, head in family.heads(model).items()
    }
    return heads, components


def _baseline(loss: Loss, default: StageComponents) -> Loss | None:
    """The detector's own loss, where ``loss`` is to be brought to its size."""
    return default.loss if loss.balance == "equal" else None


def _over(chosen: StageComponents, default: StageComponents) -> StageComponents:
    return StageComponents(
        warmup=chosen.warmup,
        assigner=default.assigner if chosen.assigner is None else chosen.assigner,
        sampler=default.sampler if chosen.sampler is None else chosen.sampler,
        loss=default.loss if chosen.loss is None else chosen.loss,
    )
