"""The RoI head's candidates, its ranking pass and its branches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.core.structures import Need
from harness.criterion.heads import Outputs
from harness.criterion.stage import StageComponents
from harness.detectors import equip
from harness.detectors.adapters.box_branch import BoxBranch, proposal_candidates, with_truth
from harness.detectors.adapters.postprocess import class_detections
from harness.detectors.adapters.rcnn_facts import roi_head
from harness.detectors.adapters.targets import ground_truth
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.losses.classification.binary_cross_entropy import BinaryCrossEntropyLoss
from harness.losses.classification.eqlv2 import EQLv2Loss
from harness.losses.classification.focal import FocalLoss
from harness.losses.classification.seesaw import SeesawLoss
from harness.losses.interface import ClassificationLoss
from harness.losses.pair import Loss
from harness.losses.regression.giou import GIoULoss
from harness.losses.regression.smooth_l1 import SmoothL1Loss
from harness.samplers.all import AllSampler
from harness.samplers.hard_negative import HardNegativeSampler
from harness.samplers.iou_balanced import IoUBalancedSampler
from harness.samplers.ohem import OHEMSampler
from harness.samplers.random import RandomSampler
from tests.detectors.rcnn_parity import Recorder, scenes, step

IMAGES, TARGETS = scenes(96, 5)["ordinary"]


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return tiny_rcnn(5, min_size=96)


def test_the_objects_join_the_proposals_at_the_end() -> None:
    truth = ground_truth(
        [
            {"boxes": torch.tensor([[1.0, 1.0, 5.0, 5.0], [2.0, 2.0, 9.0, 9.0]]), "labels": torch.tensor([3, 1])},
            {"boxes": torch.tensor([[0.0, 0.0, 4.0, 4.0]]), "labels": torch.tensor([2]), "iscrowd": torch.tensor([1])},
        ]
    )
    assert truth.labels.tolist() == [[2, 0], [1, 0]]
    proposals = [torch.rand(1, 4), torch.rand(3, 4)]
    candidates = with_truth(proposal_candidates(proposals), truth)
    assert candidates.valid.tolist() == [[True, False, False, True, True], [True, True, True, False, False]]
    assert candidates.is_truth is not None
    assert candidates.is_truth.tolist() == [[False, False, False, True, True], [False] * 5]
    assert torch.equal(candidates.boxes[0, 3:], truth.boxes[0])
    assert torch.equal(candidates.boxes[1, :3], proposals[1])


class Linear(nn.Module):
    """A box head with BatchNorm and dropout: buffers and a random stream that a ranking pass must not touch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)

    def forward(self, pooled: Tensor) -> Tensor:
        result: Tensor = self.drop(self.norm(pooled))
        return result


class Pool(nn.Module):
    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], shapes: list[tuple[int, int]]) -> Tensor:
        return torch.cat(boxes).repeat(1, 2) * features["0"].mean()


class Predictor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_score, self.bbox_pred = nn.Linear(8, 3), nn.Linear(8, 12)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(pooled), self.bbox_pred(pooled)


def test_a_ranking_pass_leaves_no_trace() -> None:
    branch = BoxBranch(Pool(), Linear(), Predictor())
    buffers = {name: value.clone() for name, value in branch.head.named_buffers()}
    features, boxes = {"0": torch.ones(2, 1, 4, 4, requires_grad=True)}, torch.rand(2, 5, 4)
    state = torch.get_rng_state()
    outputs = branch.peek(features, boxes, torch.ones(2, 5, dtype=torch.bool), [(4, 4), (4, 4)])
    assert outputs.logits.shape == (2, 5, 3)
    assert not outputs.logits.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, buffers[name]) for name, value in branch.head.named_buffers())


def test_unused_boxes_are_no_part_of_the_statistics() -> None:
    branch = BoxBranch(Pool(), Linear(), Predictor())
    branch.head.drop.p = 0.0  # type: ignore[union-attr]
    features, shapes = {"0": torch.ones(2, 1, 4, 4)}, [(4, 4), (4, 4)]
    boxes = torch.rand(2, 5, 4)
    used = torch.tensor([[True, False, True, True, False], [True, True, False, False, False]])
    padded = branch(features, boxes, used, shapes)
    alone = branch(features, boxes[used].unsqueeze(0), torch.ones(1, 5, dtype=torch.bool), shapes)
    torch.testing.assert_close(padded.logits[used], alone.logits[0])
    torch.testing.assert_close(padded.deltas[used], alone.deltas[0])
    assert not padded.logits[~used].any()


class Counter(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, *arguments: Any) -> Any:
        self.calls += 1
        return self.inner(*arguments)


@pytest.mark.parametrize(("sampler", "calls"), [(RandomSampler(16, 0.25), 1), (OHEMSampler(16, 0.25), 2)])
def test_the_ranking_pass_runs_only_where_it_is_needed(model: Any, sampler: Any, calls: int) -> None:
    model.roi_heads.box_head = counter = Counter(model.roi_heads.box_head)
    step(equip(model, sampler=sampler), IMAGES, TARGETS)
    assert counter.calls == calls


@pytest.mark.parametrize(
    "sampler",
    [OHEMSampler(16, 0.25), OHEMSampler(16, 0.25, nms_thr=0.7), IoUBalancedSampler(16, 0.25), HardNegativeSampler()],
    ids=["ohem", "ohem_nms", "iou_balanced", "hard_negative"],
)
def test_samplers_train_both_stages(model: Any, sampler: Any) -> None:
    recorder = Recorder()
    twin = equip(model, sampler=sampler, stages={"rpn": StageComponents(sampler=sampler)}, observers=[recorder])
    losses, gradients = step(twin, IMAGES, TARGETS)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert {name.split(".")[0] for name in gradients} == {"backbone", "rpn", "roi_heads"}
    for stage in ("rpn", "roi"):
        selection = recorder.selections[stage]
        if Need.LOSSES in sampler.needs:
            assert selection.losses is not None
        # an untrained RPN finds no object: there the RoI head has positives only if the objects join the proposals
        assert selection.sample.positive.any() or (stage == "roi" and not sampler.add_gt_as_proposals)


def test_ohem_takes_the_hardest_proposals(model: Any) -> None:
    recorder = Recorder()
    step(equip(model, sampler=OHEMSampler(8, 0.25, rank_by="cls"), observers=[recorder]), IMAGES, TARGETS)
    selection = recorder.selections["roi"]
    assert selection.losses is not None
    for image in range(2):
        loss, sample = selection.losses.classification[image], selection.sample
        negatives = selection.assignment.negative[image] & selection.candidates.valid[image]
        taken = sample.index[image][sample.negative[image]]
        hardest = torch.where(negatives, loss, -1.0).topk(len(taken)).values
        torch.testing.assert_close(loss[taken].sort(descending=True).values, hardest)


LOSSES: dict[str, ClassificationLoss] = {
    "binary_cross_entropy": BinaryCrossEntropyLoss(),
    "focal": FocalLoss(),
    "eqlv2": EQLv2Loss(background_column=False),
    "eqlv2_background": EQLv2Loss(background_column=True),
    "seesaw": SeesawLoss(objectness=False),
}


@pytest.mark.parametrize("name", LOSSES)
def test_inference_follows_the_loss(name: str, model: Any) -> None:
    """A few steps with a loss whose probabilities are no softmax make the objects the best detections."""
    twin = equip(model, loss=Loss(LOSSES[name], GIoULoss(), normalizer="positives"))
    optimizer = torch.optim.AdamW(twin.parameters(), lr=2e-3)
    first = last = None
    for _ in range(25):
        losses, _ = step(twin, IMAGES, TARGETS)
        optimizer.step()
        last = float(sum(losses.values()))
        first = first or last
    assert first is not None
    assert last is not None
    assert last < 0.8 * first
    twin.eval()
    with torch.no_grad():
        found = twin(IMAGES)
    assert all((image["scores"] <= 1).all() and (image["scores"] > 0.02).all() for image in found)
    assert all((image["labels"] >= 1).all() and (image["labels"] <= 4).all() for image in found)
    assert all((image["scores"].diff() <= 0).all() for image in found)


def test_the_background_column_of_eqlv2_suppresses() -> None:
    head, loss = roi_head("roi", 4, (10.0, 10.0, 5.0, 5.0)), EQLv2Loss(background_column=True)
    logits = torch.tensor([[-9.0, 2.0, -9.0, -9.0], [9.0, 2.0, -9.0, -9.0]])
    object_, background = head.probabilities(logits, loss)
    torch.testing.assert_close(object_[0], torch.tensor(2.0).sigmoid(), rtol=1e-3, atol=0)
    assert background[0] < 1e-3
    outputs = Outputs(logits, torch.zeros(2, 16))
    pieces_see = head.predictions(outputs, torch.tensor([[0.0, 0.0, 9.0, 9.0]] * 2), loss).scores
    torch.testing.assert_close(pieces_see, torch.stack((object_, background)), rtol=0, atol=0)


def test_detections_against_torchvisions_own(model: Any) -> None:
    """With softmax scores ours are the detections of torchvision's postprocessing."""
    torch.manual_seed(4)
    logits, deltas = torch.randn(60, 5), torch.randn(60, 20) * 0.2
    corners = torch.rand(60, 2) * 60
    proposals = [torch.cat((corners, corners + 20), 1)]
    roi = model.roi_heads
    theirs = roi.postprocess_detections(logits, deltas, proposals, [(96, 96)])
    boxes = roi.box_coder.decode(deltas, proposals)[:, 1:]
    ours = class_detections(
        boxes,
        logits.softmax(-1)[:, 1:],
        (96, 96),
        score_thresh=roi.score_thresh,
        nms_thresh=roi.nms_thresh,
        limit=roi.detections_per_img,
    )
    assert all(torch.equal(own, host[0]) for own, host in zip(ours, theirs, strict=True))


def test_no_proposals_and_no_objects(model: Any) -> None:
    model.rpn.score_thresh = 1.1
    empty = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)} for _ in IMAGES]
    losses, _ = step(equip(model, sampler=AllSampler()), IMAGES, empty)
    assert float(losses["loss_classifier"]) == 0
    assert float(losses["loss_box_reg"]) == 0


def test_crowd_regions_are_no_objects(model: Any) -> None:
    recorder = Recorder()
    crowded = [{**target, "iscrowd": torch.ones_like(target["labels"])} for target in TARGETS]
    step(equip(model, loss=Loss(FocalLoss(), SmoothL1Loss(beta=1.0)), observers=[recorder]), IMAGES, crowded)
    assert not recorder.selections["roi"].sample.positive.any()
    assert not recorder.selections["rpn"].sample.positive.any()
