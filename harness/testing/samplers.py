"""The contract of a sampler."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.core.structures import IGNORED, Need, Predictions, Sampler, SamplingResult
from harness.testing.contract import broken_as, demand, demand_object, equal, left_alone, over_tensors, tensors
from harness.testing.sampling_scenes import SamplingScene, every_scene, make_scene, odd_losses

MESSAGES = {Need.NOISE: "noise", Need.LOSSES: "losses", Need.PREDICTIONS: "predictions"}


def check_sampler(sampler: Sampler, *, compiles: bool = True) -> None:
    """Runs the contract of a sampler: :class:`~harness.core.structures.Sampler` says what it is given and returns.

    In any scene, also without objects or candidates: shapes and dtypes; slots in range and unique; padded and ignored
    candidates never sampled; weights finite and not negative, 0 in unused slots. Inputs stay as they were, nothing is
    drawn but the noise that is given, the same noise gives the same sample, and no gradient flows. One image equals a
    batch of one and itself in a padded batch (a sampler that declares ``Need.BATCH``: a batch of one only). Only what
    is declared is needed, and what is missing is named in a ValueError. Other float types and more leading dimensions
    work. It compiles without a graph break.

    Args:
        sampler: the sampler; a small quota (16 of 40 candidates) tests more than a large one.
        compiles: False for a sampler whose docstring says that it breaks the graph.

    Raises:
        ContractError: a promise is broken.
    """
    for check in (_declares, _any_scene, _pure, _no_gradient, _image_by_image, _needs, _floats, _leading):
        check(sampler)
    if compiles:
        _compiles(sampler)


def demand_valid(sample: SamplingResult, scene: SamplingScene) -> None:
    """Demands the shapes, types and ranges of a result; no candidate twice, none that is ignored or padded."""
    size = scene.noise.shape[-1]
    index, positive, weight = sample.index, sample.positive, sample.weight
    demand(index.shape == positive.shape == weight.shape, "index, positive and weight have one shape (*, S)")
    demand(index.shape[:-1] == scene.noise.shape[:-1], "the result has the leading dimensions of the candidates")
    demand(index.shape[-1] <= size, "there are at most as many slots as candidates")
    demand(index.dtype == torch.int64, f"index is int64, not {index.dtype}")
    demand(positive.dtype == torch.bool, f"positive is bool, not {positive.dtype}")
    demand(weight.dtype == torch.float32, f"weight is float32 whatever the losses are, not {weight.dtype}")
    demand(not weight.requires_grad, "the weight carries no gradient")
    if index.numel() == 0:
        return
    demand(index.min() >= 0 and index.max() < size, "every slot's index is a candidate's, also where it is unused")
    demand(weight.isfinite().all() and (weight >= 0).all(), "weights are finite and not negative")
    times = torch.zeros(scene.noise.shape).scatter_add(-1, index, sample.used.float())
    demand(times.max() <= 1, "no candidate is in two used slots")
    gt_index = sample.take(scene.assignment.gt_index)
    demand((sample.take(scene.candidates.valid) | ~sample.used).all(), "padded candidates are never sampled")
    demand(((gt_index != IGNORED) | ~sample.used).all(), "ignored candidates are never sampled")
    demand(torch.equal(positive, sample.used & (gt_index >= 0)), "positive says which used slots have an object")
    if sample.in_order:
        demand(torch.equal(index, torch.arange(size).expand_as(index)), "in_order means that slot s is candidate s")


def _declares(sampler: Sampler) -> None:
    demand_object(sampler, Sampler, "a sampler is callable and has `needs` and `add_gt_as_proposals`")
    demand(set(sampler.needs) <= set(Need), f"needs={sampler.needs!r} is a frozenset of Need")


def _any_scene(sampler: Sampler) -> None:
    for name, scene in every_scene():
        with broken_as(f"with {name}"):
            demand_valid(scene.sampled(sampler), scene)
    scene = odd_losses(make_scene(6), 6)
    bad = torch.rand(scene.noise.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    predictions = scene.candidates.predictions_for("check_sampler")
    broken = Predictions(
        predictions.scores.masked_fill(bad.unsqueeze(-1), torch.nan),
        predictions.boxes.masked_fill(bad.roll(1, -1).unsqueeze(-1), torch.inf),
    )
    with broken_as("with predictions that are not finite"):
        candidates = scene.candidates.predicted(broken)
        found = sampler(scene.truth, candidates, scene.assignment, noise=scene.noise, losses=scene.losses)
        demand_valid(found, scene)


def _pure(sampler: Sampler) -> None:
    scene = make_scene(1)
    with left_alone(scene):
        first = scene.sampled(sampler)
        demand(equal(first, scene.sampled(sampler)), "the same scene and noise give the same sample")


def _no_gradient(sampler: Sampler) -> None:
    def tracked(values: Tensor, _: bool) -> Tensor:
        return values.clone().requires_grad_(values.is_floating_point())

    scene = over_tensors(make_scene(2), tracked)
    with broken_as("with inputs that require a gradient"):
        demand_valid(scene.sampled(sampler), scene)


def _image_by_image(sampler: Sampler) -> None:
    for coarse in (False, True):
        what = "ties go to the lower index; " if coarse else ""
        batch = make_scene(3, batch=3, size=200, coarse=coarse).padded(image=1, size=130)
        alone, of_one = batch.image(1, 130), batch.image(slice(1, 2))
        single, one = alone.sampled(sampler), of_one.sampled(sampler)
        slots = single.index.shape[-1]
        pairs = list(zip(tensors(one), tensors(single), strict=True))
        same = all(torch.equal(values[0, :slots], other) for values, other in pairs)
        demand(same, f"{what}an image alone gives what it gives with padding in a batch of one")
        demand(not one.used[0, slots:].any(), "padding takes no slot")
        if Need.BATCH in sampler.needs:
            continue
        inside = batch.sampled(sampler)
        pairs = list(zip(tensors(inside), tensors(one), strict=True))
        same = all(torch.equal(values[1:2], other) for values, other in pairs)
        demand(same, f"{what}an image gives the same in a batch of several (else declare Need.BATCH)")


def _needs(sampler: Sampler) -> None:
    scene = make_scene(4)
    given: dict[str, Tensor | object | None] = {
        "noise": scene.noise if Need.NOISE in sampler.needs else None,
        "losses": scene.losses if Need.LOSSES in sampler.needs else None,
    }
    candidates = scene.candidates if Need.PREDICTIONS in sampler.needs else scene.candidates.predicted(None)

    def sampled(**missing: object) -> SamplingResult:
        chosen = missing.pop("candidates", candidates)
        return sampler(scene.truth, chosen, scene.assignment, **{**given, **missing})  # type: ignore[arg-type]

    with broken_as(f"with nothing but what it needs ({', '.join(sorted(sampler.needs)) or 'nothing'})"):
        demand(equal(sampled(), scene.sampled(sampler)), "what is not among its needs changes nothing")
    lacking: dict[Need, Callable[[], SamplingResult]] = {
        Need.NOISE: lambda: sampled(noise=None),
        Need.LOSSES: lambda: sampled(losses=None),
        Need.PREDICTIONS: lambda: sampled(candidates=scene.candidates.predicted(None)),
    }
    for need, call in lacking.items():
        if need in sampler.needs:
            _refuses(call, MESSAGES[need])


def _refuses(call: Callable[[], SamplingResult], missing: str) -> None:
    try:
        call()
    except ValueError as error:
        demand(missing in str(error), f"the ValueError without {missing} names them: {error}")
    except Exception as error:
        demand(False, f"without {missing}, which it needs, it raises a ValueError, not {type(error).__name__}: {error}")
    else:
        demand(False, f"without {missing}, which it needs, it raises a ValueError")


def _floats(sampler: Sampler) -> None:
    for dtype in (torch.bfloat16, torch.float64):

        def cast(values: Tensor, _: bool, dtype: torch.dtype = dtype) -> Tensor:
            return values.to(dtype) if values.is_floating_point() else values

        scene = over_tensors(make_scene(5), cast)
        with broken_as(f"with numbers in {dtype}"):
            demand_valid(scene.sampled(sampler), scene)


def _leading(sampler: Sampler) -> None:
    scene = make_scene(7, batch=6)
    with broken_as("with two leading dimensions"):
        folded = over_tensors(scene, lambda values, _: values.unflatten(0, (2, 3))).sampled(sampler)
        flat = over_tensors(folded, lambda values, _: values.flatten(0, 1))
        demand(equal(flat, scene.sampled(sampler)), "they are a batch like one leading dimension")


def _compiles(sampler: Sampler) -> None:
    torch.compiler.reset()
    compiled = torch.compile(sampler.__call__, fullgraph=True, backend="eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True), broken_as("compiled (fullgraph, dynamic shapes)"):
        for size in (40, 77):
            scene = make_scene(8, size=size, objects=size // 10)
            demand(equal(scene.sampled(compiled), scene.sampled(sampler)), "it gives the same as uncompiled")
