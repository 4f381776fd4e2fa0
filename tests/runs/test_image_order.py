"""A run whose epochs depend on the recorded losses sees the same images after a stop at any step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.app.runner import run
from harness.data.image_samplers import HardReplaySampler
from harness.data.sources.shapes import shapes
from harness.training import loop
from harness.training.image_order import ImageOrder
from tests.runs.conftest import Composed, small_config

# 12 images in batches of 5: an epoch ends within a batch, and is drawn before that batch.
REPLAY = ("image_sampler=hard_replay", "run.batch_size=5", "run.iterations=12", "run.checkpoint_iterations=1")


class PowerCut(BaseException):
    """Nothing may catch it."""


def seen_images(monkeypatch: pytest.MonkeyPatch, cut: int | None = None) -> list[list[int]]:
    """The list to which every step of training appends its images; ``cut``: the step at which the power fails."""
    steps: list[list[int]] = []
    real = loop.step

    def step(training: Any, batch: Any) -> Any:
        if len(steps) == cut:
            raise PowerCut
        steps.append([int(target["image_id"]) for target in batch[1]])
        return real(training, batch)

    monkeypatch.setattr(loop, "step", step)
    return steps


def weights(root: Path) -> dict[str, torch.Tensor]:
    (path,) = (root / "runs").glob("*/checkpoint.pt")
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return state


@pytest.fixture(scope="module")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[int]], dict[str, torch.Tensor]]:
    """The images of every step of a run that nothing stops, and its weights."""
    root = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        steps = seen_images(patch)
        run(small_config(root, cache, *REPLAY), choices={}, sources=[])
    return steps, weights(root)


@pytest.mark.parametrize("cut", [2, 3, 8])
def test_the_same_images_after_a_power_cut(
    cut: int,
    composed: Composed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: tuple[list[list[int]], dict[str, torch.Tensor]],
) -> None:
    with monkeypatch.context() as patch:
        before = seen_images(patch, cut)
        with pytest.raises(PowerCut):
            run(composed(*REPLAY, root="cut"), choices={}, sources=[])
    with monkeypatch.context() as patch:
        after = seen_images(patch)
        run(composed(*REPLAY, root="cut"), choices={}, sources=[])
    steps, first = whole
    assert before + after == steps
    second = weights(tmp_path / "cut")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_epoch_is_drawn_where_its_first_batch_begins(cache: Path) -> None:
    train = shapes(image_size=64, num_train=12, num_val=4, cache_dir=str(cache)).train
    order = ImageOrder(HardReplaySampler(), train, 0, batch_size=5, iterations=9, device=torch.device("cpu"))
    assert order.pauses == [2, 4, 7]  # whose batches hold the images 12, 24 and 36 of the stream
    assert sorted(order.order(0).tolist()) == list(range(12))
    with pytest.raises(KeyError):
        order.order(1)
    order.losses.copy_(torch.arange(12.0))
    order.plan(2)
    first, counts = order.order(0), torch.bincount(order.order(1), minlength=12)
    assert counts[-4:].sum() > 2 * counts[:4].sum()

    again = ImageOrder(HardReplaySampler(), train, 0, batch_size=5, iterations=9, device=torch.device("cpu"))
    again.load_state_dict(order.state_dict())
    again.losses.fill_(0)
    again.plan(2)  # what is drawn already stays
    assert torch.equal(again.order(0), first)
    assert torch.equal(again.order(1), order.order(1))
