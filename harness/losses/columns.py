"""Reads and replaces the target column of each slot's logits without a one-hot matrix.

A one-hot matrix of 200,000 anchors x 91 classes takes 73 MB. All columns but the target follow one formula, so all are
computed by it, and the target column is replaced.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def off_entropy(logits: Tensor) -> Tensor:
    """``-log(1 - sigmoid)`` of every logit: the cross entropy where it should be off; of ``-logits``, where on.

    One kernel each way, where a log-sigmoid of the negated logits takes three. Beyond the threshold the logit itself
    is exact in double precision.
    """
    return F.softplus(logits, threshold=40)


def target_column(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Where the column that is on stands.

    Args:
        logits: ``(*, S, C)``.
        target: ``(*, S)`` int64; outside 0..C-1 no column is on.

    Returns:
        ``index (*, S, 1)`` int64, always a valid column, and ``on (*, S, 1)`` bool, whether it is really on.
    """
    target = target.unsqueeze(-1)
    on = (target >= 0) & (target < logits.shape[-1])
    return target.masked_fill(~on, 0), on


def replace_column(values: Tensor, index: Tensor, replacement: Tensor) -> Tensor:
    """``values (*, S, C)`` with ``replacement (*, S, 1)`` in the column ``index``; changes ``values``, saving a copy.

    Autograd allows that for a result which its own formula does not need again (a product, not a sigmoid). Where no
    column is on the replacement must be what stands there: computed again from the one logit, which costs little.
    """
    return values.scatter_(-1, index, replacement)
