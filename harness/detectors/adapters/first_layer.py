"""The first layer of torchvision's box head: its outputs in a ranking pass are not computed again for the chosen boxes.

It multiplies each box by 12,544 x 1,024 weights, which is nearly all of the head's forward pass.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import TwoMLPHead


def can_split(head: nn.Module) -> bool:
    """Whether :func:`first_layer` and :func:`later_layers` stand for ``head``, which must be torchvision's and plain.

    Hooks, which see calls of modules, would miss some, and compiled heads are compiled as a whole.
    """
    return type(head) is TwoMLPHead and type(head.fc6) is nn.Linear and _is_plain(head) and _is_plain(head.fc6)


def first_layer(head: nn.Module, pooled: Tensor) -> Tensor:
    """``(n, D)``, out of ``pooled (n, C, h, w)``, before the activation."""
    return cast(Tensor, cast(TwoMLPHead, head).fc6(pooled.flatten(1)))


def later_layers(head: nn.Module, hidden: Tensor) -> Tensor:
    """The head's output ``(n, D)`` out of that of its first layer."""
    return F.relu(cast(TwoMLPHead, head).fc7(F.relu(hidden)))


def known_first_layer(head: nn.Module, pooled: Tensor, known: Tensor) -> Tensor:
    """``known (n, D)``, as the result of ``first_layer(head, pooled)``, without computing it."""
    layer = cast(TwoMLPHead, head).fc6
    hidden: Tensor = _KnownLinear.apply(known, pooled.flatten(1), layer.weight, layer.bias)
    return hidden


def _is_plain(module: nn.Module) -> bool:
    """Whether calling ``module`` runs its ``forward`` and nothing else."""
    before, after = module._forward_pre_hooks, module._forward_hooks
    backward = module._backward_pre_hooks or module._backward_hooks
    return module._compiled_call_impl is None and not (before or after or backward)


class _KnownLinear(torch.autograd.Function):
    """The gradients of a linear layer, for outputs that are given."""

    @staticmethod
    def forward(context: Any, known: Tensor, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        context.save_for_backward(inputs, weight)
        return known.clone()

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = context.saved_tensors
        _, to_inputs, to_weight, to_bias = context.needs_input_grad
        return (
            None,
            gradient @ weight if to_inputs else None,
            gradient.T @ inputs if to_weight else None,
            gradient.sum(0) if to_bias else None,
        )
