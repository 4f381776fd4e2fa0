"""torchvision's names of the losses of a two-stage detector, and further ones after their pattern."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

# stage -> the prefix of its names, and torchvision's own for the class term and the box term
_NAMES = {
    "rpn": ("loss_rpn_", {"classification": "loss_objectness", "regression": "loss_rpn_box_reg"}),
    "roi": ("loss_", {"classification": "loss_classifier", "regression": "loss_box_reg"}),
}


def loss_name(stage: str, term: str) -> str:
    """The name under which a two-stage detector returns one of its losses.

    >>> loss_name("roi", "classification"), loss_name("roi2", "classification"), loss_name("rpn", "carl")
    ('loss_classifier', 'loss_classifier_roi2', 'loss_rpn_carl')

    Args:
        stage: ``rpn``, ``roi``, or a later one of a cascade: ``roi2``, ``roi3``.
        term: as the stage's criterion names it: ``classification``, ``regression``, or a further one of a recipe.
    """
    root, suffix = (stage, "") if stage in _NAMES else ("roi", f"_{stage}")
    prefix, own = _NAMES[root]
    return f"{own.get(term, prefix + term)}{suffix}"


def named_losses(stage: str, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All losses of a stage's criterion, the class term and the box term first, by the names the detector returns."""
    terms = ["classification", "regression", *losses]
    return {loss_name(stage, term): losses[term] for term in terms}
