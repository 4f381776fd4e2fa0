"""What the one-stage detectors share: anchors and outputs of a batch through the criterion, and the losses' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

from torch import Tensor, nn

from harness.core.precision import full_precision
from harness.criterion.criterion import Criterion
from harness.criterion.heads import Geometry, HeadSpec
from harness.detectors.adapters.equipped import Equipped
from harness.detectors.adapters.mixing import mixed, refuse_overrides, replace_module
from harness.detectors.adapters.targets import ground_truth
from harness.detectors.networks.dense_detector import read_outputs
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
    """

    YIELDS_TO_SUBCLASSES = True
    LOSS_NAMES: ClassVar[Mapping[str, str]] = {"classification": "classification", "regression": "bbox_regression"}
    BRANCH: ClassVar[str] = "branch"

    def loss_name(self, stage: str, term: str) -> str:
        """The name under which the detector returns a ``term`` of its criterion; there is one ``stage``."""
        return self.LOSS_NAMES.get(term, term)

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
        outputs = read_outputs(head_outputs, self.BRANCH)
        criterion = self.criteria[STAGE]
        # A point is a square of its stride: FCOS takes the side, which is not the distance to the neighboring cell
        # where the image's size is no multiple of the stride.
        points = criterion.head.geometry is Geometry.POINTS
        candidates = cast(PyramidAnchors, anchors).candidates(stride_is_side=points)
        truth = ground_truth(targets, candidates.boxes.dtype, criterion.head.num_classes)
        selection = criterion.select(truth, candidates, outputs.detach)
        losses = criterion(outputs.take(selection.sample), selection)
        named = {own: losses.pop(term) for term, own in self.LOSS_NAMES.items() if term in losses}
        return {**named, **losses}


class FullPrecisionDetections(nn.Module):
    """Mixed over torchvision's one-stage detectors, which decode boxes and rank scores in the type of the outputs.

    Under autocast to bfloat16 a coordinate beyond 256 px would be rounded to whole multiples of 2, beyond 512 px of 4.
    """

    def postprocess_detections(self, head_outputs: Mapping[str, Any], *anchors_and_shapes: Any) -> list[Any]:
        """The host's own, of outputs in at least float32: ``(B, N, ...)``, in RetinaNet and FCOS a list of levels."""
        precise = {
            name: full_precision(output) if isinstance(output, Tensor) else [full_precision(level) for level in output]
            for name, output in head_outputs.items()
        }
        detections: list[Any] = super().postprocess_detections(precise, *anchors_and_shapes)  # type: ignore[misc]
        return detections


def dense_twin(model: M, adapter: type[nn.Module], criteria: Mapping[str, Criterion]) -> M:
    """The twin of a dense detector: ``adapter`` mixed in, and an anchor generator that tells its levels."""
    for module in cast(nn.Module, model.head).modules():
        refuse_overrides(module, nn.Module, ("compute_loss",))
    twin = mixed(model, adapter, criteria=dict(criteria))
    replace_module(twin, "anchor_generator", mixed(cast(nn.Module, model.anchor_generator), PyramidGenerator))
    return twin
