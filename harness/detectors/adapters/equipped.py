"""What every equipped detector carries: the criteria of its stages.

Criteria stand outside the module tree, so that ``state_dict``, ``parameters`` and ``named_modules`` stay torchvision's;
they still follow ``.to(...)`` and ``.train(...)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from harness.criterion.criterion import Criterion
from harness.detectors.adapters.loss_names import loss_name
from harness.losses.balance import TERMS


class Equipped(nn.Module):
    """Mixed into a detector's own class (:func:`~harness.detectors.adapters.mixing.mixed`).

    Attributes:
        criteria: stage -> criterion, outside the module tree.
    """

    criteria: dict[str, Criterion]

    def set_progress(self, share: float) -> None:
        """Tells the criteria which share of the training is done, in [0, 1]: called before every step.

        What is scheduled (TOOD's warm-up, YOLOX's L1 loss) is a function of this number only, so that a resumed
        training continues as if it had not stopped. A loop that never calls it trains as at the end, with 1.
        """
        for criterion in self.criteria.values():
            criterion.progress = share

    def set_accumulation(self, parts: int) -> None:
        """Tells the criteria that ``parts`` forward passes make one step, as their gradients are accumulated.

        ``balance=equal`` counts steps. A loop that never calls it takes every forward pass for a step.
        """
        for criterion in self.criteria.values():
            for balance in criterion.balances.values():
                balance.parts = parts

    def loss_name(self, stage: str, term: str) -> str:
        """The name under which the detector returns a ``term`` of a stage's criterion."""
        return loss_name(stage, term)

    def loss_factors(self) -> dict[str, dict[str, float]]:
        """Stage -> term -> the factor by which ``balance=equal`` scales it; empty without it. Waits for the device.

        The loss of a warm-up has factors of its own, as ``<stage>_warmup``.
        """
        found = {}
        for criterion in self.criteria.values():
            for name, balance in criterion.balances.items():
                found[name] = dict(zip(TERMS, balance.factors.tolist(), strict=True))
        return found

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
