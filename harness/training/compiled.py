"""``run.compile``: torch.compile of the parts of a detector that are plain networks."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

HEADS = ("head", "predictor")  # how torchvision ends the names of heads, as in box_head, mask_predictor


def compile_networks(model: nn.Module) -> list[str]:
    """Compiles the backbone and the heads in place, at their first call; returns their names.

    Names, classes and the state dict stay as they are. Proposals, assignment, sampling, losses and post-processing are
    not compiled: their shapes follow the data. Results differ from those of an uncompiled run by rounding.
    """
    names = list(_networks(model))
    for name in names:
        model.get_submodule(name).compile()
    return names


def _networks(model: nn.Module) -> Iterator[str]:
    """The backbone and the innermost modules with a head's name; of a list of heads, its items."""
    found = ["backbone"] if isinstance(getattr(model, "backbone", None), nn.Module) else []
    heads = [
        name
        for name, _ in model.named_modules()
        if name.rpartition(".")[2].endswith(HEADS) and not name.startswith("backbone.")
    ]
    innermost = [name for name in heads if not any(other.startswith(f"{name}.") for other in heads)]
    for name in [*found, *innermost]:
        module = model.get_submodule(name)
        if isinstance(module, nn.ModuleList):
            yield from (f"{name}.{place}" for place in range(len(module)))
        else:
            yield name
