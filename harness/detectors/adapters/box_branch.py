"""The box branch of an RoI head over padded candidates: pool, head, predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import MultiScaleRoIAlign

from harness.core.preserved import preserved
from harness.core.structures import Candidates, GroundTruth, SamplingResult
from harness.criterion.heads import Outputs
from harness.detectors.adapters.first_layer import can_split, first_layer, known_first_layer, later_layers
from harness.detectors.adapters.repooling import Pooled, can_repool, pooled_once, repooled


def proposal_candidates(
    proposals: Sequence[Tensor], image_shapes: Sequence[tuple[int, int]] | None = None
) -> Candidates:
    """The padded proposals of a batch, ``(N_i, 4)`` per image, px.

    ``image_shapes`` holds (height, width) of each image; a loss that needs the size of the image needs it.
    """
    boxes = pad_sequence(list(proposals), batch_first=True)
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    for row, image in zip(valid, proposals, strict=True):
        if len(image) < boxes.shape[1]:
            row[len(image) :] = False
    return Candidates(boxes, valid, image_sizes=None if image_shapes is None else tuple(image_shapes))


def with_truth(candidates: Candidates, truth: GroundTruth) -> Candidates:
    """The objects join the proposals at the end, marked ``is_truth``, as Fast R-CNN trains; crowd regions do not.

    Stored false positives (``truth.hard_negative``) join, too, as the ordinary proposals that they once were.
    """
    objects = truth.matchable
    joining = objects if truth.hard_negative is None else objects | truth.hard_negative
    return Candidates(
        boxes=torch.cat((candidates.boxes, truth.boxes.to(candidates.boxes.dtype)), 1),
        valid=torch.cat((candidates.valid, joining), 1),
        is_truth=torch.cat((torch.zeros_like(candidates.valid), objects), 1),
        image_sizes=candidates.image_sizes,
    )


class BoxBranch:
    """Runs the three modules of a box branch on boxes ``(B, N, 4)``; one object serves one step of one stage.

    Args:
        pool: ``MultiScaleRoIAlign`` or the like.
        head: features of the pooled boxes.
        predictor: returns logits and deltas.
    """

    def __init__(self, pool: nn.Module, head: nn.Module, predictor: nn.Module) -> None:
        self.pool = pool
        self.head = head
        self.predictor = predictor
        self._peeked: Pooled | None = None

    def __call__(
        self, features: dict[str, Tensor], boxes: Tensor, used: Tensor, image_shapes: list[tuple[int, int]]
    ) -> Outputs:
        """Outputs ``(B, N, ...)``; those of boxes that are not ``used (B, N)`` mean nothing.

        Unused boxes are left out where they would cost (a CPU) or harm (BatchNorm would count them in its statistics);
        elsewhere they pass through, because leaving them out makes a GPU wait for their number.
        """
        if (boxes.is_cuda and not self._normalizes_over_boxes()) or bool(used.all()):
            rows: list[Tensor] = list(boxes.unbind(0))
            return self._outputs(self.pool(features, rows, image_shapes), None, used.shape)
        rows = [image[keep] for image, keep in zip(boxes, used, strict=True)]
        return self._outputs(self.pool(features, rows, image_shapes), used, used.shape)

    def chosen(
        self,
        features: dict[str, Tensor],
        candidates: Candidates,
        sample: SamplingResult,
        image_shapes: list[tuple[int, int]],
    ) -> Outputs:
        """Outputs ``(B, S, ...)`` at the slots of ``sample``, with gradient.

        What :meth:`peek` has pooled of the same candidates, and put through the head's first layer, is not computed
        again where that saves time; the result is the same up to rounding.
        """
        boxes, used = sample.take(candidates.boxes), sample.used
        if self._peeked is None:
            return self(features, boxes, used, image_shapes)
        values, known = self._peeked.of(sample)
        self._peeked = None
        rows = [image[keep] for image, keep in zip(boxes, used, strict=True)]
        pooled = repooled(cast(MultiScaleRoIAlign, self.pool), features, rows, values)
        hidden = None if known is None else known_first_layer(self.head, pooled, known)
        return self._outputs(pooled, None if bool(used.all()) else used, used.shape, hidden)

    @torch.no_grad()
    def peek(
        self, features: dict[str, Tensor], boxes: Tensor, used: Tensor, image_shapes: list[tuple[int, int]]
    ) -> Outputs:
        """The outputs without gradient, leaving every buffer and random stream as it was."""
        features = {name: level.detach() for name, level in features.items()}
        with preserved((self.head, self.predictor), boxes.device):
            if not can_repool(self.pool, features):
                return self(features, boxes, used, image_shapes)
            rows = [image[keep] for image, keep in zip(boxes, used, strict=True)]
            pooled = pooled_once(cast(MultiScaleRoIAlign, self.pool), features, rows, image_shapes)
            hidden = first_layer(self.head, pooled) if can_split(self.head) else None
            self._peeked = Pooled(pooled, used, hidden)
            return self._outputs(pooled, None if bool(used.all()) else used, used.shape, hidden)

    def _outputs(self, pooled: Tensor, used: Tensor | None, shape: torch.Size, hidden: Tensor | None = None) -> Outputs:
        """Outputs of ``shape``, out of what was pooled of all boxes or of the ``used`` ones.

        ``hidden`` is the output of the head's first layer, where it is known.
        """
        logits, deltas = self.predictor(self.head(pooled) if hidden is None else later_layers(self.head, hidden))
        if used is None:
            return Outputs(logits.unflatten(0, shape), deltas.unflatten(0, shape))
        place = used.flatten().nonzero().squeeze(1)
        return Outputs(_placed(logits, place, shape), _placed(deltas, place, shape))

    def _normalizes_over_boxes(self) -> bool:
        return any(isinstance(m, _BatchNorm) and m.training for part in self._parts() for m in part.modules())

    def _parts(self) -> tuple[nn.Module, nn.Module]:
        return self.head, self.predictor


def _placed(values: Tensor, place: Tensor, shape: torch.Size) -> Tensor:
    """``(*shape, C)``: row ``i`` of ``values`` at the flat ``place[i]``, zeros elsewhere."""
    return values.new_zeros(shape.numel(), values.shape[-1]).index_copy(0, place, values).unflatten(0, shape)
