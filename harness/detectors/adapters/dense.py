"""What the one-stage detectors share: anchors and outputs of a batch through the criterion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from torch import Tensor, nn

from harness.core.criterion import Criterion, Selection
from harness.core.heads import HeadSpec, Outputs
from harness.core.structures import Candidates
from harness.detectors.adapters.mixing import mixed, refuse_overrides, replace_module
from harness.detectors.adapters.targets import ground_truth
from harness.detectors.networks.pyramid import PyramidGenerator
from harness.losses.pair import Loss

M = TypeVar("M", bound=nn.Module)

STAGE = "dense"


def unchanged_head(head: HeadSpec, loss: Loss) -> HeadSpec:
    """A dense head as it is read under ``loss``: its inference takes the same activation, whatever the loss."""
    return head


@dataclass(frozen=True)
class DenseLosses:
    """The two losses of a dense head, and what further branches of it need for theirs."""

    classification: Tensor
    regression: Tensor
    selection: Selection
    outputs: Outputs  # at the slots of the sample


def dense_losses(
    criterion: Criterion, targets: Sequence[Mapping[str, Tensor]], outputs: Outputs, candidates: Candidates
) -> DenseLosses:
    """Assigns, samples and takes the losses; every prediction exists already, so asking for them costs nothing.

    Args:
        targets: torchvision's, one per image.
        outputs: of the head, ``(B, N, ...)``, with gradient.
        candidates: the anchors or points, ``(B, N)``.
    """
    truth = ground_truth(targets, candidates.boxes.dtype, criterion.head.num_classes)
    selection = criterion.select(truth, candidates, lambda: _detached(outputs))
    taken = outputs.take(selection.sample)
    losses = criterion(taken, selection)
    return DenseLosses(losses["classification"], losses["regression"], selection, taken)


def dense_twin(model: M, adapter: type[nn.Module], criteria: Mapping[str, Criterion]) -> M:
    """The twin of a dense detector: ``adapter`` mixed in, and an anchor generator that tells its levels."""
    for module in cast(nn.Module, model.head).modules():
        refuse_overrides(module, nn.Module, ("compute_loss",))
    twin = mixed(model, adapter, criteria=dict(criteria))
    replace_module(twin, "anchor_generator", mixed(cast(nn.Module, model.anchor_generator), PyramidGenerator))
    return twin


def _detached(outputs: Outputs) -> Outputs:
    objectness = None if outputs.objectness is None else outputs.objectness.detach()
    return Outputs(outputs.logits.detach(), outputs.deltas.detach(), objectness)
