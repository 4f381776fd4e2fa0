"""One golden case: what goes in, what the reference made of it, and the tolerances it is held to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Of the reference's own float32 answer; nothing may be looser.
LOSS = {"rtol": 1e-5, "atol": 1e-6}
GRADIENT = {"rtol": 1e-4, "atol": 1e-6}
BOXES = {"rtol": 1e-5, "atol": 1e-3}  # px

# The cases of these items each name, in their parameters, the piece that they are about.
MIXED_ITEMS = ("edge_cases", "mmdet_unit_tests")


@dataclass(frozen=True)
class Case:
    """A case of an item (the stem of its file): parameters of the reference, input and expected arrays by name."""

    item: str
    name: str
    params: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def key(self) -> str:
        """What a family's ``CHECKS`` maps to a check: the item, or ``item/piece`` for an item of mixed cases."""
        if self.item not in MIXED_ITEMS:
            return self.item
        pieces = [str(self.params[kind]) for kind in ("assigner", "coder", "fn") if kind in self.params]
        return f"{self.item}/{'+'.join(pieces)}"

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def tensor(self, key: str) -> Tensor:
        """A fresh tensor of the array ``key``."""
        return torch.from_numpy(self.arrays[key].copy())

    def nonfinite_in_reference(self, key: str) -> bool:
        """Whether the reference itself returned NaN or inf in ``key``: a defect, not a target."""
        return key in self.params.get("reference_nonfinite", ())

    def assert_close(self, actual: Tensor, key: str, *, rtol: float, atol: float) -> None:
        """``actual`` equals the array ``key``; where the reference is not finite, ours must be."""
        expected = self.tensor(key)
        assert actual.shape == expected.shape, f"{self.item}/{self.name} {key}: {actual.shape} != {expected.shape}"
        assert torch.isfinite(actual).all(), f"{self.item}/{self.name} {key}: ours is not finite"
        fault = ~torch.isfinite(expected)
        if self.nonfinite_in_reference(key):
            assert fault.any(), f"{self.item}/{self.name} {key}: listed as not finite, but it is"
        else:
            assert not fault.any(), f"{self.item}/{self.name} {key}: not finite and not listed as a known fault"
        torch.testing.assert_close(
            actual.detach().to(expected.dtype).masked_fill(fault, 0),
            expected.masked_fill(fault, 0),
            rtol=rtol,
            atol=atol,
            msg=lambda text: f"{self.item}/{self.name} {key}: {text}",
        )


def case_names(path: Path) -> list[str]:
    """The names of the cases in a file, in order."""
    with np.load(path) as file:
        return list(dict.fromkeys(key.split("/", 1)[0] for key in file.files if "/" in key))


def stated_count(path: Path) -> int:
    """The number of cases that the file itself states."""
    with np.load(path) as file:
        return int(file["num_cases"])


def load_case(path: Path, name: str) -> Case:
    """Reads one case of a file."""
    with np.load(path) as file:
        prefix = f"{name}/"
        arrays = {key.removeprefix(prefix): file[key] for key in file.files if key.startswith(prefix)}
    params = json.loads(str(arrays.pop("params")))
    return Case(path.stem, name, params, arrays)


def walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every case of every file of a folder."""
    for path in sorted(folder.glob("*.npz")):
        for name in case_names(path):
            yield path, name
