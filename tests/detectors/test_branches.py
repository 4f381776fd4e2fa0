"""Mask and keypoint branches train on the positives that the sampler has chosen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models.detection import KeypointRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from harness.detectors import equip
from harness.detectors.networks.tiny_backbone import tiny_fpn
from harness.samplers.ohem import OHEMSampler
from tests.detectors.rcnn_parity import Recorder, assert_same, replayed, scenes, step

CLASSES, POINTS = 4, 5
SCENES = scenes(96, CLASSES, POINTS)


def small(kind: str) -> Any:
    """Mask or Keypoint R-CNN on the tiny backbone."""
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "backbone": tiny_fpn(32),
        "box_head": TwoMLPHead(32 * 25, 64),
        "box_predictor": FastRCNNPredictor(64, CLASSES),
        "min_size": 96,
        "max_size": 96,
        "rpn_anchor_generator": AnchorGenerator(((20,), (40,)), ((1.0,),) * 2),
        "box_roi_pool": MultiScaleRoIAlign(["0", "1"], 5, 1),
        "box_batch_size_per_image": 32,
        "rpn_post_nms_top_n_train": 60,
    }
    pool = MultiScaleRoIAlign(["0", "1"], 7, 2)
    if kind == "mask":
        head, predictor = MaskRCNNHeads(32, (32,), 1), MaskRCNNPredictor(32, 32, CLASSES)
        return MaskRCNN(mask_roi_pool=pool, mask_head=head, mask_predictor=predictor, **options)
    head, predictor = KeypointRCNNHeads(32, (32,)), KeypointRCNNPredictor(32, POINTS)
    return KeypointRCNN(keypoint_roi_pool=pool, keypoint_head=head, keypoint_predictor=predictor, **options)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("kind", ["mask", "keypoint"])
def test_losses_and_gradients_are_torchvisions(kind: str, scene: str) -> None:
    model, recorder = small(kind), Recorder()
    images, targets = SCENES[scene]
    ours = step(equip(model, observers=[recorder]), images, targets)
    theirs = replayed(model, recorder, lambda: step(model, images, targets))
    assert f"loss_{kind}" in ours[0]
    assert_same(ours, theirs, 1e-5)


@pytest.mark.parametrize("kind", ["mask", "keypoint"])
def test_the_branch_learns_with_ohem(kind: str) -> None:
    images, targets = SCENES["ordinary"]
    twin = equip(small(kind), sampler=OHEMSampler(32, 0.25))
    optimizer = torch.optim.AdamW(twin.parameters(), lr=2e-3)
    branch = []
    for _ in range(25):
        losses, _ = step(twin, images, targets)
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 10.0)
        optimizer.step()
        branch.append(float(losses[f"loss_{kind}"]))
    assert branch[-1] < 0.8 * branch[0]
    with torch.no_grad():
        found = twin.eval()(images)
    assert all(("masks" if kind == "mask" else "keypoints") in image for image in found)


def test_bfloat16() -> None:
    images, targets = SCENES["ordinary"]
    twin = equip(small("mask"), sampler=OHEMSampler(32, 0.25))
    with torch.autocast("cpu", torch.bfloat16):
        losses = twin(images, targets)
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_classifier"].dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in twin.parameters() if p.grad is not None)
