"""Cascade R-CNN: three stages, each with its own trio, each on what the one before has refined."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.criterion.stage import StageComponents
from harness.detectors import equip
from harness.detectors.facts import heads_for
from harness.detectors.networks.cascade_heads import STAGES
from harness.detectors.zoo.cascade_rcnn import cascade_rcnn_resnet50_fpn, tiny_cascade
from harness.losses.classification.focal import FocalLoss
from harness.losses.pair import Loss
from harness.losses.regression.smooth_l1 import SmoothL1Loss
from harness.samplers.ohem import OHEMSampler
from tests.detectors.rcnn_parity import Recorder, scenes, step

SCENES = scenes(96, 5)
IMAGES, TARGETS = SCENES["ordinary"]
NAMES = [f"{loss}{stage}" for stage in ("", "_roi2", "_roi3") for loss in ("loss_classifier", "loss_box_reg")]


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return tiny_cascade(5, min_size=96)


@pytest.mark.parametrize("scene", SCENES)
def test_every_stage_has_its_losses(model: Any, scene: str) -> None:
    images, targets = SCENES[scene]
    losses, gradients = step(equip(model), images, targets)
    assert list(losses) == [*NAMES, "loss_objectness", "loss_rpn_box_reg"]
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    for stage in STAGES:
        assert f"roi_heads.stages.{stage}.box_predictor.cls_score.weight" in gradients


def test_thresholds_rise(model: Any) -> None:
    recorder = Recorder()
    step(equip(model, observers=[recorder]), IMAGES, TARGETS)
    for stage, threshold in zip(STAGES, (0.5, 0.6, 0.7), strict=True):
        assignment = recorder.selections[stage].assignment
        assert (assignment.max_iou[assignment.positive] >= threshold).all()
        valid = recorder.selections[stage].candidates.valid
        assert (assignment.max_iou[assignment.negative & valid] < threshold).all()


def test_a_stage_starts_from_what_the_one_before_refined(model: Any) -> None:
    recorder = Recorder()
    for stage in STAGES:  # deltas that are known: every box is moved by a tenth of its width
        predictor = model.roi_heads.stages[stage].box_predictor.bbox_pred
        predictor.weight.data.zero_()
        predictor.bias.data.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    step(equip(model, observers=[recorder]), IMAGES, TARGETS)
    first, second = recorder.selections["roi"], recorder.selections["roi2"]
    assert first.candidates.is_truth is not None
    boxes = first.sample.take(first.candidates.boxes)
    kept = first.sample.used & ~first.sample.take(first.candidates.is_truth)
    width = boxes[..., 2] - boxes[..., 0]
    expected = boxes + torch.stack((width, 0 * width, width, 0 * width), -1) / 10
    expected = expected.clamp(0, 96)
    slots = boxes.shape[1]
    found, valid = second.candidates.boxes[:, :slots], second.candidates.valid[:, :slots]
    torch.testing.assert_close(found[valid], expected[kept & ((expected[..., 2] - expected[..., 0]) > 0)])
    assert second.candidates.is_truth is not None
    assert second.candidates.is_truth.sum(-1).tolist() == [len(target["labels"]) for target in TARGETS]


def test_ohem_in_every_stage(model: Any) -> None:
    recorder = Recorder()
    ohem = StageComponents(sampler=OHEMSampler(8, 0.25))
    twin = equip(model, sampler=ohem.sampler, stages={"roi2": ohem, "roi3": ohem}, observers=[recorder])
    losses, _ = step(twin, IMAGES, TARGETS)
    assert all(torch.isfinite(loss) for loss in losses.values())
    for stage in STAGES:
        selection = recorder.selections[stage]
        assert selection.losses is not None
        assert selection.sample.index.shape[-1] == 8
        assert (selection.candidates.valid.sum(-1) > 100).all(), "it ranks many more boxes than it has slots"


def test_scores_are_averaged_over_the_stages(model: Any) -> None:
    images, _ = model.eval().transform(IMAGES, None)
    roi = model.roi_heads
    roi.score_thresh, roi.nms_thresh, roi.detections_per_img = -1.0, 1.0, 1000
    with torch.no_grad():
        features = model.backbone(images.tensors)
        proposals = [torch.tensor([[10.0, 10.0, 40.0, 50.0]]), torch.tensor([[5.0, 5.0, 60.0, 30.0]])]
        found, losses = roi(features, proposals, images.image_sizes)
        boxes, scores = torch.stack(proposals), []
        for name in STAGES:
            outputs = roi.branch(name)(features, boxes, torch.ones(2, 1, dtype=torch.bool), images.image_sizes)
            scores.append(outputs.logits.softmax(-1))
            decoded = roi.stage(name).head.coder.decode(outputs.deltas, boxes)
            boxes = decoded.clamp(0, 96)
    assert losses == {}
    mean = torch.stack(scores).mean(0)[..., 1:]
    for image in range(2):
        order = found[image]["labels"].argsort()
        torch.testing.assert_close(found[image]["scores"][order], mean[image, 0])
        torch.testing.assert_close(found[image]["boxes"], boxes[image].expand(4, 4))


def test_the_twin_shares_parameters_state_and_detections(model: Any) -> None:
    twin = equip(model, sampler=OHEMSampler(8, 0.25))
    assert [id(p) for p in twin.parameters()] == [id(p) for p in model.parameters()]
    tiny_cascade(5).load_state_dict(twin.state_dict(), strict=True)
    with torch.no_grad():
        ours, theirs = twin.eval()(IMAGES), model.eval()(IMAGES)
    for one, other in zip(ours, theirs, strict=True):
        assert len(one["boxes"]) > 0
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_cascade_learns_with_another_loss_in_a_later_stage(model: Any) -> None:
    focal = StageComponents(loss=Loss(FocalLoss(), SmoothL1Loss(beta=1.0), "positives"))
    twin = equip(model, stages={"roi2": focal})
    optimizer = torch.optim.AdamW(twin.parameters(), lr=2e-3)
    totals = []
    for _ in range(20):
        losses, _ = step(twin, IMAGES, TARGETS)
        optimizer.step()
        totals.append(float(sum(losses.values())))
    assert totals[-1] < 0.8 * totals[0]
    with torch.no_grad():
        assert all(len(found["boxes"]) for found in twin.eval()(IMAGES))


def test_training_without_equip_is_refused(model: Any) -> None:
    with pytest.raises(RuntimeError, match=r"train what harness\.detectors\.equip returns"):
        model.train()(IMAGES, TARGETS)


def test_on_resnet50() -> None:
    heads = heads_for("harness.detectors.zoo.cascade_rcnn.cascade_rcnn_resnet50_fpn", 21)
    assert list(heads) == ["rpn", "roi", "roi2", "roi3"]
    assert not heads["roi2"].class_specific
    with torch.device("meta"):
        model = cascade_rcnn_resnet50_fpn(21)
    assert model.roi_heads.batch_size_per_image == 512
    assert model.roi_heads.stage("roi3").box_predictor.bbox_pred.out_features == 4
