"""torchvision's targets, one dictionary per image, become the padded ground truth of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from harness.core.structures import GroundTruth

_BOX_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def ground_truth(
    targets: Sequence[Mapping[str, Tensor]], dtype: torch.dtype = torch.float32, num_classes: int | None = None
) -> GroundTruth:
    """The padded objects of a batch of torchvision targets.

    Args:
        targets: ``boxes (n, 4)`` float xyxy px, ``labels (n,)`` int64 from 1, and where known ``iscrowd (n,)`` and
            ``hard (n,)``, the objects that a round of mining missed. Label 0 is torchvision's background: such a box is
            a stored false positive, a hard negative and never an object.
        dtype: of the boxes that are returned.
        num_classes: foreground classes; labels above are refused. ``None`` does not look at the labels' values.

    Returns:
        labels from 0, as the core counts them.

    Raises:
        TypeError: boxes or labels of another type, as torchvision refuses them.
        ValueError: a shape, a coordinate that is not finite, or a label out of range. The line names the image's index
            in the batch. On a GPU the values are checked on the device without waiting for it, and a wrong one fails
            as a device-side assertion.
    """
    for index, target in enumerate(targets):
        _check_form(index, target)
    # -1 pads: one padded tensor then tells objects, background boxes and padding apart.
    labels = pad_sequence([target["labels"] for target in targets], batch_first=True, padding_value=-1)
    boxes = pad_sequence([target["boxes"].detach().to(dtype).reshape(-1, 4) for target in targets], batch_first=True)
    _check_values(targets, boxes, labels, num_classes)
    crowd, hard = _flags(targets, "iscrowd"), _flags(targets, "hard")
    return GroundTruth(
        boxes=boxes,
        labels=(labels - 1).clamp(min=0),  # never negative: components look up the columns of all labels
        valid=labels > 0,
        crowd=torch.zeros_like(labels, dtype=torch.bool) if crowd is None else crowd,
        hard_positive=None if hard is None else hard & (labels > 0),
        hard_negative=labels == 0,
    )


def _flags(targets: Sequence[Mapping[str, Tensor]], key: str) -> Tensor | None:
    """``(B, G)`` bool, False where a target does not have the key and where padded; ``None`` where no target has it."""
    if not any(key in target for target in targets):
        return None
    flags = [t[key].bool() if key in t else torch.zeros_like(t["labels"], dtype=torch.bool) for t in targets]
    return pad_sequence(flags, batch_first=True)


def _check_form(index: int, target: Mapping[str, Tensor]) -> None:
    """Types and shapes: facts of the tensors that need none of their values."""
    where = f"targets[{index}]"
    for key in ("boxes", "labels"):
        if not isinstance(target.get(key), Tensor):
            found = type(target[key]).__name__ if key in target else "nothing"
            raise TypeError(f"{where}[{key!r}] must be a tensor, got {found}")
    boxes, labels, crowd = target["boxes"], target["labels"], target.get("iscrowd")
    if boxes.dtype not in _BOX_TYPES:
        raise TypeError(f"{where}['boxes'] must be of a floating-point type, got {boxes.dtype}")
    if labels.dtype != torch.int64:
        raise TypeError(f"{where}['labels'] must be of type torch.int64, got {labels.dtype}")
    if boxes.shape != (len(boxes), 4) and boxes.numel() != 0:
        raise ValueError(f"{where}['boxes'] must have shape (n, 4), got {tuple(boxes.shape)}")
    for key, values in (("labels", labels), ("iscrowd", crowd)):
        if values is not None and values.shape != (len(boxes),):
            raise ValueError(
                f"{where}[{key!r}] must have shape ({len(boxes)},), one per box, got {tuple(values.shape)}"
            )


def _check_values(
    targets: Sequence[Mapping[str, Tensor]], boxes: Tensor, labels: Tensor, num_classes: int | None
) -> None:
    if labels.numel() == 0 or torch.compiler.is_compiling():
        return
    padded = labels.numel() - sum(len(target["labels"]) for target in targets)
    good = boxes.isfinite().all() & ((labels < 0).sum() == padded)  # a label of -1 is no padding
    if num_classes is not None:
        good &= (labels <= num_classes).all()
    if boxes.device.type != "cpu":
        torch._assert_async(good, "a target has a box that is not finite or a label out of range")
    elif not good:
        raise ValueError(_first_wrong(targets, num_classes))


def _first_wrong(targets: Sequence[Mapping[str, Tensor]], num_classes: int | None) -> str:
    """Which box or label of which image is wrong, and what would be valid."""
    for index, target in enumerate(targets):
        for row, box in enumerate(target["boxes"].tolist()):
            if not all(-float("inf") < value < float("inf") for value in box):
                return f"targets[{index}]['boxes'][{row}] is {box}: coordinates must be finite"
        for row, label in enumerate(target["labels"].tolist()):
            if label < 0 or (num_classes is not None and label > num_classes):
                most = "" if num_classes is None else f" and at most {num_classes}, the number of classes"
                return f"targets[{index}]['labels'][{row}] is {label}: labels must be at least 0 (background){most}"
    raise AssertionError("nothing is wrong")
