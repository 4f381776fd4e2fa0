"""No training forward waits for a GPU where torchvision itself does not, for every detector, component and recipe.

Fake CUDA tensors show it without a GPU (:mod:`tests.detectors.host_syncs`). The places that wait are expected values: a
new one fails here. The backward pass cannot be run without a driver.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.core.structures import ClassCounts
from harness.detectors.facts import refusals_for
from harness.experiment.pieces import build, build_pieces
from harness.inspect.setting import composed
from harness.training.streams import Streams
from tests.detectors.host_syncs import fake_cuda, forward

CONF = Path(__file__).resolve().parents[2] / "conf"
CLASSES = 4

# torchvision checks the boxes of a batch for lost area, which asks for one value per batch.
DEGENERATE = {
    "torchvision/models/detection/retinanet.py: forward",
    "torchvision/models/detection/fcos.py: forward",
    "torchvision/models/detection/ssd.py: forward",
    "torchvision/models/detection/generalized_rcnn.py: forward",
}
# Proposals go through torchvision's own filter, image by image, and RoIAlign through its pooler, level by level.
PROPOSALS = {
    "torchvision/models/detection/rpn.py: filter_proposals",
    "torchvision/ops/boxes.py: remove_small_boxes",
    "torchvision/ops/boxes.py: _batched_nms_vanilla",
    "torchvision/ops/boxes.py: _batched_nms_coordinate_trick",
    "torchvision/ops/poolers.py: _multiscale_roi_align",
}
# These say in their docstring that they leave the device.
LEAVES = {
    "loss_rank_mining": {"harness/samplers/building_blocks/suppression.py"},
    "ohem_paper": {"harness/samplers/building_blocks/suppression.py"},
    "score_hlr": {"harness/samplers/building_blocks/suppression.py"},
    "matched_random": {"harness/samplers/building_blocks/suppression.py"},  # of the paper's OHEM
}
SOLVED_OUTSIDE = ("hungarian", "topk_hungarian")  # by scipy: a fake tensor cannot become an array
RECIPES_ALONE = ("distribution_focal",)  # wants the columns that recipe=gfl gives the head
TINY = ("tiny_rcnn", "tiny_cascade", "tiny_retinanet", "tiny_fcos", "tiny_ssd", "tiny_yolox")
WHERE = {
    "assigner": ("tiny_retinanet", "tiny_fcos", "tiny_yolox"),
    "sampler": ("tiny_rcnn", "tiny_retinanet"),
    "loss/classification": ("tiny_retinanet", "tiny_rcnn"),
    "loss/regression": ("tiny_retinanet", "tiny_rcnn"),
    "recipe": ("tiny_retinanet", "tiny_fcos", "tiny_rcnn", "tiny_cascade", "tiny_ssd", "tiny_yolox"),
}


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The box head's look at all proposals keeps the device's random state, which lives in the driver."""
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(16, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)


@cache
def _pieces(overrides: tuple[str, ...]) -> tuple[Any, Any] | None:
    """The configuration and its components; None where the combination is refused."""
    setting = composed([*overrides, "run.threads=1"])
    if setting.choices["detector"] not in (setting.config.recipe_fits or [setting.choices["detector"]]):
        return None
    pieces = build_pieces(setting.config, setting.sources)
    builder = dict(setting.config.detector)
    refused = refusals_for(builder.pop("_target_"), pieces.root, pieces.stages, **builder)
    return None if refused else (setting.config, pieces)


def waits_of(*overrides: str) -> dict[str, str] | None:
    """Where the training forward of a configuration waits for the device; None where it is refused."""
    found = _pieces(overrides)
    if found is None:
        return None
    config, pieces = found[0], found[1].copy()
    streams = Streams(0, torch.device("cpu"))
    streams.sampling = None  # type: ignore[assignment]  # a generator of a GPU needs a driver
    with fake_cuda() as mode:
        with torch.device("cuda"):
            detector = build(config.detector, "detector", num_classes=CLASSES + 1)
        for components in (pieces.root, *pieces.stages.values()):
            if components.loss is not None:
                _move(components.loss, mode)
        counts = torch.arange(1, CLASSES + 1)
        model = pieces.equip(detector, streams, class_counts=ClassCounts(counts, counts, 10))
        for criterion in model.criteria.values():
            criterion.to("cuda")
        losses, watch = forward(model, 128)
    assert losses
    assert {loss.device.type for loss in losses.values()} == {"cuda"}
    return watch.places


def _move(loss: nn.Module, mode: FakeTensorMode) -> None:
    """Moves the state of a loss, which was built outside of the mode, to the fake device."""
    for part in loss.modules():
        for name, buffer in part.named_buffers(recurse=False):
            part.register_buffer(name, mode.from_tensor(buffer).to("cuda"))


def _unexpected(places: dict[str, str], option: str = "") -> dict[str, str]:
    allowed = LEAVES.get(option, set())
    return {
        place: line
        for place, line in places.items()
        if place not in DEGENERATE | PROPOSALS and place.split(":")[0] not in allowed
    }


@pytest.mark.parametrize("detector", TINY)
def test_a_detector_with_its_own_components_waits_where_torchvision_does(detector: str) -> None:
    places = waits_of(f"detector={detector}")
    assert places is not None
    assert not _unexpected(places)


@pytest.mark.parametrize(
    "overrides",
    [("tiny_rcnn", "sampler=ohem"), ("tiny_retinanet", "assigner=simota"), ("tiny_retinanet", "assigner=task_aligned")],
    ids=" ".join,
)
def test_the_frequent_choices_do_not_wait(overrides: tuple[str, str]) -> None:
    places = waits_of(f"detector={overrides[0]}", overrides[1])
    assert places is not None
    assert not _unexpected(places)


def _options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize(("group", "option"), [(group, option) for group in WHERE for option in _options(group)])
def test_no_component_waits(group: str, option: str) -> None:
    """In every small detector of the list that can use it."""
    if option in SOLVED_OUTSIDE:
        with pytest.raises(RuntimeError, match=r"\.numpy\(\) is not supported"):
            waits_of(f"detector={WHERE[group][0]}", f"{group}={option}")
        return
    used = 0
    for detector in WHERE[group]:
        places = waits_of(f"detector={detector}", f"{group}={option}")
        if places is not None:
            used += 1
            assert not _unexpected(places, option), detector
    assert used or option in RECIPES_ALONE, f"no detector of {WHERE[group]} can use {group}={option}"


def test_a_place_that_waits_is_found() -> None:
    """The check can fail: a value that is asked for has its place written down."""
    with fake_cuda():
        with torch.device("cuda"):
            detector = build(composed(["detector=tiny_fcos"]).config.detector, "detector", num_classes=3)
        _, watch = forward(detector, 128)
    assert "torchvision/models/detection/fcos.py: forward" in watch.places
    assert "torchvision/models/detection/fcos.py: compute_loss" in watch.places
