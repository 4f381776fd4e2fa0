"""The YOLOX detectors: what they compute, equipped."""

from __future__ import annotations

import math
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from harness.core.structures import Candidates, GroundTruth
from harness.criterion.stage import Selection, StageComponents
from harness.detectors.equip import equip
from harness.detectors.networks.pafpn import PAFPN
from harness.detectors.networks.tiny_backbone import group_norm
from harness.detectors.zoo.pretrained import DetectorError
from harness.detectors.zoo.yolox import tiny_yolox, yolox_s, yolox_tiny
from tests.detectors.dense_parity import SCENES, assert_twin_is_the_host, images, losses_and_gradients, scene

ANCHORS = [[(12.0, 12.0), (24.0, 24.0), (20.0, 30.0)], [(40.0, 40.0), (56.0, 56.0), (60.0, 40.0)]]


@pytest.fixture
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return tiny_yolox(6, min_size=96, max_size=160, score_thresh=0.0)


def _naive_losses(
    head: dict[str, Tensor], boxes: Tensor, selection: Selection, targets: list[dict[str, Tensor]]
) -> dict[str, float]:
    """The report's losses written as loops over images and points."""

    def bce(logit: float, target: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -(target * math.log(p) + (1 - target) * math.log(1 - p))

    sums, positives = {"classification": 0.0, "bbox_regression": 0.0, "objectness": 0.0}, 0
    for image, target in enumerate(targets):
        for point, gt in enumerate(selection.assignment.gt_index[image].tolist()):
            sums["objectness"] += bce(head["objectness"][image, point].item(), float(gt >= 0))
            if gt < 0:
                continue
            positives += 1
            x1, y1, x2, y2 = boxes[image, point].tolist()
            dx, dy, dw, dh = head["bbox_regression"][image, point].tolist()
            cx, cy = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
            w, h = (x2 - x1) * math.exp(dw), (y2 - y1) * math.exp(dh)
            decoded = torch.tensor([[cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]])
            iou = box_iou(decoded, target["boxes"][gt : gt + 1]).item()
            sums["bbox_regression"] += 5 * (1 - iou**2)
            for column, logit in enumerate(head["cls_logits"][image, point].tolist()):
                sums["classification"] += bce(logit, iou if column == target["labels"][gt].item() - 1 else 0.0)
    return {name: value / max(1, positives) for name, value in sums.items()}


@pytest.mark.parametrize("kind", ["ordinary", "one without an object", "all without an object", "crowded"])
@pytest.mark.parametrize("options", [{}, {"head": "coupled"}, {"anchor_free": False, "anchor_sizes": ANCHORS}])
def test_losses_are_the_reports(kind: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    host = tiny_yolox(6, min_size=96, max_size=160, **options)
    outputs: list[dict[str, Tensor]] = []
    host.head.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    seen: list[Selection] = []
    twin = equip(host, observers=[lambda _, selection: seen.append(selection)])
    batch, targets = [torch.rand(3, 96, 128) for _ in range(2)], scene(kind)
    losses, gradients = losses_and_gradients(twin, batch, targets)
    expected = _naive_losses(outputs[0], seen[0].candidates.boxes, seen[0], targets)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name], rel=1e-4, abs=1e-7), name
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    if kind == "ordinary":
        assert seen[0].assignment.positive.any()


@pytest.mark.parametrize("kind", SCENES)
def test_every_scene_trains(tiny: nn.Module, kind: str) -> None:
    losses, gradients = losses_and_gradients(equip(tiny), images(), scene(kind))
    assert all(loss.isfinite() for loss in losses.values())
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_twin_is_the_host(tiny: nn.Module) -> None:
    assert_twin_is_the_host(tiny, images())


@pytest.mark.parametrize("builder", [yolox_tiny, yolox_s])
def test_big_ones_train_and_detect(builder: object) -> None:
    torch.manual_seed(0)
    model = equip(builder(6, min_size=128, max_size=128, score_thresh=0.0))  # type: ignore[operator]
    losses, gradients = losses_and_gradients(model, images(), scene("ordinary"))
    assert set(losses) == {"classification", "bbox_regression", "objectness"}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert {name.split(".")[0] for name in gradients} == {"backbone", "head"}
    model.eval()
    assert all(len(image["boxes"]) > 0 for image in model(images()))


def test_detections_are_torchvisions_kind(tiny: nn.Module) -> None:
    """Labels from 1, boxes in the pixels of the given image, scores falling."""
    tiny.eval()
    batch = images(height=48, width=64)
    with torch.no_grad():
        found = tiny(batch)
    for image, detections in zip(batch, found, strict=True):
        boxes, scores, labels = detections["boxes"], detections["scores"], detections["labels"]
        assert 0 < len(boxes) <= tiny.detections_per_img
        assert labels.min() >= 1
        assert labels.max() <= 5
        assert (scores.diff() <= 0).all()
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= image.shape[2] + 1e-4).all()
        assert (boxes[:, 3] <= image.shape[1] + 1e-4).all()


def test_detections_score_class_times_objectness(tiny: nn.Module) -> None:
    tiny.nms_thresh = 1.0
    tiny.detections_per_img = tiny.topk_candidates = 10**6
    outputs: list[dict[str, Tensor]] = []
    tiny.head.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    tiny.eval()
    with torch.no_grad():
        found = tiny(images(count=1))[0]
    scores = outputs[0]["cls_logits"][0].sigmoid() * outputs[0]["objectness"][0].sigmoid()[:, None]
    torch.testing.assert_close(found["scores"], scores.flatten().sort(descending=True).values)


def test_head_starts_at_its_prior(tiny: nn.Module) -> None:
    outputs = tiny.head([torch.zeros(1, 64, 4, 4), torch.zeros(1, 64, 2, 2)])
    assert outputs["cls_logits"].shape == (1, 20, 5)
    assert outputs["objectness"].shape == (1, 20)
    torch.testing.assert_close(outputs["objectness"].sigmoid().mean(), torch.tensor(0.01), rtol=0.2, atol=0)


@pytest.mark.parametrize("anchor_free", [True, False])
def test_outputs_stand_in_the_order_of_the_candidates(anchor_free: bool) -> None:
    """Raising one cell's answer moves that cell's candidate and no other."""
    model = tiny_yolox(6, min_size=96, anchor_free=anchor_free, anchor_sizes=ANCHORS)
    head = model.head
    per_cell = 1 if anchor_free else 3
    feature = torch.zeros(1, 64, 3, 5)
    level = head.levels[0]
    marked = per_cell - 1  # the cell's last anchor

    def answer(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        output = torch.zeros_like(output)
        output[0, marked, 1, 2] = 7.0
        return output

    level.objectness.register_forward_hook(answer)
    row = head([feature, torch.zeros(1, 64, 2, 3)])["objectness"][0]
    index = (1 * 5 + 2) * per_cell + marked
    assert row[index] == 7.0
    assert row[: 15 * per_cell].count_nonzero() == 1
    from torchvision.models.detection.image_list import ImageList

    boxes = model.anchor_generator(
        ImageList(torch.zeros(1, 3, 24, 40), [(24, 40)]), [feature, torch.zeros(1, 64, 2, 3)]
    )
    center = (boxes[0][index, :2] + boxes[0][index, 2:]) / 2
    assert center.tolist() == [20.0, 12.0]
    size = boxes[0][index, 2:] - boxes[0][index, :2]
    assert size.tolist() == ([8.0, 8.0] if anchor_free else list(ANCHORS[0][marked]))


def test_a_plain_one_says_that_it_has_no_loss(tiny: nn.Module) -> None:
    with pytest.raises(RuntimeError, match=r"equip\(model"):
        tiny.train()(images(), scene("ordinary"))


def test_training_without_targets_is_refused(tiny: nn.Module) -> None:
    with pytest.raises(ValueError, match="targets must be given in training"):
        equip(tiny).train()(images())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "both"}, "head='both' is unknown; choose one of coupled, decoupled"),
        ({"anchor_free": False, "anchor_sizes": ANCHORS[:1]}, "for each of the 2 levels"),
        ({"levels": (8, 32)}, "must be strides out of 4, 8, 16"),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        tiny_yolox(6, **options)
    assert "\n" not in str(refused.value)


def test_unknown_backbone_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of mobilenet_v3_large, resnet18, resnet50"):
        yolox_s(6, backbone="vgg")


def test_no_network_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, weights: str | None) -> nn.Module:
        raise URLError("no route to host")

    monkeypatch.setattr("harness.detectors.zoo.yolox.get_model", unreachable)
    with pytest.raises(
        DetectorError, match=r"DEFAULT could not be downloaded .* detector\.weights_backbone=null"
    ) as seen:
        yolox_tiny(6, weights_backbone="DEFAULT")
    assert "\n" not in str(seen.value)


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"detector\.weights_backbone='NONSENSE' does not exist"):
        yolox_tiny(6, weights_backbone="NONSENSE")


def test_neck_keeps_odd_sizes() -> None:
    neck = PAFPN((8, 16, 24), 8, group_norm)
    levels = neck([torch.rand(1, 8, 13, 7), torch.rand(1, 16, 7, 4), torch.rand(1, 24, 4, 2)])
    assert [tuple(level.shape[-2:]) for level in levels] == [(13, 7), (7, 4), (4, 2)]


class _NoNegative:
    """A sampler that leaves the negatives out."""

    needs: frozenset[object] = frozenset()
    add_gt_as_proposals = False

    def __call__(self, truth: GroundTruth, candidates: Candidates, assignment: object, **_: object) -> object:
        from harness.core.structures import SamplingResult

        positive = assignment.positive  # type: ignore[attr-defined]
        index = torch.arange(positive.shape[-1]).expand(positive.shape)
        return SamplingResult(index, positive, positive.float(), in_order=True)


def test_objectness_is_learnt_by_the_sample_only(tiny: nn.Module) -> None:
    everything = equip(tiny)
    positives = equip(tiny, sampler=_NoNegative())  # type: ignore[arg-type]
    first, _ = losses_and_gradients(everything, images(), scene("ordinary"))
    second, _ = losses_and_gradients(positives, images(), scene("ordinary"))
    assert second["objectness"] < first["objectness"]
    torch.testing.assert_close(second["classification"], first["classification"])


def test_hard_negatives_are_those_of_high_objectness(tiny: nn.Module) -> None:
    """No class is learnt by a negative here, so mining must look at the objectness."""
    from harness.samplers.hard_negative import HardNegativeSampler

    nn.init.normal_(tiny.head.levels[0].objectness.weight, std=1.0)
    outputs: list[dict[str, Tensor]] = []
    tiny.head.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    seen: list[Selection] = []
    twin = equip(tiny, sampler=HardNegativeSampler(1.0), observers=[lambda _, selection: seen.append(selection)])
    losses_and_gradients(twin, images(), scene("ordinary"))
    sample, objectness = seen[0].sample, outputs[0]["objectness"].detach()
    for image in range(2):
        taken = sample.negative[image].nonzero().flatten()
        chosen = objectness[image, sample.index[image, taken]]
        left = objectness[image][seen[0].assignment.negative[image]].sort(descending=True).values
        assert len(chosen) > 0
        torch.testing.assert_close(chosen.sort(descending=True).values, left[: len(chosen)])


def test_a_trio_may_be_given_for_the_stage_by_name(tiny: nn.Module) -> None:
    with pytest.raises(ValueError, match="has no stage 'roi'; its stages are dense"):
        equip(tiny, stages={"roi": StageComponents()})
