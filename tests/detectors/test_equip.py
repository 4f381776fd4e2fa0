"""What equip returns: the same parameters and the same detections, other training."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork

from harness.criterion.compatibility import IncompatibleError
from harness.criterion.stage import StageComponents
from harness.detectors import equip
from harness.detectors.adapters.mixing import plain_module
from harness.detectors.zoo.cascade_rcnn import tiny_cascade
from harness.detectors.zoo.tiny_fcos import tiny_fcos
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from harness.detectors.zoo.tiny_ssd import tiny_ssd
from harness.detectors.zoo.yolox import tiny_yolox
from harness.losses.classification.seesaw import SeesawLoss
from harness.losses.pair import Loss
from harness.losses.regression.l1 import L1Loss
from harness.losses.regression.smooth_l1 import SmoothL1Loss
from harness.losses.terms import BoxTerm
from harness.samplers.all import AllSampler
from harness.samplers.ohem import OHEMSampler
from harness.samplers.random import RandomSampler
from tests.detectors.rcnn_parity import Recorder, scenes, step

IMAGES, TARGETS = scenes(96, 5)["ordinary"]


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return tiny_rcnn(5, min_size=96)


def detections(model: nn.Module) -> list[dict[str, Tensor]]:
    model.eval()
    with torch.no_grad():
        found = model(IMAGES)
    model.train()
    return found


def test_the_twin_shares_parameters_and_state(model: Any) -> None:
    twin = equip(model, sampler=OHEMSampler(32, 0.25))
    assert [id(p) for p in twin.parameters()] == [id(p) for p in model.parameters()]
    assert list(twin.state_dict()) == list(model.state_dict())
    fresh = tiny_rcnn(5)
    fresh.load_state_dict(twin.state_dict(), strict=True)
    equip(fresh).load_state_dict(model.state_dict(), strict=True)


def test_detections_are_equal_to_the_bit(model: Any) -> None:
    before = detections(model)
    for after in (detections(equip(model, sampler=AllSampler())), detections(model)):
        for one, other in zip(before, after, strict=True):
            assert len(one["boxes"]) > 0
            assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_given_model_is_not_changed(model: Any) -> None:
    rpn, roi, attributes = model.rpn, model.roi_heads, set(vars(model))
    torch.manual_seed(1)
    before = step(model, IMAGES, TARGETS)
    step(equip(model, sampler=AllSampler()), IMAGES, TARGETS)
    torch.manual_seed(1)
    after = step(model, IMAGES, TARGETS)
    assert model.rpn is rpn
    assert model.roi_heads is roi
    assert set(vars(model)) == attributes
    assert type(model) is FasterRCNN
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])


class Doubled(FasterRCNN):
    """A user's own detector: a loss of its own, and a count of its calls."""

    calls = 0

    def forward(self, images: Any, targets: Any = None) -> Any:
        Doubled.calls += 1
        result = super().forward(images, targets)
        return {**result, "loss_own": next(self.parameters()).sum()} if self.training else result


class PickyRoIHeads(RoIHeads):
    def postprocess_detections(self, *arguments: Any) -> Any:
        boxes, scores, labels = super().postprocess_detections(*arguments)
        return [b[:1] for b in boxes], [s[:1] for s in scores], [label[:1] for label in labels]


def test_a_users_subclass_keeps_its_behaviour(model: Any) -> None:
    model.__class__, model.roi_heads.__class__ = Doubled, PickyRoIHeads
    own = model
    twin = equip(own, sampler=OHEMSampler(16, 0.25))
    assert isinstance(twin, Doubled)
    calls = Doubled.calls
    losses, _ = step(twin, IMAGES, TARGETS)
    assert Doubled.calls == calls + 1
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg", "loss_own"}
    assert all(len(found["boxes"]) == 1 for found in detections(twin))


class LoudRoIHeads(RoIHeads):
    """A user's training with a term of its own, which still runs the host's."""

    def forward(self, *arguments: Any) -> Any:
        detections, losses = super().forward(*arguments)
        return detections, {**losses, "loss_loud": torch.ones(())} if self.training else losses


class DeafRoIHeads(RoIHeads):
    def forward(self, features: Any, proposals: Any, image_shapes: Any, targets: Any = None) -> Any:
        return [], {"loss_classifier": next(iter(features.values())).sum()}


class ChoosyRPN(RegionProposalNetwork):
    def assign_targets_to_anchors(self, anchors: Any, targets: Any) -> Any:
        return super().assign_targets_to_anchors(anchors, targets)


class OwnRetinaHead(RetinaNetHead):
    def compute_loss(self, *arguments: Any) -> Any:
        return super().compute_loss(*arguments)


def test_a_users_forward_that_calls_super_is_honored(model: Any) -> None:
    model.roi_heads.__class__ = LoudRoIHeads
    recorder = Recorder()
    losses, _ = step(equip(model, sampler=RandomSampler(8, 0.5), observers=[recorder]), IMAGES, TARGETS)
    assert "loss_loud" in losses
    assert recorder.selections["roi"].sample.index.shape[-1] == 8


def test_an_override_that_would_be_bypassed_is_refused(model: Any) -> None:
    model.roi_heads.__class__ = DeafRoIHeads
    with pytest.raises(IncompatibleError, match=r"^DeafRoIHeads\.forward replaces the training .* must call super"):
        equip(model)
    model.roi_heads.__class__, model.rpn.__class__ = RoIHeads, ChoosyRPN
    with pytest.raises(IncompatibleError, match=r"^ChoosyRPN\.assign_targets_to_anchors would never be called"):
        equip(model)
    retinanet = tiny_retinanet(5)
    retinanet.head.__class__ = OwnRetinaHead
    with pytest.raises(IncompatibleError, match=r"^OwnRetinaHead\.compute_loss would never be called"):
        equip(retinanet)


def test_a_pickled_twin_is_the_same_detector(model: Any) -> None:
    twin = equip(model, sampler=OHEMSampler(16, 0.25), generator=torch.Generator().manual_seed(3))
    file = io.BytesIO()
    torch.save(twin, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert type(again) is type(twin)
    assert type(again).__name__ == "EquippedFasterRCNN"
    assert isinstance(again, FasterRCNN)
    torch.manual_seed(7)
    first = step(twin, IMAGES, TARGETS)
    torch.manual_seed(7)
    second = step(again, IMAGES, TARGETS)
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])
    assert type(copy.deepcopy(twin)) is type(twin)


@pytest.mark.filterwarnings("ignore")  # torch deprecates torch.jit as a whole
def test_a_twin_scripts_where_plain_torchvision_does() -> None:
    untrained = {"weights": None, "weights_backbone": None, "box_score_thresh": 0.0}
    twin = equip(
        fasterrcnn_mobilenet_v3_large_320_fpn(num_classes=5, **untrained), sampler=OHEMSampler(16, 0.25)
    ).eval()
    assert type(plain_module(twin)) is FasterRCNN
    assert type(plain_module(twin).roi_heads) is RoIHeads
    scripted = torch.jit.script(twin)
    _, found = scripted(IMAGES)
    for one, other in zip(detections(twin), found, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # dynamo warns of torch's own deprecations
def test_a_twin_trains_compiled(model: Any) -> None:
    """As plain torchvision does: graph breaks of its own, dynamic shapes, the global random stream."""
    twin = equip(model, sampler=OHEMSampler(16, 0.25))
    compiled = torch.compile(twin, backend="eager", dynamic=True)
    losses = compiled.train()(IMAGES, TARGETS)
    assert all(bool(loss.isfinite()) for loss in losses.values())


def test_another_predictor_after_equip_is_named(model: Any) -> None:
    twin = equip(model)
    twin.roi_heads.box_predictor = FastRCNNPredictor(twin.roi_heads.box_predictor.cls_score.in_features, 9)
    with pytest.raises(ValueError, match=r"stage roi: the head gives 9 columns, but had 5 .* equip the detector again"):
        step(twin, IMAGES, TARGETS)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"sampler": "ohem"}, r"sampler must be an object such as .*OHEMSampler.*, got 'ohem'"),
        ({"sampler": OHEMSampler}, r"sampler must be .* got the class OHEMSampler: call it to make an object"),
        ({"assigner": OHEMSampler(8, 0.5)}, r"assigner must be .* got a OHEMSampler"),
        ({"loss": SeesawLoss()}, r"loss must be .*harness\.Loss.* got a SeesawLoss"),
        ({"stages": {"rpn": OHEMSampler(8, 0.5)}}, r"stages\['rpn'\] must be a harness\.StageComponents"),
    ],
)
def test_an_argument_of_another_kind_is_refused_at_once(model: Any, arguments: Any, line: str) -> None:
    with pytest.raises(TypeError, match=f"^{line}"):
        equip(model, **arguments)


BOXES, LABELS = TARGETS[0]["boxes"], TARGETS[0]["labels"]
NAN = BOXES.clone().index_fill_(1, torch.tensor([0]), float("nan"))


@pytest.mark.parametrize("make", [tiny_rcnn, tiny_retinanet, tiny_fcos, tiny_ssd], ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    ("changed", "error", "line"),
    [
        ({"labels": LABELS.to(torch.uint8)}, TypeError, r"targets\[0\]\['labels'\] must be of type torch.int64"),
        ({"boxes": NAN}, ValueError, r"targets\[0\]\['boxes'\]\[0\] is \[nan.*must be finite"),
        ({"iscrowd": LABELS[1:]}, ValueError, r"targets\[0\]\['iscrowd'\] must have shape"),
        ({"labels": LABELS + 5}, ValueError, r"targets\[0\]\['labels'\]\[0\] is \d: labels must be .* at most 4"),
        ({"labels": LABELS - 9}, ValueError, r"targets\[0\]\['labels'\]\[0\] is -\d: labels must be at least 0"),
        (
            {"labels": LABELS.clone().index_fill_(0, torch.tensor([0]), -1)},
            ValueError,
            r"is -1: labels must be at least 0",
        ),
    ],
    ids=["uint8 labels", "NaN box", "short iscrowd", "label above", "label below", "label -1, which pads"],
)
def test_wrong_targets_are_named(make: Any, changed: dict[str, Any], error: type, line: str) -> None:
    twin = equip(make(5)).train()
    with pytest.raises(error, match=line):
        twin(IMAGES, [{**TARGETS[0], **changed}, *TARGETS[1:]])


@pytest.mark.parametrize(
    "make", [tiny_rcnn, tiny_cascade, tiny_retinanet, tiny_fcos, tiny_ssd, tiny_yolox], ids=lambda make: make.__name__
)
def test_every_loss_of_a_stage_is_trained(make: Any) -> None:
    """Whatever a criterion returns is among the losses that the detector returns, by a name of its own."""
    twin = equip(make(5)).train()
    given: list[torch.Tensor] = []
    for criterion in twin.criteria.values():
        criterion.loss.terms["further"] = BoxTerm(L1Loss())
        criterion.register_forward_hook(lambda _module, _inputs, losses: given.extend(losses.values()))
    losses = twin(IMAGES, TARGETS)
    assert len([name for name in losses if "further" in name]) == len(twin.criteria)
    assert {id(value) for value in given} == {id(value) for value in losses.values()}


def test_criteria_follow_device_type_and_mode(model: Any) -> None:
    twin = equip(model, loss=Loss(SeesawLoss(objectness=False), SmoothL1Loss(beta=1.0)))
    criterion = twin.criteria["roi"]
    twin.eval()
    assert not criterion.loss.training
    twin.train()
    assert criterion.loss.training
    twin.to("meta")
    assert criterion.loss.classification.cum_samples.device.type == "meta"
    assert next(twin.parameters()).device.type == "meta"


def test_the_state_of_a_loss_is_kept_apart(model: Any) -> None:
    def seesaw() -> Loss:
        return Loss(SeesawLoss(objectness=False), SmoothL1Loss(beta=1.0))

    twin = equip(model, loss=seesaw())
    step(twin, IMAGES, TARGETS)
    state = copy.deepcopy(twin.criteria_state_dict())
    assert int(state["roi"]["loss.classification.cum_samples"].sum()) > 0
    again = equip(model, loss=seesaw())
    again.load_criteria_state_dict(state)
    own = again.criteria_state_dict()["roi"]
    assert torch.equal(own["loss.classification.cum_samples"], state["roi"]["loss.classification.cum_samples"])
    with pytest.raises(ValueError, match="the state is of the stages rpn, the detector has roi, rpn"):
        again.load_criteria_state_dict({"rpn": state["rpn"]})


def test_an_equipped_detector_can_be_equipped_again(model: Any) -> None:
    twin = equip(equip(model, sampler=AllSampler()), sampler=RandomSampler(8, 0.5))
    recorder = Recorder()
    step(equip(twin, sampler=RandomSampler(8, 0.5), observers=[recorder]), IMAGES, TARGETS)
    assert recorder.selections["roi"].sample.index.shape[-1] == 8
    assert type(equip(twin)) is type(twin)


def test_a_copy_is_independent(model: Any) -> None:
    twin = equip(model, generator=torch.Generator().manual_seed(0))
    other = copy.deepcopy(twin)
    assert other.criteria["roi"] is not twin.criteria["roi"]
    assert other.roi_heads.criterion is other.criteria["roi"]
    for parameter in other.parameters():
        parameter.data.zero_()
    assert float(next(twin.parameters()).detach().abs().sum()) > 0


def test_the_generator_is_the_only_randomness(model: Any) -> None:
    def losses(seed: int) -> dict[str, Tensor]:
        twin = equip(
            model,
            sampler=RandomSampler(6, 0.5),
            stages={"rpn": StageComponents(sampler=RandomSampler(6, 0.5))},
            generator=torch.Generator().manual_seed(seed),
        )
        state = torch.get_rng_state()
        found, _ = step(twin, IMAGES, TARGETS)
        # torchvision's transform draws one number per image to choose among its sizes; nothing else may draw
        own = torch.get_rng_state()
        torch.set_rng_state(state)
        for _ in IMAGES:
            torch.empty(1).uniform_(0.0, 1.0)
        assert torch.equal(torch.get_rng_state(), own)
        return found

    first, again, other = losses(5), losses(5), losses(6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_shadows_never_train(model: Any) -> None:
    recorder = Recorder()
    plain = step(equip(model, generator=torch.Generator().manual_seed(1)), IMAGES, TARGETS)
    shadowed = equip(
        model,
        generator=torch.Generator().manual_seed(1),
        shadows={"ohem": OHEMSampler(16, 0.25), "random": RandomSampler(16, 0.25)},
        shadow_generator=torch.Generator().manual_seed(2),
        observers=[recorder],
    )
    watched = step(shadowed, IMAGES, TARGETS)
    assert all(torch.equal(plain[0][name], watched[0][name]) for name in plain[0])
    assert all(torch.equal(plain[1][name], watched[1][name]) for name in plain[1])
    assert set(recorder.selections) == {"rpn", "roi"}
    assert set(recorder.selections["roi"].shadows) == {"ohem", "random"}
    assert not recorder.selections["rpn"].shadows


def test_refusals(model: Any) -> None:
    with pytest.raises(TypeError, match="cannot equip a Linear"):
        equip(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="no stage 'roi2'; its stages are rpn, roi"):
        equip(model, stages={"roi2": StageComponents()})
    with pytest.raises(
        IncompatibleError,
        match=r"^stage roi: SeesawLoss needs a logit for 'object' beside the classes, which no head here has; set ",
    ):
        equip(model, loss=Loss(SeesawLoss(objectness=True), SmoothL1Loss(beta=1.0)))
