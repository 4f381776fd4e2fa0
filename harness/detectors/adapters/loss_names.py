"""torchvision's names of the losses of a two-stage detector, and further ones after their pattern."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

TERMS = ("classification", "regression")


def named_losses(
    losses: Mapping[str, Tensor], classification: str, regression: str, prefix: str = "loss_", suffix: str = ""
) -> dict[str, Tensor]:
    """All losses of a stage by the names that the detector returns.

    Args:
        losses: of the stage's criterion: ``classification``, ``regression``, and the further terms of a recipe.
        classification: torchvision's name of the class term.
        regression: torchvision's name of the box term.
        prefix: of the name of a further term.
        suffix: of the same.
    """
    further = {f"{prefix}{name}{suffix}": value for name, value in losses.items() if name not in TERMS}
    return {classification: losses["classification"], regression: losses["regression"], **further}
