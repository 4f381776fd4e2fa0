"""What an equipped detector is: the user's own class with an adapter mixed in, and criteria that are no part of it.

Criteria stand outside the module tree, so that ``state_dict``, ``parameters`` and ``named_modules`` stay torchvision's;
they still follow ``.to(...)`` and ``.train(...)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from harness.core.criterion import Criterion
from harness.core.structures import GroundTruth

M = TypeVar("M", bound=nn.Module)


class Equipped(nn.Module):
    """Mixed into a detector's own class: carries the criteria of its stages.

    Attributes:
        criteria: stage -> criterion, outside the module tree.
    """

    criteria: dict[str, Criterion]

    def train(self, mode: bool = True) -> Any:
        for criterion in self.criteria.values():
            criterion.train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        for criterion in self.criteria.values():
            criterion._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def criteria_state_dict(self) -> dict[str, dict[str, Tensor]]:
        """The state of losses that keep one (GHM, EQLv2, seesaw), by stage; ``state_dict()`` has none of it."""
        return {stage: criterion.state_dict() for stage, criterion in self.criteria.items()}

    def load_criteria_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restores what :meth:`criteria_state_dict` returned.

        Raises:
            ValueError: the stages are not this detector's.
            RuntimeError: a loss of a stage keeps another state (torch's own message).
        """
        if state.keys() != self.criteria.keys():
            found, own = ", ".join(sorted(state)), ", ".join(sorted(self.criteria))
            raise ValueError(f"the state is of the stages {found}, the detector has {own}")
        for stage, criterion in self.criteria.items():
            criterion.load_state_dict(state[stage])


def mixed(module: M, adapter: type[nn.Module], **attributes: Any) -> M:
    """A shallow copy of ``module`` whose class is ``adapter`` over the module's own class.

    The copy holds the same parameters, buffers and submodules, in dictionaries of its own: replacing one of its
    submodules leaves ``module`` as it was.

    Args:
        module: any module; its class may be a user's subclass, whose methods the adapter's ``super()`` reaches.
        adapter: a subclass of the torchvision class it adapts.
        attributes: set on the copy without registering modules among them.
    """
    own = type(module)
    cls = own if issubclass(own, adapter) else type(own.__name__, (adapter, own), {"__module__": own.__module__})
    twin: nn.Module = object.__new__(cls)
    for name, value in vars(module).items():
        twin.__dict__[name] = value.copy() if isinstance(value, dict | set) else value
    twin.__dict__.update(attributes)
    return cast(M, twin)


def replace_module(module: nn.Module, name: str, child: nn.Module) -> None:
    """Puts ``child`` in the place ``name`` of ``module``, keeping the order of the state dict's keys."""
    if name not in module._modules:
        raise KeyError(f"{type(module).__name__} has no submodule {name!r}")
    module._modules[name] = child


def ground_truth(targets: Sequence[Mapping[str, Tensor]], dtype: torch.dtype = torch.float32) -> GroundTruth:
    """The padded objects of a batch of torchvision targets.

    Args:
        targets: ``boxes (n, 4)`` float xyxy px, ``labels (n,)`` int64 from 1, and where known ``iscrowd (n,)``. Label 0
            is torchvision's background: such a box is a stored false positive, a hard negative and never an object.

    Returns:
        labels from 0, as the core counts them.
    """
    # -1 pads: one padded tensor then tells objects, background boxes and padding apart.
    labels = pad_sequence([target["labels"] for target in targets], batch_first=True, padding_value=-1)
    crowd = torch.zeros_like(labels, dtype=torch.bool)
    if any("iscrowd" in target for target in targets):
        flags = [t["iscrowd"].bool() if "iscrowd" in t else torch.zeros_like(t["labels"]).bool() for t in targets]
        crowd = pad_sequence(flags, batch_first=True)
    return GroundTruth(
        boxes=pad_sequence([target["boxes"].to(dtype) for target in targets], batch_first=True),
        labels=(labels - 1).clamp(min=0),  # never negative: pieces look up the columns of all labels
        valid=labels > 0,
        crowd=crowd,
        hard_negative=labels == 0,
    )
