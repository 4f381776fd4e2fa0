"""The optimizer of a detector, with weight decay and learning rate by the kind of parameter, and its groups' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from harness.core import limits
from harness.training.checkpoint import CheckpointError

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)  # batch and instance norms are of the first kind


@dataclass(frozen=True)
class ParamwiseFactors:
    """Factors of the optimizer's weight decay and learning rate, called as in MMEngine's ``paramwise_cfg``.

    Args:
        norm_decay_mult: of the decay of weights and biases of norms: batch, instance, group, layer and RMS norm and
            their subclasses; 0: no decay.
        bias_decay_mult: of the decay of all other biases.
        bias_lr_mult: of the rate of these biases; 2 in Caffe's and Detectron's trainings.

    Raises:
        ValueError: a decay factor that is negative, or a rate factor that is not above 0.
    """

    norm_decay_mult: float = 1.0
    bias_decay_mult: float = 1.0
    bias_lr_mult: float = 1.0

    def __post_init__(self) -> None:
        limits.at_least("norm_decay_mult", self.norm_decay_mult, 0)
        limits.at_least("bias_decay_mult", self.bias_decay_mult, 0)
        limits.above("bias_lr_mult", self.bias_lr_mult, 0)

    def of(self, module: nn.Module, name: str) -> tuple[float, float]:
        """The factors (rate, decay) of the parameter ``name`` of ``module``."""
        if isinstance(module, NORMS):
            return 1.0, self.norm_decay_mult
        if name == "bias" or name.endswith("_bias"):
            return self.bias_lr_mult, self.bias_decay_mult
        return 1.0, 1.0


def make_optimizer(make: Callable[..., Optimizer], factors: ParamwiseFactors, model: nn.Module) -> Optimizer:
    """The optimizer of the trainable parameters of ``model``, each of them in one group.

    Parameters with the same factors share a group, those without any come first. Where no factor differs from 1,
    ``make`` gets the parameters themselves, so that an optimizer that takes a single group can be used.

    Args:
        make: takes a list of parameters, or of groups ``{"params": [...]}``, as the classes of ``torch.optim`` do.
        factors: of norms and biases.
        model: the detector; a parameter that several modules share is of the kind that the first of them makes it.

    Raises:
        ValueError: the optimizer has no weight decay to multiply, or makes other groups than it was given.
    """
    if factors == ParamwiseFactors():
        return make([parameter for parameter in model.parameters() if parameter.requires_grad])
    groups = {one: group for one, group in _grouped(model, factors).items() if group}
    optimizer = make([{"params": group} for group in groups.values()])
    made = [[id(parameter) for parameter in group["params"]] for group in optimizer.param_groups]
    if made != [[id(parameter) for parameter in group] for group in groups.values()]:
        raise ValueError(
            f"{type(optimizer).__name__} does not keep the parameter groups that it is given, so that "
            f"{', '.join(vars(factors))} cannot differ from 1"
        )
    for (rate, decay), group in zip(groups, optimizer.param_groups, strict=True):
        if decay != 1:
            if group.get("weight_decay") is None:
                raise ValueError(
                    f"{type(optimizer).__name__} has no weight_decay, so that norm_decay_mult and bias_decay_mult "
                    "cannot differ from 1"
                )
            group["weight_decay"] = group["weight_decay"] * decay
        if rate != 1:
            group["lr"] = group["lr"] * rate
    return optimizer


def _grouped(model: nn.Module, factors: ParamwiseFactors) -> dict[tuple[float, float], list[nn.Parameter]]:
    """(rate, decay) -> the trainable parameters with these factors, in the order of ``model.parameters()``."""
    found: dict[int, tuple[float, float]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            found.setdefault(id(parameter), factors.of(module, name))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, 1.0): []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault(found[id(parameter)], []).append(parameter)
    return groups


def group_names(model: nn.Module, optimizer: Optimizer) -> list[list[str]]:
    """The names of the parameters of every group; empty for a parameter that is not the model's."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[names.get(id(parameter), "") for parameter in group["params"]] for group in optimizer.param_groups]


def require_same_groups(model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Refuses the optimizer of a checkpoint whose groups are not those of ``optimizer``.

    torch compares numbers only, and would give one parameter the momentum of another, or its old decay.

    Args:
        model: whose parameters ``optimizer`` trains.
        optimizer: as it was made, with its schedule.
        state: of the training. Those of earlier versions have no names; their only group holds all parameters in order.

    Raises:
        CheckpointError: other parameters in a group, or another decay or base rate of a group.
    """
    names, saved = group_names(model, optimizer), state["optimizer"]["param_groups"]
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    known = state.get("optimizer_groups") or ([trained] if len(saved) == 1 else None)
    same = len(saved) == len(names) and (known is None or known == names)
    for ours, theirs in zip(optimizer.param_groups, saved, strict=False):
        same &= len(ours["params"]) == len(theirs["params"])
        same &= all(ours.get(key) == theirs.get(key) for key in ("weight_decay", "initial_lr"))
    if not same:
        raise CheckpointError(
            "the checkpoint is of a training whose optimizer had other parameter groups, decays or rates "
            f"({_described(saved)}) than this one ({_described(optimizer.param_groups)}); remove it to start afresh"
        )


def _described(groups: list[dict[str, Any]]) -> str:
    return "; ".join(
        f"{len(group['params'])} parameters with weight_decay={group.get('weight_decay')}, lr={group.get('initial_lr')}"
        for group in groups
    )
