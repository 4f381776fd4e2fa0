"""Gradients averaged over the processes of a training, as one message after the backward pass.

``DistributedDataParallel`` would send them in buckets while the backward pass still runs, but it wraps the model, whose
``state_dict`` and methods are then no longer torchvision's, and it wants to know which parameters take no part in a
step. One message carries the losses as well, so that all processes log and check the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, distributed, nn

from harness.core.processes import process_count


@torch.no_grad()
def averaged(parameters: Iterable[nn.Parameter], losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replaces the gradients by their means over all processes and returns the means of the losses.

    A parameter without a gradient in every process keeps none, so that an optimizer leaves it alone as it does with one
    process; where only some have one, it is 0 in the others.

    Args:
        parameters: of the model, in an order that is the same in all processes.
        losses: scalars by name; the same names in all processes.
    """
    if process_count() == 1:
        return dict(losses)
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    values = torch.stack(list(losses.values()))
    known = values.new_tensor([parameter.grad is not None for parameter in trained])
    parts = [p.new_zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in trained]
    message = torch.cat((*parts, values, known))
    distributed.all_reduce(message)
    message /= process_count()
    *means, values, known = message.split([*(p.numel() for p in trained), len(values), len(known)])
    for place, (parameter, mean) in enumerate(zip(trained, means, strict=True)):
        if parameter.grad is not None:
            parameter.grad.copy_(mean.view(parameter.shape))
        elif known[place] > 0:
            parameter.grad = mean.view(parameter.shape).to(parameter.dtype, copy=True)
    return dict(zip(losses, values.unbind(), strict=True))
