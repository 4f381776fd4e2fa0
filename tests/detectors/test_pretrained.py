"""Building torchvision's detectors: names, checkpoints, other numbers of classes, no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torchvision.models import detection
from torchvision.models._api import WeightsEnum
from torchvision.ops import FrozenBatchNorm2d

from harness.detectors.zoo import rcnn as rcnn_models
from harness.detectors.zoo.pretrained import DetectorError

PREDICTOR = "roi_heads.box_predictor.cls_score.weight"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A trained state of 91 classes, in place of the download."""
    torch.manual_seed(1)
    return detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None).state_dict()


def test_named_weights_of_another_number_of_classes(monkeypatch: Any, state: dict[str, torch.Tensor]) -> None:
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: dict(state))
    model = rcnn_models.fasterrcnn_mobilenet_v3_large_320_fpn(7, weights="DEFAULT")
    assert model.roi_heads.box_predictor.cls_score.out_features == 7
    own = model.state_dict()
    assert torch.equal(own["rpn.head.cls_logits.weight"], state["rpn.head.cls_logits.weight"])
    frozen = [module for module in model.backbone.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert frozen
    same = rcnn_models.fasterrcnn_mobilenet_v3_large_320_fpn(91, weights="COCO_V1").state_dict()
    assert torch.equal(same[PREDICTOR], state[PREDICTOR])


@pytest.mark.parametrize("classes", [91, 7])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_checkpoint(tmp_path: Path, state: dict[str, torch.Tensor], classes: int, wrapped: bool) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": state} if wrapped else state, path)
    model = rcnn_models.fasterrcnn_mobilenet_v3_large_320_fpn(classes, weights=str(path))
    own = model.state_dict()
    assert own[PREDICTOR].shape[0] == classes
    equal = [
        name for name, value in own.items() if value.shape == state[name].shape and torch.equal(value, state[name])
    ]
    assert len(own) - len(equal) == (0 if classes == 91 else 4)


def test_a_checkpoint_with_frozen_statistics(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}, path)
    model = rcnn_models.fasterrcnn_mobilenet_v3_large_320_fpn(91, weights=str(path))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def test_the_mask_predictor_is_replaced(monkeypatch: Any) -> None:
    trained = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    trained = {name: value for name, value in trained.items() if not name.endswith("num_batches_tracked")}
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: trained)
    model = rcnn_models.maskrcnn_resnet50_fpn(3, weights="COCO_V1")
    assert model.roi_heads.mask_predictor.mask_fcn_logits.out_channels == 3
    assert model.roi_heads.box_predictor.cls_score.out_features == 3


def test_no_network(monkeypatch: Any) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", refuse)
    for options in ({"weights": "DEFAULT"}, {"weights_backbone": "DEFAULT"}):
        with pytest.raises(DetectorError, match="pretrained weights DEFAULT could not be downloaded") as caught:
            rcnn_models.fasterrcnn_mobilenet_v3_large_320_fpn(7, **options)
        assert "\n" not in str(caught.value)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"detector\.weights='COCO' is neither a file nor one of null, COCO_V1, DEFAULT"
    ):
        rcnn_models.fasterrcnn_mobilenet_v3_large_320_fpn(7, weights="COCO")
    with pytest.raises(ValueError, match=r"detector\.weights_backbone='NOTHING' does not exist"):
        rcnn_models.fasterrcnn_mobilenet_v3_large_320_fpn(7, weights_backbone="NOTHING")
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no checkpoint")
    with pytest.raises(DetectorError, match="not a checkpoint of fasterrcnn_mobilenet_v3_large_320_fpn"):
        rcnn_models.fasterrcnn_mobilenet_v3_large_320_fpn(7, weights=str(broken))
    other = tmp_path / "other.pt"
    torch.save({PREDICTOR: torch.zeros(7, 1024)}, other)
    with pytest.raises(DetectorError, match="does not fit fasterrcnn_mobilenet_v3_large_320_fpn"):
        rcnn_models.fasterrcnn_mobilenet_v3_large_320_fpn(7, weights=str(other))
    with pytest.raises(ValueError, match="goes with named weights"):
        rcnn_models.fasterrcnn_mobilenet_v3_large_320_fpn(7, weights=str(other), trainable_backbone_layers=2)
