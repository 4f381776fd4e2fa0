"""What every sampler of ``conf/sampler`` promises, whatever it is: :func:`harness.testing.check_sampler`, and more."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from harness.core.structures import Sampler
from harness.testing import check_sampler
from harness.testing.contract import equal, over_tensors, tensors
from harness.testing.samplers import demand_valid
from tests.samplers.scenes import CONF, NAMES, Scene, from_yaml, make_scene, scenes

BREAKS = {"ohem_paper", "matched_random", "loss_rank_mining"}  # NMS: the number of survivors is data
WAITS = BREAKS | {"score_hlr", "pisa"}  # NMS again, inside of an operator
BREAKS_GRAPH = "(?i)graph break|unsupported|data.dependent"


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def sampler(name: str) -> Sampler:
    return from_yaml(name)


def test_keeps_the_contract(name: str, sampler: Sampler) -> None:
    check_sampler(sampler, compiles=name not in BREAKS)


@pytest.mark.parametrize("separate", [False, True])
def test_mining_in_the_whole_batch_keeps_the_contract(separate: bool) -> None:
    check_sampler(from_yaml("ohem", scope="batch", separate_quotas=separate))


def test_its_file_says_what_it_is(name: str) -> None:
    first = (CONF / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(scene=scenes(), num=st.sampled_from((1, 4, 64)), pos_fraction=st.sampled_from((0.0, 0.25, 0.5, 1.0)))
def test_any_scene_gives_a_valid_sample(name: str, scene: Scene, num: int, pos_fraction: float) -> None:
    demand_valid(scene.sampled(from_yaml(name, num, pos_fraction)), scene)


@pytest.mark.parametrize("name", sorted(BREAKS))
def test_those_that_say_so_break_the_graph(name: str) -> None:
    torch.compiler.reset()
    compiled = torch.compile(from_yaml(name).__call__, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(verbose=False), pytest.raises(Exception, match=BREAKS_GRAPH):
        make_scene(8).sampled(compiled)


def test_many_candidates_compile_too() -> None:
    """The choice among chunks of many candidates."""
    torch.compiler.reset()
    sampler = from_yaml("random")
    compiled = torch.compile(sampler.__call__, fullgraph=True, backend="eager", dynamic=True)
    for size in (3000, 3100):
        scene = make_scene(8, size=size)
        assert equal(scene.sampled(compiled), scene.sampled(sampler))


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
    files = {name: OmegaConf.load(CONF / f"{name}.yaml") for name in NAMES}
    # `from_yaml` gives the stage's quota: an option with a number of its own (ohem_threshold) does not take it.
    has_own = key not in ("num", "pos_fraction")
    having = [
        name for name, file in files.items() if key in file and (has_own or OmegaConf.is_interpolation(file, key))
    ]
    assert having, f"no sampler has {key}"
    for name in having:
        with pytest.raises(Exception, match=message) as error:
            from_yaml(name, **{key: value})
        cause = error.value.__cause__
        assert isinstance(cause, ValueError)
        assert "\n" not in str(cause)
