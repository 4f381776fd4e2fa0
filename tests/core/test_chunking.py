"""Groups of images and of objects stay within the bound and change nothing."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from harness.assigners.atss import ATSSAssigner
from harness.assigners.center_region import CenterRegionAssigner
from harness.assigners.dynamic_soft_label import DynamicSoftLabelAssigner
from harness.assigners.fcos import FCOSAssigner
from harness.assigners.hungarian import HungarianAssigner
from harness.assigners.max_iou import MaxIoUAssigner
from harness.assigners.nwd import NWDAssigner
from harness.assigners.ota import OTAAssigner
from harness.assigners.point import PointAssigner
from harness.assigners.rfla import RFLAAssigner
from harness.assigners.simota import SimOTAAssigner
from harness.assigners.task_aligned import TaskAlignedAssigner
from harness.assigners.topk_hungarian import TopkHungarianAssigner
from harness.assigners.uniform import UniformAssigner
from harness.assigners.yolo_ratio import YOLORatioAssigner
from harness.assigners.yolov7_ota import YOLOv7OTAAssigner
from harness.core import chunking
from harness.core.chunking import MEMORY_BOUND, by_images, by_objects
from harness.core.structures import Assigner, Assignment, Candidates, GroundTruth, Predictions


def many(images: int, objects: int, count: int) -> tuple[GroundTruth, Candidates]:
    random = torch.Generator().manual_seed(0)

    def boxes(number: int) -> torch.Tensor:
        corner = torch.rand(images, number, 2, generator=random) * 500
        return torch.cat((corner, corner + 4 + torch.rand(images, number, 2, generator=random) * 90), -1)

    real = torch.ones(images, objects, dtype=torch.bool)
    truth = GroundTruth(boxes(objects), torch.zeros(images, objects, dtype=torch.int64), real, ~real)
    return truth, Candidates(boxes(count), torch.ones(images, count, dtype=torch.bool), level=torch.zeros(count))


def test_groups_of_images_fit() -> None:
    truth, candidates = many(7, 3, 10)
    seen = []

    def assign(some: GroundTruth, them: Candidates) -> Assignment:
        assert them.level is candidates.level
        seen.append(some.boxes.shape[0])
        best = (some.boxes[..., :1, 0] - them.boxes[..., 0]).abs()
        return Assignment(best.long(), best, quality=best)

    whole = assign(truth, candidates)
    seen.clear()
    found = by_images(assign, truth, candidates, bytes_per_pair=4, memory_bound=2 * 3 * 10 * 4)
    assert seen == [2, 2, 2, 1]
    assert torch.equal(found.gt_index, whole.gt_index)
    assert torch.equal(found.max_iou, whole.max_iou)
    assert found.quality is not None
    assert torch.equal(found.quality, found.max_iou)


def test_a_bound_may_be_written_as_a_float() -> None:
    """As in ``memory_bound=1e6``."""
    truth, candidates = many(4, 3, 100)
    expected = ATSSAssigner()(truth, candidates)
    assert torch.equal(ATSSAssigner(memory_bound=5e3)(truth, candidates).gt_index, expected.gt_index)


def test_leading_dimensions_return() -> None:
    truth, candidates = many(6, 3, 10)
    nested = GroundTruth(*(t.unflatten(0, (2, 3)) for t in (truth.boxes, truth.labels, truth.valid, truth.crowd)))
    more = replace(candidates, boxes=candidates.boxes.unflatten(0, (2, 3)), valid=candidates.valid.unflatten(0, (2, 3)))

    def assign(some: GroundTruth, them: Candidates) -> Assignment:
        return Assignment(them.valid.long(), them.boxes[..., 0])

    found = by_images(assign, nested, more, bytes_per_pair=4, memory_bound=1)
    assert found.max_iou.shape == (2, 3, 10)
    assert torch.equal(found.max_iou, more.boxes[..., 0])


def test_groups_of_objects_cover_all_of_them_once() -> None:
    truth, candidates = many(2, 7, 10)
    groups = list(by_objects(truth, candidates, bytes_per_pair=4, memory_bound=3 * 2 * 10 * 4))
    assert [start for start, _ in groups] == [0, 3, 6]
    assert torch.equal(torch.cat([some.boxes for _, some in groups], -2), truth.boxes)
    assert [start for start, _ in by_objects(truth, candidates, bytes_per_pair=4, memory_bound=1)] == list(range(7))


@pytest.mark.parametrize(("objects", "count"), [(0, 5), (5, 0)])
def test_no_pairs_no_group(objects: int, count: int) -> None:
    assert not list(by_objects(*many(2, objects, count), bytes_per_pair=4, memory_bound=MEMORY_BOUND))


def peak(assigner: Assigner, drawn: tuple[GroundTruth, Candidates]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        assigner(*drawn)
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held, most = 0, 0
    for _, size in changes:
        held += size
        most = max(most, held)
    return most


def test_the_bound_is_kept() -> None:
    """A dense tensor of all pairs would be 32 MB; what does not depend on the pairs is the candidates themselves."""
    drawn = many(4, 200, 10_000)
    bound, own = 2**20, 4 * 10_000 * 100
    small = MaxIoUAssigner(0.7, 0.3, 0.3, memory_bound=bound)
    assert peak(small, drawn) < bound + own < 4 * 200 * 10_000 * 4
    assert torch.equal(small(*drawn).gt_index, MaxIoUAssigner(0.7, 0.3, 0.3)(*drawn).gt_index)


@pytest.mark.parametrize(
    "assigner",
    [
        ATSSAssigner(),
        CenterRegionAssigner(),
        DynamicSoftLabelAssigner(),
        FCOSAssigner(),
        HungarianAssigner(),
        MaxIoUAssigner(0.5, 0.4),
        NWDAssigner(),
        OTAAssigner(sinkhorn_iter=2),
        PointAssigner(),
        RFLAAssigner(),
        SimOTAAssigner(),
        TaskAlignedAssigner(flavour="ultralytics_8_3"),
        TopkHungarianAssigner(),
        UniformAssigner(),
        YOLORatioAssigner(),
        YOLOv7OTAAssigner(),
    ],
    ids=lambda assigner: type(assigner).__name__,
)
def test_no_more_of_a_pair_is_alive_than_the_assigner_says(assigner: Assigner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "CPU_BOUND", MEMORY_BOUND)
    objects, side = 200, 64
    truth, predicted = many(1, objects, side**2)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    cells = 8.0 * torch.stack((x, y, x + 1, y + 1), -1).reshape(1, -1, 4)
    points = replace(
        predicted,
        boxes=cells,
        level=torch.zeros(side**2, dtype=torch.int64),
        stride=torch.full((side**2,), 8.0),
        predictions=Predictions(torch.full((1, side**2, 1), 0.5), predicted.boxes),
    )
    of_a_pair = sys.modules[type(assigner).__module__].BYTES_PER_PAIR
    alone = 1.0  # byte of a pair: what grows with the candidates alone, shared by so many objects
    assert peak(assigner, (truth, points)) / (objects * side**2) < of_a_pair + alone


def test_refuses() -> None:
    with pytest.raises(ValueError, match=r"^memory_bound=-1 must be above 0$"):
        MaxIoUAssigner(0.7, 0.3, memory_bound=-1)
