"""One object for every candidate that several objects chose."""

from __future__ import annotations

import torch

from harness.assigners.building_blocks.matching import highest_object, highest_pair, lowest_object, one_object_each


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
