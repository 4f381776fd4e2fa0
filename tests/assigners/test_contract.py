"""What every assigner owes, for every choice in ``conf/assigner``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn.functional import pad
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
)
from tests.assigners.scenes import CLASSES, DTYPES, KINDS, STRIDES, scene

CONF = Path(__file__).parents[2] / "conf" / "assigner"
CHOICES = sorted(path.stem for path in CONF.glob("*.yaml"))
# These say in their docstrings that they leave the device.
LEAVES_THE_DEVICE = {"hungarian", "topk_hungarian"}
STAYING = [choice for choice in CHOICES if choice not in LEAVES_THE_DEVICE]
# A loop of a fixed number of rounds compiles to as many copies of its body: a few prove the same.
FEW_ROUNDS = {"paa": {"max_iter": 3}, "ota": {"sinkhorn_iter": 3}}

# What the stage of a detector provides beside the choice.
MATCHING = {"pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0.2, "match_low_quality": True}

Batch = tuple[GroundTruth, Candidates]


@cache
def composed(choice: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        return compose(choice)


def build(choice: str, **changes: Any) -> Assigner:
    shared = {"matching": MATCHING, "run": {"memory_bound": 2**30}, "point_scale": 4.0}
    stage = OmegaConf.create({**shared, "assigner": composed(choice)})
    stage.assigner.update(changes)
    return instantiate(stage.assigner)


def run(assigner: Assigner, truth: GroundTruth, candidates: Candidates) -> Assignment:
    """Both passes of those that have two; their losses are made of the candidates themselves."""
    proposed = assigner(truth, candidates)
    if Need.LOSSES not in assigner.needs:
        return proposed
    assert isinstance(assigner, LossAwareAssigner)
    assert candidates.predictions is not None
    scores = candidates.predictions.scores
    losses = CandidateLosses(1 - scores[..., 0], scores[..., 1] * proposed.positive)
    return assigner.refine(truth, candidates, proposed, losses)


def batch(scenes: Sequence[Batch]) -> Batch:
    """Images of different numbers of objects and candidates in one padded batch, nonsense in the padding."""
    most_objects = max(truth.boxes.shape[0] for truth, _ in scenes) + 2
    most = max(len(candidates.boxes) for _, candidates in scenes) + 3

    def stack(tensors: Sequence[Tensor], size: int, value: float) -> Tensor:
        filled = [pad(t, (0, 0) * (t.dim() - 1) + (0, size - len(t)), value=value) for t in tensors]
        return torch.stack(filled)

    truth = GroundTruth(
        boxes=stack([t.boxes for t, _ in scenes], most_objects, 37.0),
        labels=stack([t.labels for t, _ in scenes], most_objects, 1),
        valid=stack([t.valid for t, _ in scenes], most_objects, False),
        crowd=stack([t.crowd for t, _ in scenes], most_objects, False),
    )
    longest = max((candidates for _, candidates in scenes), key=lambda c: len(c.boxes))
    assert longest.level is not None
    assert longest.stride is not None
    predictions = [c.predictions for _, c in scenes if c.predictions is not None]
    candidates = Candidates(
        boxes=stack([c.boxes for _, c in scenes], most, 21.0),
        valid=stack([c.valid for _, c in scenes], most, False),
        level=pad(longest.level, (0, most - len(longest.level)), value=1),
        stride=pad(longest.stride, (0, most - len(longest.stride)), value=16.0),
        num_levels=len(STRIDES),
        predictions=Predictions(
            scores=stack([p.scores for p in predictions], most, 0.9),
            boxes=stack([p.boxes for p in predictions], most, 33.0),
        ),
    )
    return truth, candidates


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for f in fields(value) for t in tensors(getattr(value, f.name))] if is_dataclass(value) else []


def assert_equal(one: Assignment, other: Assignment) -> None:
    """Bit for bit."""
    assert torch.equal(one.gt_index, other.gt_index)
    assert torch.equal(one.max_iou, other.max_iou)
    assert (one.quality is None) == (other.quality is None)
    if one.quality is not None and other.quality is not None:
        assert torch.equal(one.quality, other.quality)


def assert_sound(found: Assignment, truth: GroundTruth, candidates: Candidates) -> None:
    """Shapes, types, ranges; only real objects; padding ignored; the IoU with the best object."""
    shape = candidates.valid.shape
    assert found.gt_index.shape == found.max_iou.shape == shape
    assert found.gt_index.dtype == torch.int64
    assert found.max_iou.is_floating_point()
    assert ((found.gt_index >= IGNORED) & (found.gt_index < max(truth.valid.shape[-1], 1))).all()
    assert (found.gt_index[~candidates.valid] == IGNORED).all()
    if truth.valid.shape[-1]:
        owner = found.gt_index.clamp(min=0)
        assert truth.matchable.gather(-1, owner)[found.positive].all(), "matched to padding or to a crowd region"
    else:
        assert not found.positive.any()
    assert_best_iou(found, truth, candidates)
    if found.quality is not None:
        assert found.quality.shape == shape
        assert ((found.quality >= 0) & (found.quality <= 1)).all()


def assert_best_iou(found: Assignment, truth: GroundTruth, candidates: Candidates) -> None:
    expected = torch.zeros(candidates.valid.shape)
    if truth.valid.shape[-1]:
        pairs = pairwise_iou(truth.boxes.float(), candidates.boxes.float())
        expected = pairs.where(truth.matchable.unsqueeze(-1), torch.tensor(0.0)).amax(-2) * candidates.valid
    torch.testing.assert_close(found.max_iou.float(), expected, rtol=1e-5, atol=1e-6)


class NoWaiting(TorchDispatchMode):
    """Refuses every operation that waits for the device: reading a number, sizes that depend on values, a new tensor of
    the host's numbers."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "lift_fresh")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in self.WAITING, f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            assert not any(i is not None and i.dtype == torch.bool for i in args[1]), f"{name} with a mask waits"
        return func(*args, **(kwargs or {}))


@pytest.fixture(params=CHOICES)
def choice(request: pytest.FixtureRequest) -> str:
    return request.param


def test_there_are_choices() -> None:
    assert {"max_iou", "torchvision", "ssd", "atss", "center_region", "fcos", "uniform", "grid", "yolo_ratio"} <= set(
        CHOICES
    )


def test_is_an_assigner(choice: str) -> None:
    assigner = build(choice)
    assert isinstance(assigner, Assigner)
    assert isinstance(assigner.needs, frozenset)
    assert all(isinstance(need, Need) for need in assigner.needs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objects", [1, 6])
def test_every_kind_of_scene(choice: str, kind: str, objects: int) -> None:
    assigner = build(choice)
    for seed in range(3):
        drawn = scene(seed, kind, objects)
        assert_sound(run(assigner, *drawn), *drawn)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_precision(choice: str, dtype: torch.dtype) -> None:
    drawn = scene(11, objects=5, dtype=dtype)
    found = run(build(choice), *drawn)
    assert_sound(found, *drawn)
    assert found.max_iou.dtype in (torch.float32, torch.float64)


def test_no_objects(choice: str) -> None:
    assigner = build(choice)
    empty, hidden = scene(0, objects=0), scene(0, "all_padded", objects=3)
    for truth, candidates in (empty, (hidden[0], empty[1])):
        found = run(assigner, truth, candidates)
        assert (found.gt_index == NEGATIVE).all()
        assert (found.max_iou == 0).all()


@pytest.mark.parametrize("objects", [0, 1, 3])
def test_no_candidates(choice: str, objects: int) -> None:
    found = run(build(choice), *scene(0, objects=objects, count=0))
    assert found.gt_index.shape == found.max_iou.shape == (0,)


@pytest.mark.parametrize("count", [1, 2])
def test_few_candidates(choice: str, count: int) -> None:
    drawn = scene(3, "duplicates", objects=5, count=count)
    assert_sound(run(build(choice), *drawn), *drawn)


def test_a_thousand_objects(choice: str) -> None:
    drawn = scene(5, objects=1000, count=30)
    assert_sound(run(build(choice), *drawn), *drawn)


def test_inputs_stay_as_they_were(choice: str) -> None:
    truth, candidates = batch([scene(1, "padded"), scene(2, "crowd")])
    before = [t.clone() for t in (*tensors(truth), *tensors(candidates))]
    run(build(choice), truth, candidates)
    assert all(torch.equal(a, b) for a, b in zip(before, (*tensors(truth), *tensors(candidates)), strict=True))


def test_no_gradient(choice: str) -> None:
    truth, candidates = scene(1)
    candidates = replace(candidates, boxes=candidates.boxes.requires_grad_())
    found = run(build(choice), truth, candidates)
    assert not any(t.requires_grad for t in tensors(found))


@pytest.mark.parametrize(
    "kinds", [("plain", "ties", "duplicates"), ("no_area", "crowd", "padded"), ("outside", "ties")]
)
def test_one_image_alone_equals_the_same_in_a_padded_batch(choice: str, kinds: tuple[str, ...]) -> None:
    assigner = build(choice)
    counts = (None, 40, 9)
    images = [
        scene(7 + i, kind, objects=1 + 4 * i, count=count)
        for i, (kind, count) in enumerate(zip(kinds, counts, strict=False))
    ]
    together = run(assigner, *batch(images))
    for i, (truth, candidates) in enumerate(images):
        alone, count = run(assigner, truth, candidates), len(candidates.boxes)
        quality = None if together.quality is None else together.quality[i, :count]
        assert_equal(alone, Assignment(together.gt_index[i, :count], together.max_iou[i, :count], quality))
        assert (together.gt_index[i, count:] == IGNORED).all()


def test_more_leading_dimensions(choice: str) -> None:
    assigner = build(choice)
    truth, candidates = batch([scene(i, objects=2 + i) for i in range(4)])
    flat = run(assigner, truth, candidates)

    def nested(value: Any) -> Any:
        changes = {}
        for f in fields(value):
            entry = getattr(value, f.name)
            if f.name not in ("level", "stride"):
                changes[f.name] = entry.unflatten(0, (2, 2)) if isinstance(entry, Tensor) else entry
        if isinstance(value, Candidates) and value.predictions is not None:
            changes["predictions"] = nested(value.predictions)
        return replace(value, **changes)

    found = run(assigner, nested(truth), nested(candidates))
    assert torch.equal(found.gt_index, flat.gt_index.unflatten(0, (2, 2)))
    assert torch.equal(found.max_iou, flat.max_iou.unflatten(0, (2, 2)))


def test_the_same_within_a_small_memory_bound(choice: str) -> None:
    drawn = batch([scene(i, kind, objects=2 + i) for i, kind in enumerate(("plain", "ties", "crowd"))])
    expected = run(build(choice), *drawn)
    for memory_bound in (1, 5_000):
        assert_equal(run(build(choice, memory_bound=memory_bound), *drawn), expected)


def test_crowd_regions_are_never_matched(choice: str) -> None:
    truth, candidates = scene(4, objects=5)
    truth = replace(truth, crowd=torch.ones_like(truth.crowd))
    found = run(build(choice), truth, candidates)
    assert not found.positive.any()
    assert (found.max_iou == 0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite(choice: str, value: float) -> None:
    assigner = build(choice)
    truth, candidates = scene(2, objects=4)
    assert candidates.predictions is not None
    scores, boxes = candidates.predictions.scores.clone(), candidates.predictions.boxes.clone()
    scores[::5] = value
    boxes[2::7] = value
    broken = candidates.predicted(Predictions(scores, boxes))
    found = run(assigner, truth, broken)
    assert_sound(found, truth, broken)
    if Need.PREDICTIONS in assigner.needs and choice != "uniform":  # YOLOF also matches the anchors themselves
        bad = ~(scores.isfinite().all(-1) & boxes.isfinite().all(-1))
        assert not found.positive[bad].any()


@pytest.mark.parametrize("choice", STAYING)
def test_nothing_waits_for_the_device(choice: str) -> None:
    assigner, drawn = build(choice), batch([scene(1, "crowd"), scene(2, "padded", objects=6)])
    with NoWaiting():
        run(assigner, *drawn)


def compiled(assigner: Assigner) -> Callable[..., Assignment]:
    def call(truth: GroundTruth, candidates: Candidates) -> Assignment:
        return run(assigner, truth, candidates)

    return torch.compile(call, fullgraph=True, dynamic=True, backend="eager")


@pytest.mark.parametrize("choice", STAYING)
def test_compiles_without_a_graph_break(choice: str) -> None:
    torch.compiler.reset()
    assigner = build(choice, **FEW_ROUNDS.get(choice, {}))
    program = compiled(assigner)
    for images, objects in ((2, 4), (3, 6)):
        drawn = batch([scene(i, "padded", objects=objects + i) for i in range(images)])
        assert_equal(program(*drawn), run(assigner, *drawn))


@pytest.mark.slow
@pytest.mark.parametrize("choice", STAYING)
def test_compiled_to_machine_code(choice: str) -> None:
    torch.compiler.reset()
    assigner = build(choice, **FEW_ROUNDS.get(choice, {}))
    program = torch.compile(lambda t, c: run(assigner, t, c), fullgraph=True, dynamic=True)
    drawn = batch([scene(1, "padded", objects=4), scene(2, objects=7)])
    found, expected = program(*drawn), run(assigner, *drawn)
    assert (found.gt_index == expected.gt_index).float().mean() > 0.99  # fused sums may round differently
    torch.testing.assert_close(found.max_iou, expected.max_iou)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_as_on_the_cpu(choice: str) -> None:
    assigner, drawn = build(choice), batch([scene(1, "crowd"), scene(2, "padded", objects=6)])
    expected = run(assigner, *drawn)

    def there(value: Any) -> Any:
        changes = {}
        for f in fields(value):
            entry = getattr(value, f.name)
            changes[f.name] = entry.cuda() if isinstance(entry, Tensor) else entry
            changes[f.name] = there(entry) if is_dataclass(entry) else changes[f.name]
        return replace(value, **changes)

    truth, candidates = there(drawn[0]), there(drawn[1])
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("default" if choice in LEAVES_THE_DEVICE else "error")
    try:
        found = run(assigner, truth, candidates)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (found.gt_index.cpu() == expected.gt_index).float().mean() > 0.98  # exact ties of the device's rounding
    torch.testing.assert_close(found.max_iou.cpu(), expected.max_iou)


def test_scores_have_the_classes_of_the_labels() -> None:
    truth, candidates = scene(0)
    assert candidates.predictions is not None
    assert candidates.predictions.scores.shape[-1] == CLASSES > truth.labels.max()
