"""What a combination does to the first training images, before it trains: objects without a positive, idle levels,
losses too weak to matter. A broken arm of a comparison says so in the first second instead of in its mAP."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness.core.preserved import preserved
from harness.core.structures import Need
from harness.criterion.criterion import Criterion
from harness.criterion.heads import Geometry
from harness.criterion.stage import Selection
from harness.data.loading import Batch, to_device
from harness.training.devices import autocast

MOST_WITHOUT_POSITIVE = 0.2  # share of objects; above it the arm is marked
WEAKEST = 0.1  # of the baseline's term; below it the arm is marked
CPU_PIXELS = 2**22  # so many pixels are looked at without a GPU: 64 of the embedded images, two of a large data set


@dataclass
class StageCount:
    """One stage over the measured images, counted on the device."""

    objects: int | Tensor = 0
    without: int | Tensor = 0  # of them, without a positive
    positives: Tensor | int = 0  # of every level, or one number where there are none
    levels: int = 1

    def add(self, selection: Selection) -> None:
        """Counts one selection."""
        truth, candidates, assignment = selection.truth, selection.candidates, selection.assignment
        positive = assignment.positive & candidates.valid
        owners = torch.where(positive, assignment.gt_index, truth.valid.shape[-1])
        found = torch.zeros(*truth.valid.shape[:-1], truth.valid.shape[-1] + 1, dtype=torch.bool, device=owners.device)
        found = found.scatter(-1, owners, True)[..., :-1]
        self.objects = self.objects + truth.matchable.sum()
        self.without = self.without + (truth.matchable & ~found).sum()
        self.levels = candidates.num_levels
        if candidates.level is None:
            self.positives = self.positives + positive.sum().unsqueeze(0)
        else:
            each = [(positive & (candidates.level == level)).sum() for level in range(self.levels)]
            self.positives = self.positives + torch.stack(each)

    @property
    def share_without(self) -> float:
        """Of the objects, in [0, 1]."""
        return float(self.without) / max(1, int(self.objects))

    @property
    def per_level(self) -> list[int]:
        """Positives of every level."""
        return [int(count) for count in self.positives] if isinstance(self.positives, Tensor) else []


@dataclass(frozen=True)
class Measured:
    """What was measured, as the result records it."""

    images: int
    stages: dict[str, dict[str, Any]]  # objects, without_positive (a share), positives_per_level
    terms: dict[str, dict[str, float]]  # value, share of the total, times_baseline where the baseline has it
    warnings: list[str] = field(default_factory=list)  # one line each


def measure(
    model: nn.Module,
    baseline: nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    precision: str,
    images: int = 64,
    *,
    loss_is_published: bool = False,
) -> Measured:
    """Takes the losses of the first images without training on them.

    Args:
        model: an equipped detector, made for this measurement: its criteria's state and streams are used up.
        baseline: the same detector with its own components.
        batches: of training images; no more is read than is measured.
        device: where the detectors are.
        precision: ``fp32`` or ``bf16``.
        images: at most so many; fewer on a CPU where they are large.
        loss_is_published: the losses are those of a recipe, so that none of them is too weak.
    """
    counts: dict[str, StageCount] = {}
    criteria: Mapping[str, Criterion] = model.criteria  # type: ignore[assignment]
    for criterion in criteria.values():
        criterion.observers.append(lambda stage, selection: counts.setdefault(stage, StageCount()).add(selection))
        criterion.progress = 0.0
    own, baseline_values, seen = _Means(), _Means(), 0
    with preserved([model], device), torch.no_grad():
        model.train()
        baseline.train()
        for batch in _first(batches, images, device):
            pictures, targets = to_device(batch, device)
            seen += len(pictures)
            with autocast(device, precision):
                own.add(model(pictures, targets))
                baseline_values.add(baseline(pictures, targets))
    terms = _compared(own.values(), baseline_values.values())
    stages = {
        stage: {
            "objects": int(count.objects),
            "without_positive": round(count.share_without, 4),
            "positives_per_level": count.per_level,
        }
        for stage, count in counts.items()
    }
    warnings = [line for stage, count in counts.items() for line in _assignment_warnings(criteria[stage], count)]
    if not loss_is_published:
        losses = {stage: criterion.warmup_loss or criterion.loss for stage, criterion in criteria.items()}
        rated = [stage for stage, loss in losses.items() if Need.QUALITY in loss.classification.needs]
        class_terms = [model.loss_name(stage, "classification") for stage in rated]  # type: ignore[operator]
        warnings += _loss_warnings(terms, towards_iou=class_terms)
    return Measured(seen, stages, terms, warnings)


class _Means:
    """Means of named losses, kept on the device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.float()
        self._count += 1

    def values(self) -> dict[str, float]:
        return {name: float(total) / max(1, self._count) for name, total in self._sums.items()}


def _first(batches: Iterable[Batch], images: int, device: torch.device) -> Iterator[Batch]:
    """Batches of at most ``images`` images, and on a CPU of not many more pixels than ``CPU_PIXELS``."""
    pixels, seen = 0, 0
    for batch in batches:
        yield batch
        seen += len(batch[0])
        pixels += sum(image.shape[-1] * image.shape[-2] for image in batch[0])
        if seen >= images or (device.type == "cpu" and pixels >= CPU_PIXELS):
            return


def _compared(own: Mapping[str, float], baseline_values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    total = sum(own.values())
    found = {}
    for name, value in own.items():
        found[name] = {"value": value, "share": value / total if total > 0 else 0.0}
        if baseline_values.get(name, 0.0) > 0:
            found[name]["times_baseline"] = value / baseline_values[name]
    return found


def _assignment_warnings(criterion: Criterion, count: StageCount) -> list[str]:
    key, stage = _key(criterion), criterion.head.stage
    lines = []
    if count.share_without > MOST_WITHOUT_POSITIVE:
        share = f"stage {stage}: {100 * count.share_without:.0f} % of the objects in the first training images have no "
        if criterion.head.geometry is Geometry.PROPOSALS and not criterion.sampler.add_gt_as_proposals:
            lines.append(f"{share}positive: {_without_ground_truth(criterion)}")
        else:
            lines.append(f"{share}positive, so that nothing learns to find them; change {key}")
    idle = [str(level) for level, positives in enumerate(count.per_level) if positives == 0]
    if int(count.objects) and criterion.head.has_levels and idle:
        word = "level" if len(idle) == 1 else "levels"
        lines.append(
            f"stage {stage}: {word} {', '.join(idle)} of {count.levels} (0 is the finest) got no positive in the first "
            f"training images; change {key}"
        )
    return lines


def _without_ground_truth(criterion: Criterion) -> str:
    """Why proposals fit few objects at the start, and what can be done; nothing where the sampler leaves no choice."""
    stage, sampler = criterion.head.stage, criterion.sampler
    reason = "untrained proposals fit few objects, and no ground-truth boxes join them"
    if "add_gt_as_proposals" not in vars(sampler):
        return f"{reason} with {type(sampler).__name__}; this may pass as the RPN learns"
    prefix = "" if stage == "roi" else f"{stage}."
    return f"{reason}; set {prefix}sampler.add_gt_as_proposals=true, or see whether it passes as the RPN learns"


def _key(criterion: Criterion) -> str:
    """The configuration key that decides which candidates suit an object."""
    stage, assigner = criterion.head.stage, criterion.assigner
    prefix = "" if stage in ("roi", "dense") else f"{stage}."
    points = criterion.head.geometry is Geometry.POINTS
    if points and hasattr(assigner, "point_scale"):
        return f"{prefix}assigner.point_scale"
    if hasattr(assigner, "regress_ranges"):
        return f"{prefix}assigner.regress_ranges"
    if criterion.head.geometry is Geometry.ANCHORS:
        return f"detector.anchor_sizes or {prefix}assigner"
    return f"{prefix}matching.pos_iou_thr or {prefix}assigner"


def _loss_warnings(terms: Mapping[str, Mapping[str, float]], towards_iou: Collection[str]) -> Iterator[str]:
    for name, term in terms.items():
        if term["value"] == 0 and "times_baseline" in term:
            yield (
                f"the term {name} is 0 over the first training images: the sampler took nothing that it is computed "
                "on (for boxes: no positive), or its weight is 0"
            )
        elif term.get("times_baseline", 1.0) < WEAKEST:
            times = 1 / term["times_baseline"]
            line = f"the term {name} is {times:.0f} times weaker at the start than the detector's own"
            if name in towards_iou:
                yield f"{line}: its targets follow the IoU of boxes that are not trained yet, which passes"
            else:
                yield f"{line}; change the term's weight in loss, or set loss.balance=equal"
