"""The one top-k: order, ties, numbers that are not finite, and the way around most of the candidates."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.topk import (
    NEVER,
    among,
    highest_of_each,
    largest,
    lowest_of_each,
    mask_of_largest,
    nearest,
    order_code,
    rank_within,
)

ODD = [-0.0, 0.0, 1.0, -1.0, math.inf, -math.inf, 1e-45, -1e-45, 3e38, -3e38]
floats = st.floats(width=32) | st.sampled_from([*ODD, math.nan])


@settings(deadline=None)
@given(st.lists(floats, min_size=2, max_size=20))
def test_codes_have_the_order_of_the_floats(values: list[float]) -> None:
    values = torch.tensor(values, dtype=torch.float32).tolist()
    code = order_code(torch.tensor(values)).tolist()
    for a, code_a in zip(values, code, strict=True):
        for b, code_b in zip(values, code, strict=True):
            first, second = (-math.inf if math.isnan(x) else x for x in (a, b))
            assert (code_a < code_b) == (first < second)
            assert (code_a == code_b) == (first == second)
    assert min(code) > NEVER


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 1000),
    size=st.sampled_from((0, 1, 63, 64, 65, 130, 1000)),
    count=st.sampled_from((0, 1, 3, 40)),
    values=st.sampled_from((1, 2, 50, 100_000)),
)
def test_largest_and_their_mask_are_a_stable_sort(seed: int, size: int, count: int, values: int) -> None:
    g = torch.Generator().manual_seed(seed)
    priority = torch.randint(0, values, (2, 3, size), generator=g).float()
    allowed = torch.rand(2, 3, size, generator=g) < 0.7
    code = among(order_code(priority), allowed)
    index, available = largest(code, min(count, size))
    masks = [
        mask_of_largest(code, torch.full((2, 3, 1), count), max(count, at_most)) for at_most in (count, count + 5, size)
    ]
    for row in ((i, j) for i in range(2) for j in range(3)):
        rank = priority[row].tolist()
        members = [i for i, may in enumerate(allowed[row].tolist()) if may]
        wanted = sorted(members, key=lambda i, rank=rank: (-rank[i], i))[:count]
        assert index[row][available[row]].tolist() == wanted
        for mask in masks:
            assert mask[row].nonzero().squeeze(-1).tolist() == sorted(wanted)


def test_rank_within_groups() -> None:
    noise = torch.tensor([0.5, 0.1, 0.5, 0.9, 0.2, 0.1])
    group = torch.tensor([0, 0, 0, 1, 1, 7])
    assert rank_within(noise, group).tolist() == [1, 0, 2, 1, 0, 0]


@given(st.integers(0, 2**31), st.sampled_from((1, 3, 13)), st.sampled_from((13, 64, 700, 1701)), st.booleans())
@settings(max_examples=60, deadline=None)
def test_ties_go_to_the_lower_index(seed: int, k: int, count: int, coarse: bool) -> None:
    values = torch.randn(4, count, generator=torch.Generator().manual_seed(seed))
    if coarse:
        values = (values * 2).round() / 2  # many ties, negative numbers, zeros of both signs
        values[0, ::3] = torch.inf
        values[1, ::5] = -torch.inf
    expected = values.sort(dim=-1, stable=True).indices[:, :k]
    assert torch.equal(lowest_of_each(values, k), expected)
    assert torch.equal(highest_of_each(-values, k), expected)


@pytest.mark.parametrize("count", [5, 2000])
def test_padding_changes_nothing(count: int) -> None:
    values = torch.randint(0, 4, (3, count)).float()
    padded = torch.cat((values, torch.full((3, 77), torch.inf)), -1)
    assert torch.equal(lowest_of_each(values, 5), lowest_of_each(padded, 5))


def test_nearest_has_as_many_slots_as_asked_for() -> None:
    distance = torch.tensor([[3.0, 1.0, math.inf], [math.inf, math.inf, math.inf]])
    index, real = nearest(distance, 4)
    assert index.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]
    assert real.tolist() == [[True, True, False, False], [False] * 4]
