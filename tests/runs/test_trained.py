"""``load_detector`` gives the detector that a run trained, as the run evaluated it."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d

from harness import load_detector
from harness.data.loading import val_loader
from harness.detectors.zoo.pretrained import WITHOUT_EPS, freeze_as_trained
from harness.runs.schema import ConfigError
from harness.training.detect import detect
from tests.runs.conftest import Composed, Trained


def test_it_detects_what_the_run_detected(trained: Trained, composed: Composed) -> None:
    """Also where the scores are no softmax, as plain torchvision would take them."""
    folder = trained("loss/classification=focal")
    model, classes = load_detector(folder)
    assert classes == tuple(json.loads((folder / "result.json").read_text())["data"]["classes"])
    assert not model.training
    splits = instantiate(composed("loss/classification=focal").data)
    rows = detect(
        model.to(memory_format=torch.channels_last), val_loader(splits.val, batch_size=2), torch.device("cpu"), "fp32"
    )
    assert rows == json.loads((folder / "detections.json").read_text())


def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is not the folder of a finished run: it has no config\.yaml"):
        load_detector(tmp_path)
    (tmp_path / "config.yaml").write_text("sampler:\n  _target_: mine.Sampler\n")
    with pytest.raises(FileNotFoundError, match=r"it has no result\.json"):
        load_detector(tmp_path)
    for name in ("result.json", "model.pt"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=r"--trust mine accepts it \(in Python: trust=\['mine'\]\)"):
        load_detector(tmp_path)


def test_frozen_layers_are_frozen_as_torchvision_freezes_them() -> None:
    """A fine-tuned detector has no counts of batches, and that of COCO_V1 normalizes without an epsilon."""
    host = detection.fasterrcnn_mobilenet_v3_large_320_fpn
    with torch.device("meta"):
        models = [host(weights=None, weights_backbone=None, num_classes=3) for _ in range(3)]
    state = models[0].state_dict()
    freeze_as_trained(models[0], state, "x.fasterrcnn_resnet50_fpn", "COCO_V1")
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in models[0].modules())
    frozen = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    for model, weights, eps in zip(models[1:], ("COCO_V1", None), (0.0, 1e-5), strict=True):
        freeze_as_trained(model, frozen, "x.fasterrcnn_resnet50_fpn", weights)
        found = {module.eps for module in model.modules() if isinstance(module, FrozenBatchNorm2d)}
        assert found == {eps}
        assert set(model.state_dict()) == set(frozen)


def test_torchvision_drops_the_epsilon_of_these_alone() -> None:
    builders = {name: one for name, one in vars(detection).items() if "_fpn" in name and inspect.isfunction(one)}
    assert set(WITHOUT_EPS) == {name for name, one in builders.items() if "overwrite_eps" in inspect.getsource(one)}
