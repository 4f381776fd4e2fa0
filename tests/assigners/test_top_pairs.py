"""The best candidates of every object, ties to the lower index, and one object for every candidate."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.top_pairs import highest, highest_object, highest_pair, lowest, lowest_object, one_object_each


@given(st.integers(0, 2**31), st.sampled_from((1, 3, 13)), st.sampled_from((13, 64, 700, 1701)), st.booleans())
@settings(max_examples=60, deadline=None)
def test_ties_go_to_the_lower_index(seed: int, k: int, count: int, coarse: bool) -> None:
    values = torch.randn(4, count, generator=torch.Generator().manual_seed(seed))
    if coarse:
        values = (values * 2).round() / 2  # many ties, negative numbers, zeros of both signs
        values[0, ::3] = torch.inf
        values[1, ::5] = -torch.inf
    expected = values.sort(dim=-1, stable=True).indices[:, :k]
    assert torch.equal(lowest(values, k), expected)
    assert torch.equal(highest(-values, k), expected)


@pytest.mark.parametrize("count", [5, 2000])
def test_padding_changes_nothing(count: int) -> None:
    values = torch.randint(0, 4, (3, count)).float()
    padded = torch.cat((values, torch.full((3, 77), torch.inf)), -1)
    assert torch.equal(lowest(values, 5), lowest(padded, 5))


def test_first_of_equal_objects() -> None:
    values = torch.randint(0, 3, (6, 50)).float()
    columns = values.T.tolist()
    assert lowest_object(values).tolist() == [column.index(min(column)) for column in columns]
    assert highest_object(values).tolist() == [column.index(max(column)) for column in columns]


def test_one_object_each() -> None:
    index = torch.tensor([[0, 1], [1, 2], [1, 3]])
    chosen = torch.tensor([[True, True], [True, True], [True, False]])
    assert one_object_each(index, chosen, torch.tensor([7, 2, 7, 7])).tolist() == [0, 2, 1, -1]
    value = torch.tensor([[0.1, 0.5], [0.5, 0.2], [0.4, 0.9]])
    assert highest_pair(index, chosen, value, 4)[:3].tolist() == [0, 0, 1]
