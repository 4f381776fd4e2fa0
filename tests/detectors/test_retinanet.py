"""What is tried on RetinaNet: crowd regions, a user's subclass, levels and strides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from harness.detectors.equip import equip
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from tests.detectors.dense_parity import assert_same_training, images, scene


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return tiny_retinanet(6, min_size=96, max_size=160, score_thresh=0.0)


def test_a_crowd_region_is_nobodys_object(tiny: nn.Module) -> None:
    """What torchvision's training script drops beforehand may stay in the targets here."""
    targets = scene("ordinary")
    marked = []
    for target in targets:
        boxes = torch.cat((target["boxes"], torch.tensor([[5.0, 5.0, 60.0, 60.0]])))
        crowd = torch.zeros(len(boxes), dtype=torch.int64)
        crowd[-1] = 1
        marked.append({"boxes": boxes, "labels": torch.cat((target["labels"], torch.tensor([1]))), "iscrowd": crowd})
    twin = equip(tiny)
    plain, with_crowd = twin.train()(images(), targets), twin(images(), marked)
    for name in plain:
        torch.testing.assert_close(with_crowd[name], plain[name], rtol=1e-6, atol=0)


def test_a_users_subclass_stays_one(tiny: nn.Module) -> None:
    class Mine(detection.RetinaNet):
        def forward(self, x: list[Tensor], targets: object = None) -> object:
            return super().forward([image * 0.5 for image in x], targets)

    mine = tiny_retinanet(6, min_size=96)
    mine.__class__ = Mine
    twin = equip(mine)
    assert isinstance(twin, Mine)
    assert_same_training(mine, twin, images(), scene("ordinary"))


def test_levels_and_strides_reach_the_candidates(tiny: nn.Module) -> None:
    twin = equip(tiny)
    features = [torch.zeros(2, 64, 12, 16), torch.zeros(2, 64, 6, 8)]
    batch = ImageList(torch.zeros(2, 3, 96, 128), [(96, 128), (96, 112)])
    candidates = twin.anchor_generator(batch, features).candidates()
    assert candidates.num_levels == 2
    assert candidates.boxes.shape == (2, 2 * (12 * 16 + 6 * 8), 4)
    assert torch.equal(candidates.stride, torch.where(candidates.level == 0, 8.0, 16.0))
    assert candidates.level.bincount().tolist() == [2 * 12 * 16, 2 * 6 * 8]


def test_strides_of_levels_that_are_one_cell_wide(tiny: nn.Module) -> None:
    twin = equip(tiny)
    features = [torch.zeros(1, 64, 2, 1), torch.zeros(1, 64, 1, 1)]
    candidates = twin.anchor_generator(ImageList(torch.zeros(1, 3, 16, 8), [(16, 8)]), features).candidates()
    assert candidates.stride.tolist() == [8.0] * 4 + [16.0] * 2
