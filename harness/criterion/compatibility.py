"""Which pieces can work in which head: refused before anything is trained, one line per reason.

A head states facts, a piece states needs; what is impossible follows from the two. The tables below only name
the shipped options, so that a refusal can say what would work instead; a test keeps them equal to the classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from harness.core.structures import Activation, Assigner, Need, Sampler
from harness.criterion.heads import Geometry, HeadSpec
from harness.criterion.stage import StageComponents
from harness.losses.interface import ClassificationLoss, RegressionLoss, Space
from harness.losses.pair import Loss
from harness.losses.reduction import BoxWeight
from harness.losses.terms import BoxTerm, RefinedBoxTerm
from harness.samplers.all import AllSampler

ANCHORS, SHAPES, LEVELS, STRIDES = Need.ANCHORS, Need.SHAPES, Need.LEVELS, Need.STRIDES
PREDICTIONS, LOSSES = Need.PREDICTIONS, Need.LOSSES

# option of conf/assigner -> what it needs of the head
ASSIGNERS: Mapping[str, frozenset[Need]] = {
    "max_iou": frozenset({SHAPES}),
    "torchvision": frozenset({SHAPES}),
    "ssd": frozenset({SHAPES}),
    "nwd": frozenset({SHAPES}),
    "rfla": frozenset(),
    "uniform": frozenset({PREDICTIONS}),
    "hungarian": frozenset({PREDICTIONS}),
    "topk_hungarian": frozenset({PREDICTIONS}),
    "task_aligned": frozenset({PREDICTIONS}),
    "atss": frozenset({LEVELS}),
    "center_region": frozenset(),
    "fcos": frozenset({LEVELS, STRIDES}),
    "point": frozenset({STRIDES}),
    "simota": frozenset({STRIDES, PREDICTIONS}),
    "simota_yolox": frozenset({STRIDES, PREDICTIONS}),
    "ota": frozenset({STRIDES, PREDICTIONS}),
    "dynamic_soft_label": frozenset({STRIDES, PREDICTIONS}),
    "grid": frozenset({ANCHORS, STRIDES}),
    "yolo_ratio": frozenset({ANCHORS, LEVELS, STRIDES}),
    "yolov7_ota": frozenset({ANCHORS, LEVELS, STRIDES, PREDICTIONS}),
    "paa": frozenset({LEVELS, LOSSES}),
}

# option of conf/sampler -> what it needs of the head: shapes, because it compares IoUs; losses, because it ranks by
# them
SAMPLERS: Mapping[str, frozenset[Need]] = {
    **dict.fromkeys(
        ("all", "random", "instance_balanced", "offline_hard", "offline_symmetric", "isr_p"), frozenset[Need]()
    ),
    **dict.fromkeys(("combined", "iou_balanced", "soft_sampling"), frozenset({SHAPES})),
    **dict.fromkeys(
        (
            *("hard_negative", "topk_loss", "ohem", "ohem_paper", "ohem_threshold", "loss_rank_mining"),
            *("matched_random", "score_hlr", "pisa"),
        ),
        frozenset({LOSSES}),
    ),
}

# option of conf/loss/classification -> how it reads the logits
CLASSIFICATION: Mapping[str, Activation] = {
    "cross_entropy": Activation.SOFTMAX,
    "topk_cross_entropy": Activation.SOFTMAX,
    "seesaw": Activation.SOFTMAX,
    "softmax_focal": Activation.SOFTMAX,
    "binary_cross_entropy": Activation.SIGMOID,
    "binary_cross_entropy_soft": Activation.SIGMOID,
    "focal": Activation.SIGMOID,
    "ghm_c": Activation.SIGMOID,
    "quality_focal": Activation.SIGMOID,
    "varifocal": Activation.SIGMOID,
    "eqlv2": Activation.SIGMOID,
    "ap_loss": Activation.SIGMOID,
    **dict.fromkeys(("topk", "rank_sort", "bucketed_rank_sort", "alrp", "mal"), Activation.SIGMOID),
    **dict.fromkeys(("federated", "eqlv1", "class_balanced_focal", "acsl"), Activation.SIGMOID),
}

# option of conf/loss/regression -> what it compares
REGRESSION: Mapping[str, Space] = {
    **dict.fromkeys(("smooth_l1", "l1", "balanced_l1", "ghm_r"), Space.DELTAS),
    **dict.fromkeys(("iou", "iou_square", "giou", "diou", "ciou", "eiou", "siou", "bounded_iou"), Space.BOXES),
    **dict.fromkeys(("wiou", "mpdiou", "shape_iou", "alpha_iou", "focal_eiou", "nwd", "kld"), Space.BOXES),
    **dict.fromkeys(("inner_iou", "focaler_iou"), Space.BOXES),
    "distribution_focal": Space.DISTRIBUTION,
}


# options of conf/assigner that rate their positives
RATING_ASSIGNERS = ("task_aligned",)


class IncompatibleError(ValueError):
    """Pieces that cannot work in their stage; one line each."""


def refusals(heads: Mapping[str, HeadSpec], stages: Mapping[str, StageComponents]) -> list[str]:
    """Every reason why ``stages`` cannot train ``heads``, one line each; empty where they can.

    Args:
        heads: stage -> facts.
        stages: stage -> pieces; a piece that is ``None`` is the detector's own, and fits.
    """
    lines = []
    for stage, head in heads.items():
        components = stages.get(stage, StageComponents())
        if components.sampler is not None:
            lines += _sampler(head, components.sampler)
        for assigner, loss in _phases(components):
            if assigner is not None:
                lines += _assigner(head, assigner) or _truth_itself(head, assigner, components.sampler)
            if loss is not None:
                # A loss that the head cannot train needs no other sampler.
                lines += _classification(head, loss.classification) or _ranking(head, components.sampler, loss)
                lines += _regression(head, loss.regression) + _coding(head, loss.regression)
                lines += _terms(head, loss)
                lines += _box_weight(head, assigner, loss) + _every_match(head, assigner, components.sampler, loss)
    return lines


def _phases(components: StageComponents) -> Iterator[tuple[Assigner | None, Loss | None]]:
    """The assigner and the loss of every part of the training."""
    yield components.assigner, components.loss
    if components.warmup is not None:
        yield components.warmup.assigner or components.assigner, components.warmup.loss or components.loss


def _missing(head: HeadSpec, needs: frozenset[Need]) -> list[Need]:
    """What the head cannot provide; predictions, losses, noise and quality it always can."""
    absent = set() if head.has_levels else {LEVELS, STRIDES}
    if head.geometry is not Geometry.ANCHORS:
        absent.add(ANCHORS)
    if head.geometry is Geometry.POINTS:
        absent.add(SHAPES)
    return sorted(needs & absent)


def _assigner(head: HeadSpec, assigner: Assigner) -> list[str]:
    return _lacking(head, type(assigner).__name__, assigner.needs, ASSIGNERS)


def _sampler(head: HeadSpec, sampler: Sampler) -> list[str]:
    return _lacking(head, type(sampler).__name__, sampler.needs, SAMPLERS)


def _lacking(head: HeadSpec, name: str, needs: frozenset[Need], table: Mapping[str, frozenset[Need]]) -> list[str]:
    """The refusal of the piece ``name`` where the head cannot provide what it ``needs``; ``table`` has the others."""
    missing = _missing(head, needs)
    if not missing:
        return []
    valid = [option for option, others in table.items() if not _missing(head, others)]
    return [_choose(head, f"{name} needs {' and '.join(missing)}, which {head.geometry} do not have", valid)]


def _truth_itself(head: HeadSpec, assigner: Assigner, sampler: Sampler | None) -> list[str]:
    """One-to-one matching among proposals that the ground truth has joined matches each object with itself alone."""
    one_to_one = getattr(assigner, "one_to_one", False)
    joined = sampler is None or sampler.add_gt_as_proposals
    if head.geometry is not Geometry.PROPOSALS or not one_to_one or not joined:
        return []
    name = type(assigner).__name__
    reason = f"{name} matches one candidate per object, which is the ground-truth box that joined the proposals"
    return [_line(head, f"{reason}; set sampler.add_gt_as_proposals=false")]


def _classification(head: HeadSpec, loss: ClassificationLoss) -> list[str]:
    name = type(loss).__name__
    if loss.activation is not head.activation:
        valid = [option for option, activation in CLASSIFICATION.items() if activation is head.activation]
        return [_choose(head, f"{name} reads {loss.activation} logits, the head gives {head.activation}", valid)]
    if loss.extra_columns:
        reason = f"{name} needs a logit for 'object' beside the classes, which no head here has"
        return [_line(head, f"{reason}; set loss.classification.objectness=false")]
    if loss.background_last and head.background is None:
        reason = f"{name} keeps the background in a column of its own, which the head does not have"
        return [_line(head, f"{reason}; set loss.classification.background_column=false")]
    return []


def _regression(head: HeadSpec, loss: RegressionLoss) -> list[str]:
    if loss.space is not Space.DISTRIBUTION or head.regression_bins:
        return []
    reason = f"{type(loss).__name__} needs a distribution over bins per side, the head predicts four numbers"
    return [_choose(head, reason, [option for option, space in REGRESSION.items() if space is not Space.DISTRIBUTION])]


def _coding(head: HeadSpec, loss: RegressionLoss) -> list[str]:
    """A box loss that is made for the numbers of one coder."""
    coder = getattr(loss, "coder", None)
    if coder is None or isinstance(head.coder, coder):
        return []
    reason = f"{type(loss).__name__} compares the numbers of {coder.__name__}, the head codes by"
    return [_line(head, f"{reason} {type(head.coder).__name__}; only recipe=yolov3 with detector.coding=yolov3 has it")]


def _terms(head: HeadSpec, loss: Loss) -> list[str]:
    """Further terms of the loss that need what the head does not predict."""
    lines = []
    for name, term in loss.terms.items():
        if isinstance(term, RefinedBoxTerm) and not head.refines:
            lines.append(_line(head, f"loss.terms.{name} needs a refined box, which the head does not predict"))
        elif isinstance(term, BoxTerm) and (lines_of := _coding(head, term.loss)):
            lines += lines_of
        elif isinstance(term, BoxTerm) and term.loss.space is Space.DISTRIBUTION and not head.regression_bins:
            reason = "needs a distribution over bins per side, the head predicts four numbers"
            lines.append(_line(head, f"loss.terms.{name}: {type(term.loss).__name__} {reason}"))
    return lines


def _box_weight(head: HeadSpec, assigner: Assigner | None, loss: Loss) -> list[str]:
    """A box weight that nothing provides."""
    if loss.box_weight is not BoxWeight.ASSIGNED or assigner is None or getattr(assigner, "gives_quality", False):
        return []
    reason = f"loss.box_weight=assigned needs an assigner that rates its positives, {type(assigner).__name__} does not"
    return [_choose(head, reason, RATING_ASSIGNERS)]


def _every_match(head: HeadSpec, assigner: Assigner | None, sampler: Sampler | None, loss: Loss) -> list[str]:
    """A loss for every match, where the assigner tells one per candidate or the sampler leaves candidates out."""
    if not loss.every_match:
        return []
    if assigner is not None and not hasattr(assigner, "matches"):
        reason = f"loss.every_match needs an assigner that tells all matches, {type(assigner).__name__} does not"
        return [_choose(head, reason, ("yolo_ratio", "yolov7_ota"))]
    if sampler is not None and not isinstance(sampler, AllSampler):
        return [
            _line(head, f"loss.every_match needs every candidate, {type(sampler).__name__} chooses; set sampler=all")
        ]
    return []


def _ranking(head: HeadSpec, sampler: Sampler | None, loss: Loss) -> list[str]:
    if sampler is None or loss.classification.ranks_slots or LOSSES not in sampler.needs:
        return []
    ranker, name = type(sampler).__name__, type(loss.classification).__name__
    reason = f"{ranker} ranks by the loss, but {name} gives every negative the same, 0"
    valid = [option for option, needs in SAMPLERS.items() if not _missing(head, needs) and LOSSES not in needs]
    return [_choose(head, reason, valid)]


def _choose(head: HeadSpec, reason: str, valid: Iterable[str]) -> str:
    return _line(head, f"{reason}; choose one of {', '.join(valid)}")


def _line(head: HeadSpec, text: str) -> str:
    return f"stage {head.stage}: {text}"
