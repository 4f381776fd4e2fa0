"""What the one-stage detectors share: anchors and outputs of a batch through the criterion, and the losses' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

from torch import Tensor, nn

from harness.core.criterion import Criterion
from harness.core.heads import HeadSpec, Outputs
from harness.detectors.adapters.equipped import Equipped
from harness.detectors.adapters.mixing import mixed, refuse_overrides, replace_module
from harness.detectors.adapters.targets import ground_truth
from harness.detectors.networks.pyramid import PyramidAnchors, PyramidGenerator
from harness.losses.pair import Loss

M = TypeVar("M", bound=nn.Module)

STAGE = "dense"


def unchanged_head(head: HeadSpec, loss: Loss) -> HeadSpec:
    """A dense head as it is read under ``loss``: its inference takes the same activation, whatever the loss."""
    return head


class EquippedDense(Equipped):
    """Mixed over a dense detector's own class: all of its losses come from the criterion of its one stage.

    Attributes:
        LOSS_NAMES: the criterion's name of a term -> the detector's own, in the detector's order; a term that is not
            among them keeps its name.
        BRANCH: key of the branch's logits in the head's outputs, where it has one.
        STRIDE_IS_SIDE: take an anchor's side for its stride, as FCOS does.
    """

    YIELDS_TO_SUBCLASSES = True
    LOSS_NAMES: ClassVar[Mapping[str, str]] = {"classification": "classification", "regression": "bbox_regression"}
    BRANCH: ClassVar[str | None] = None
    STRIDE_IS_SIDE: ClassVar[bool] = False

    def compute_loss(
        self,
        targets: Sequence[Mapping[str, Tensor]],
        head_outputs: Mapping[str, Tensor],
        anchors: list[Tensor],
        *matched: Any,
    ) -> dict[str, Tensor]:
        """The losses by the detector's own names.

        Every prediction exists already, so pieces that ask for predictions or losses cost nothing more.

        Args:
            targets: torchvision's, one per image.
            head_outputs: ``cls_logits``, ``bbox_regression`` and the branch's, ``(B, N, ...)``, with gradient.
            anchors: of every image, as the twin's generator made them.
            matched: what torchvision has matched or counted in ``forward``; ignored.
        """
        candidates = cast(PyramidAnchors, anchors).candidates(stride_is_side=self.STRIDE_IS_SIDE)
        outputs = self.outputs_of(head_outputs)
        criterion = self.criteria[STAGE]
        truth = ground_truth(targets, candidates.boxes.dtype, criterion.head.num_classes)
        selection = criterion.select(truth, candidates, outputs.detach)
        losses = criterion(outputs.take(selection.sample), selection)
        named = {own: losses.pop(term) for term, own in self.LOSS_NAMES.items() if term in losses}
        return {**named, **losses}

    def outputs_of(self, head_outputs: Mapping[str, Tensor]) -> Outputs:
        """The head's outputs as the criterion reads them."""
        branch = head_outputs.get(self.BRANCH) if self.BRANCH is not None else None
        if branch is not None and branch.dim() == head_outputs["cls_logits"].dim():
            branch = branch.squeeze(-1)
        return Outputs(
            head_outputs["cls_logits"], head_outputs["bbox_regression"], branch, head_outputs.get("bbox_refined")
        )


def dense_twin(model: M, adapter: type[nn.Module], criteria: Mapping[str, Criterion]) -> M:
    """The twin of a dense detector: ``adapter`` mixed in, and an anchor generator that tells its levels."""
    for module in cast(nn.Module, model.head).modules():
        refuse_overrides(module, nn.Module, ("compute_loss",))
    twin = mixed(model, adapter, criteria=dict(criteria))
    replace_module(twin, "anchor_generator", mixed(cast(nn.Module, model.anchor_generator), PyramidGenerator))
    return twin
