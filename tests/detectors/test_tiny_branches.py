"""tiny_maskrcnn and tiny_keypointrcnn train on the embedded figures, and their masks and keypoints are scored."""

from pathlib import Path

import pytest
import torch

from harness.data.export import to_coco
from harness.data.loading import train_loader, val_loader
from harness.data.sources.shapes import shapes
from harness.detectors import equip
from harness.detectors.facts import extra_targets, num_keypoints
from harness.detectors.zoo.tiny_branches import tiny_keypointrcnn, tiny_maskrcnn
from harness.evaluation.accuracy import evaluate
from harness.samplers.ohem import OHEMSampler
from harness.training.detect import detect


@pytest.mark.parametrize("build", [tiny_maskrcnn, tiny_keypointrcnn])
def test_a_few_steps_train_the_branch(build, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model = build(7, proposals=30, detections_per_img=10, score_thresh=0.0)
    splits = shapes(image_size=64, num_train=4, num_val=2, size=(8, 16), cache_dir=str(tmp_path))
    splits = splits.yielding(extra_targets(model), num_keypoints(model))
    twin = equip(model, sampler=OHEMSampler(num=16, pos_fraction=0.5)).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(twin.parameters(), 1e-3)
    name = "loss_mask" if build is tiny_maskrcnn else "loss_keypoint"
    found = []
    for images, targets in train_loader(splits, batch_size=2, seed=0, iterations=12):
        losses = twin([image / 255 for image in images], targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        found.append(float(losses[name].detach()))
    assert sum(found[-3:]) < sum(found[:3])
    detections = detect(twin, val_loader(splits.val, batch_size=2), torch.device("cpu"), "fp32")
    accuracy = evaluate(to_coco(splits.val), detections)
    branch = accuracy.segm if build is tiny_maskrcnn else accuracy.keypoints
    assert branch is not None
    assert 0 <= branch.map <= 1
    assert all(row["category_id"] > 0 for row in detections)


def test_background_is_never_reported() -> None:
    class Background(torch.nn.Module):
        def forward(self, images):  # type: ignore[no-untyped-def]
            boxes = torch.tensor([[1.0, 1, 5, 5], [2, 2, 6, 6]])
            return [{"boxes": boxes, "labels": torch.tensor([0, 2]), "scores": torch.tensor([0.9, 0.8])}]

    batch = ([torch.zeros(3, 8, 8, dtype=torch.uint8)], [{"image_id": torch.tensor(4)}])
    rows = detect(Background(), [batch], torch.device("cpu"), "fp32")
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(4, 2)]
