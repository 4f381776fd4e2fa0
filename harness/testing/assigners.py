"""The contract of an assigner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.core.boxes import pairwise_iou
from harness.core.structures import (
    IGNORED,
    NEGATIVE,
    Assigner,
    Assignment,
    CandidateLosses,
    Candidates,
    GroundTruth,
    LossAwareAssigner,
    Need,
    Predictions,
    Sampler,
)
from harness.testing.assignment_scenes import DTYPES, KINDS, padded_batch, scene
from harness.testing.contract import broken_as, demand, demand_object, equal, left_alone, over_tensors, tensors


def check_assigner(assigner: Assigner, *, compiles: bool = True) -> None:
    """Runs the contract of an assigner: :class:`~harness.core.structures.Assigner` says what it is given and returns.

    In scenes of every kind (ties, duplicates, objects without area or outside of the image, crowd regions, padding,
    other float types), also without objects or candidates: shapes and dtypes; only real objects are matched; padding is
    ignored; without objects everything is negative; ``max_iou`` is the IoU with the best object, ``quality`` in [0, 1].
    Predictions that are not finite do no harm. Inputs stay as they were, and no gradient flows. One image equals itself
    in a padded batch, bit for bit; more leading dimensions work. Nothing waits for the device, and it compiles without
    a graph break.

    The candidates of the scenes are points of three strides with predictions, levels and strides. An assigner of two
    passes (``Need.LOSSES``) goes through both.

    Args:
        assigner: the assigner, for three classes.
        compiles: False for an assigner whose docstring says that it leaves the device.

    Raises:
        ContractError: a promise is broken.
    """
    for check in (_declares, _any_scene, _nothing, _pure, _no_gradient, _image_by_image, _leading, _odd_predictions):
        check(assigner)
    if compiles:
        _stays_on_the_device(assigner)
        _compiles(assigner)


def assigned(assigner: Assigner, truth: GroundTruth, candidates: Candidates) -> Assignment:
    """Both passes of an assigner that has two; its losses are made of the candidates' scores."""
    proposed = assigner(truth, candidates)
    if Need.LOSSES not in assigner.needs:
        return proposed
    scores = candidates.predictions_for("check_assigner").scores
    losses = CandidateLosses(1 - scores[..., 0], scores[..., 1] * proposed.positive)
    return cast(LossAwareAssigner, assigner).refine(truth, candidates, proposed, losses)


def demand_sound(found: Assignment, truth: GroundTruth, candidates: Candidates) -> None:
    """Demands the shapes, types and ranges of an assignment."""
    shape, objects = candidates.valid.shape, truth.valid.shape[-1]
    demand(found.gt_index.shape == found.max_iou.shape == shape, "gt_index and max_iou have the shape (*, N)")
    demand(found.gt_index.dtype == torch.int64, f"gt_index is int64, not {found.gt_index.dtype}")
    demand(found.max_iou.dtype in (torch.float32, torch.float64), f"max_iou is float32, not {found.max_iou.dtype}")
    inside = (found.gt_index >= IGNORED) & (found.gt_index < max(objects, 1))
    demand(inside.all(), "gt_index is an object's number, NEGATIVE (-1) or IGNORED (-2)")
    demand((found.gt_index[~candidates.valid] == IGNORED).all(), "padded candidates are ignored")
    expected = torch.zeros(shape)
    if objects:
        owner = found.gt_index.clamp(min=0)
        demand(truth.matchable.gather(-1, owner)[found.positive].all(), "padding and crowd regions are never matched")
        pairs = pairwise_iou(truth.boxes.float(), candidates.boxes.float())
        expected = torch.where(truth.matchable.unsqueeze(-1), pairs, 0).amax(-2) * candidates.valid
    else:
        demand(not found.positive.any(), "without objects nothing is positive")
    same = torch.allclose(found.max_iou.float(), expected, rtol=1e-5, atol=1e-6)
    demand(
        same, "max_iou is the IoU, in float32, of the candidate's box with its best object that is no crowd; 0 without"
    )
    if found.quality is not None:
        demand(found.quality.shape == shape, "quality has the shape (*, N)")
        demand(((found.quality >= 0) & (found.quality <= 1)).all(), "quality is in [0, 1]")


def _declares(assigner: Assigner) -> None:
    demand_object(assigner, Assigner, "an assigner is callable and has `needs`")
    demand(not isinstance(assigner, Sampler), f"{type(assigner).__name__} is a sampler: check_sampler checks it")
    demand(set(assigner.needs) <= set(Need), f"needs={assigner.needs!r} is a frozenset of Need")
    two_passes = Need.LOSSES not in assigner.needs or isinstance(assigner, LossAwareAssigner)
    demand(two_passes, "an assigner that needs losses has a second pass, `refine`")


def _any_scene(assigner: Assigner) -> None:
    for number, kind in enumerate(KINDS):
        for objects, count in ((1, None), (6, None), (6, 2), (3, 1)):
            drawn = scene(number, kind, objects, count)
            with broken_as(f"with {objects} objects and {len(drawn[1].boxes)} candidates ({kind})"):
                demand_sound(assigned(assigner, *drawn), *drawn)
    for dtype in DTYPES:
        drawn = scene(11, objects=5, dtype=dtype)
        with broken_as(f"with numbers in {dtype}"):
            demand_sound(assigned(assigner, *drawn), *drawn)
    truth, candidates = scene(4, objects=5)
    truth = replace(truth, crowd=torch.ones_like(truth.crowd))
    with broken_as("where all objects are crowd regions"):
        demand_sound(assigned(assigner, truth, candidates), truth, candidates)


def _nothing(assigner: Assigner) -> None:
    empty, hidden = scene(0, objects=0), scene(0, "all_padded", objects=3)
    for name, truth in (("without objects", empty[0]), ("where all objects are padding", hidden[0])):
        with broken_as(name):
            found = assigned(assigner, truth, empty[1])
            demand((found.gt_index == NEGATIVE).all() and (found.max_iou == 0).all(), "everything is negative")
    for objects in (0, 1, 3):
        with broken_as(f"without candidates, with {objects} objects"):
            found = assigned(assigner, *scene(0, objects=objects, count=0))
            demand(found.gt_index.shape == found.max_iou.shape == (0,), "the assignment is empty")


def _pure(assigner: Assigner) -> None:
    drawn = padded_batch([scene(1, "padded"), scene(2, "crowd")])
    with left_alone(*drawn):
        first = assigned(assigner, *drawn)
        demand(equal(first, assigned(assigner, *drawn)), "the same inputs give the same assignment")


def _no_gradient(assigner: Assigner) -> None:
    truth, candidates = scene(1)
    predictions = candidates.predictions_for("check_assigner")
    tracked = Predictions(predictions.scores.requires_grad_(), predictions.boxes.requires_grad_())
    found = assigned(assigner, truth, replace(candidates, boxes=candidates.boxes.requires_grad_(), predictions=tracked))
    demand(not any(t.requires_grad for t in tensors(found)), "the assignment carries no gradient")


def _image_by_image(assigner: Assigner) -> None:
    for kinds in (("plain", "ties", "duplicates"), ("no_area", "crowd", "padded"), ("outside", "ties", "plain")):
        images = [
            scene(7 + i, kind, objects=1 + 4 * i, count=count)
            for i, (kind, count) in enumerate(zip(kinds, (None, 40, 9), strict=True))
        ]
        together = assigned(assigner, *padded_batch(images))
        for i, (truth, candidates) in enumerate(images):
            alone, count = assigned(assigner, truth, candidates), len(candidates.boxes)
            quality = None if together.quality is None else together.quality[i, :count]
            part = Assignment(together.gt_index[i, :count], together.max_iou[i, :count], quality)
            demand(equal(alone, part), f"one image ({kinds[i]}) alone equals the same in a padded batch")
            demand((together.gt_index[i, count:] == IGNORED).all(), "padding of a batch is ignored")


def _leading(assigner: Assigner) -> None:
    drawn = padded_batch([scene(i, objects=2 + i) for i in range(4)])
    with broken_as("with two leading dimensions"):
        folded = [over_tensors(value, lambda values, _: values.unflatten(0, (2, 2))) for value in drawn]
        found = assigned(assigner, *cast(tuple[GroundTruth, Candidates], tuple(folded)))
        flat = over_tensors(found, lambda values, _: values.flatten(0, 1))
        demand(equal(flat, assigned(assigner, *drawn)), "they are a batch like one leading dimension")


def _odd_predictions(assigner: Assigner) -> None:
    truth, candidates = scene(2, objects=4)
    predictions = candidates.predictions_for("check_assigner")
    for value in (float("nan"), float("inf")):
        scores, boxes = predictions.scores.clone(), predictions.boxes.clone()
        scores[::5], boxes[2::7] = value, value
        broken = candidates.predicted(Predictions(scores, boxes))
        with broken_as(f"with predictions of {value}"):
            demand_sound(assigned(assigner, truth, broken), truth, broken)


class NoWaiting(TorchDispatchMode):
    """Refuses every operation that waits for the device: reading a number, sizes that depend on values, a new tensor of
    the host's numbers."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "lift_fresh")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        demand(name not in self.WAITING, f"nothing waits for the device, but {name} does")
        if name in ("index", "index_put", "index_put_"):
            masks = any(i is not None and i.dtype == torch.bool for i in args[1])
            demand(not masks, f"nothing waits for the device, but {name} with a mask does")
        return func(*args, **(kwargs or {}))


def _stays_on_the_device(assigner: Assigner) -> None:
    drawn = padded_batch([scene(1, "crowd"), scene(2, "padded", objects=6)])
    with NoWaiting():
        assigned(assigner, *drawn)


def _compiles(assigner: Assigner) -> None:
    torch.compiler.reset()

    def call(truth: GroundTruth, candidates: Candidates) -> Assignment:
        return assigned(assigner, truth, candidates)

    program: Callable[..., Assignment] = torch.compile(call, fullgraph=True, dynamic=True, backend="eager")
    for images, objects in ((2, 4), (3, 6)):
        drawn = padded_batch([scene(i, "padded", objects=objects + i) for i in range(images)])
        with broken_as("compiled (fullgraph, dynamic shapes)"):
            demand(equal(program(*drawn), assigned(assigner, *drawn)), "it gives the same as uncompiled")
