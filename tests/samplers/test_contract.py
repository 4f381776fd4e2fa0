"""What every sampler of ``conf/sampler`` promises, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor

from harness.core.structures import Need, Predictions, Sampler, SamplingResult
from tests.samplers.scenes import CONF, NAMES, Scene, from_yaml, make_scene, odd_losses, over_tensors, scenes

BREAKS = {"ohem_paper", "matched_random"}  # NMS: the number of survivors is data
WAITS = BREAKS | {"score_hlr"}  # NMS again, inside of an operator
BREAKS_GRAPH = "(?i)graph break|unsupported|data.dependent"


def assert_valid(sample: SamplingResult, scene: Scene) -> None:
    """Shapes, kinds and ranges; every candidate once; nobody who is ignored or padded; no slot that is half used."""
    size = scene.noise.shape[-1]
    assert sample.index.shape == sample.positive.shape == sample.weight.shape
    assert sample.index.shape[:-1] == scene.noise.shape[:-1]
    assert sample.index.shape[-1] <= size
    assert (sample.index.dtype, sample.positive.dtype, sample.weight.dtype) == (torch.int64, torch.bool, torch.float32)
    assert not sample.weight.requires_grad
    if sample.index.numel() == 0:
        return
    assert sample.index.min() >= 0
    assert sample.index.max() < size
    assert torch.isfinite(sample.weight).all()
    assert (sample.weight >= 0).all()
    times = torch.zeros(scene.noise.shape).scatter_add(-1, sample.index, sample.used.float())
    assert times.max() <= 1, "a candidate was taken twice"
    of = sample.take(scene.assignment.gt_index)
    assert (sample.take(scene.candidates.valid) | ~sample.used).all(), "a padded candidate was taken"
    assert (of[sample.used] != -2).all(), "an ignored candidate was taken"
    assert torch.equal(sample.positive, sample.used & (of >= 0))
    if sample.in_order:
        assert torch.equal(sample.index, torch.arange(size).expand_as(sample.index))


def assert_equal(first: SamplingResult, second: SamplingResult) -> None:
    assert first.in_order == second.in_order
    for ours, other in zip(tensors(first), tensors(second), strict=True):
        assert torch.equal(ours, other)


def tensors(value: object) -> Iterator[Tensor]:
    found: list[Tensor] = []
    over_tensors(value, lambda tensor, _: found.append(tensor) or tensor)
    return iter(found)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def sampler(name: str) -> Sampler:
    return from_yaml(name)


def test_is_a_sampler_and_its_file_says_what_it_is(name: str, sampler: Sampler) -> None:
    assert isinstance(sampler, Sampler)
    assert set(sampler.needs) <= set(Need)
    first = (CONF / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(scene=scenes(), num=st.sampled_from((1, 4, 64)), pos_fraction=st.sampled_from((0.0, 0.25, 0.5, 1.0)))
def test_any_scene_gives_a_valid_sample(name: str, scene: Scene, num: int, pos_fraction: float) -> None:
    assert_valid(scene.sampled(from_yaml(name, num, pos_fraction)), scene)


def test_inputs_stay_as_they_were_and_the_same_noise_gives_the_same_sample(sampler: Sampler) -> None:
    scene = make_scene(1)
    before = [tensor.clone() for tensor in tensors(scene)]
    state = torch.random.get_rng_state()
    first = scene.sampled(sampler)
    assert_equal(first, scene.sampled(sampler))
    assert torch.equal(torch.random.get_rng_state(), state), "it drew numbers of its own"
    assert all(torch.equal(a, b) for a, b in zip(before, tensors(scene), strict=True))


def test_no_gradient(sampler: Sampler) -> None:
    scene = over_tensors(make_scene(2), lambda values, _: values.clone().requires_grad_(values.is_floating_point()))
    assert_valid(scene.sampled(sampler), scene)


@pytest.mark.parametrize("coarse", [False, True])
def test_one_image_equals_itself_in_a_padded_batch(sampler: Sampler, coarse: bool) -> None:
    batch = make_scene(3, batch=3, size=200, coarse=coarse)
    size = 130
    padded = torch.arange(200) >= size
    valid = batch.candidates.valid.clone()
    valid[1] &= ~padded
    gt_index = batch.assignment.gt_index.masked_fill(~valid, -2)
    batch = replace(
        batch,
        candidates=replace(batch.candidates, valid=valid),
        assignment=replace(batch.assignment, gt_index=gt_index),
    )
    inside = batch.sampled(sampler)
    alone, of_one = batch.image(1, size).sampled(sampler), batch.image(slice(1, 2)).sampled(sampler)
    for ours, single in zip(tensors(inside), tensors(of_one), strict=True):
        assert torch.equal(ours[1:2], single)
    slots = alone.index.shape[-1]
    for ours, single in zip(tensors(inside), tensors(alone), strict=True):
        assert torch.equal(ours[1, :slots], single)
    assert not inside.used[1, slots:].any()


def test_nothing_is_demanded_but_what_is_declared(sampler: Sampler) -> None:
    scene = make_scene(4)
    noise = scene.noise if Need.NOISE in sampler.needs else None
    losses = scene.losses if Need.LOSSES in sampler.needs else None
    candidates = scene.candidates
    if Need.PREDICTIONS not in sampler.needs:
        candidates = candidates.predicted(None)
    assert_equal(sampler(scene.truth, candidates, scene.assignment, noise=noise, losses=losses), scene.sampled(sampler))
    if noise is not None:
        with pytest.raises(ValueError, match="pass noise="):
            sampler(scene.truth, candidates, scene.assignment, losses=losses)
    if losses is not None:
        with pytest.raises(ValueError, match="pass losses="):
            sampler(scene.truth, candidates, scene.assignment, noise=noise)
    if Need.PREDICTIONS in sampler.needs:
        with pytest.raises(ValueError, match="needs the predictions"):
            sampler(scene.truth, candidates.predicted(None), scene.assignment, noise=noise, losses=losses)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_floats(sampler: Sampler, dtype: torch.dtype) -> None:
    scene = over_tensors(make_scene(5), lambda values, _: values.to(dtype) if values.is_floating_point() else values)
    assert_valid(scene.sampled(sampler), scene)
    if dtype is torch.float64:
        assert_equal(scene.sampled(sampler), make_scene(5).sampled(sampler))


def test_predictions_and_losses_that_are_not_finite(sampler: Sampler) -> None:
    scene = odd_losses(make_scene(6), 6)
    bad = torch.rand(scene.noise.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    predictions = scene.candidates.predictions
    assert predictions is not None
    broken = Predictions(
        predictions.scores.masked_fill(bad.unsqueeze(-1), torch.nan),
        predictions.boxes.masked_fill(bad.roll(1, -1).unsqueeze(-1), torch.inf),
    )
    scene = replace(scene, candidates=scene.candidates.predicted(broken))
    assert_valid(scene.sampled(sampler), scene)


def test_more_leading_dimensions(sampler: Sampler) -> None:
    scene = make_scene(7, batch=6)
    folded = over_tensors(scene, lambda values, _: values.unflatten(0, (2, 3)))
    unfolded = over_tensors(folded.sampled(sampler), lambda values, _: values.flatten(0, 1))
    assert_equal(unfolded, scene.sampled(sampler))


def test_compiles_without_a_graph_break(name: str, sampler: Sampler) -> None:
    torch.compiler.reset()
    if name in BREAKS:
        with torch._dynamo.config.patch(verbose=False), pytest.raises(Exception, match=BREAKS_GRAPH):
            make_scene(8).sampled(torch.compile(sampler.__call__, fullgraph=True, backend="eager"))
        return
    compiled = torch.compile(sampler.__call__, fullgraph=True, backend="eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for size in (40, 77):
            scene = make_scene(8, size=size, objects=size // 10)
            assert_equal(scene.sampled(compiled), scene.sampled(sampler))


def test_many_candidates_compile_too() -> None:
    """The choice among chunks of many candidates."""
    torch.compiler.reset()
    sampler = from_yaml("random")
    compiled = torch.compile(sampler.__call__, fullgraph=True, backend="eager", dynamic=True)
    for size in (3000, 3100):
        scene = make_scene(8, size=size)
        assert_equal(scene.sampled(compiled), scene.sampled(sampler))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_as_on_the_cpu(name: str, sampler: Sampler) -> None:
    scene = make_scene(9, size=300)
    there = over_tensors(scene, lambda values, _: values.cuda())
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("default" if name in WAITS else "error")
    try:
        found = there.sampled(sampler)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = scene.sampled(sampler)
    for ours, other in zip(tensors(found), tensors(expected), strict=True):
        torch.testing.assert_close(ours.cpu(), other)


@pytest.mark.slow
def test_inductor_gives_the_eager_answer(name: str, sampler: Sampler) -> None:
    if name in BREAKS:
        return
    torch.compiler.reset()
    compiled = torch.compile(sampler.__call__, fullgraph=True, dynamic=True)
    for size in (40, 300):
        scene = make_scene(8, size=size)
        ours, eager = scene.sampled(compiled), scene.sampled(sampler)
        assert torch.equal(ours.index, eager.index)
        assert torch.equal(ours.positive, eager.positive)
        torch.testing.assert_close(ours.weight, eager.weight)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num", -1, r"num=-1 must be a whole number of at least 1"),
        ("num", 0, r"num=0 must be"),
        ("num", 2.5, r"num=2.5 must be"),
        ("pos_fraction", 2, r"pos_fraction=2 must be between 0 and 1"),
        ("pos_fraction", float("nan"), r"pos_fraction=nan must be"),
        ("neg_pos_ub", -0.5, r"neg_pos_ub=-0.5 must be at least 0, or -1"),
        ("nms_thr", 1.5, r"nms_thr=1.5 must be between 0 and 1"),
        ("rank_by", "box", r"rank_by='box' must be one of cls, total"),
        ("floor_thr", -0.2, r"floor_thr=-0.2 must be at least 0 and below 1, or -1"),
        ("floor_fraction", 1.1, r"floor_fraction=1.1 must be"),
        ("num_bins", 0, r"num_bins=0 must be"),
        ("neg_pos_ratio", -3, r"neg_pos_ratio=-3 must be at least 0"),
        ("fraction", 0, r"fraction=0 must be above 0 and at most 1"),
        ("fraction", 1.2, r"fraction=1.2 must be above 0 and at most 1"),
        ("k", -1, r"k=-1 must be"),
        ("bias", 2, r"bias=2 must be"),
        ("score_thr", -1, r"score_thr=-1 must be"),
        ("iou_thr", 7, r"iou_thr=7 must be"),
        ("nms_pre", 0, r"nms_pre=0 must be"),
    ],
)
def test_bad_values_are_refused_in_one_line(key: str, value: float, message: str) -> None:
    having = [name for name in NAMES if key in OmegaConf.load(CONF / f"{name}.yaml")]
    assert having, f"no sampler has {key}"
    for name in having:
        with pytest.raises(Exception, match=message) as error:
            from_yaml(name, **{key: value})
        cause = error.value.__cause__
        assert isinstance(cause, ValueError)
        assert "\n" not in str(cause)
