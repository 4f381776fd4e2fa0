"""torchvision's SSDs, equipped."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models import detection
from torchvision.models.detection.ssd import SSDFeatureExtractorVGG

from harness.criterion import Selection
from harness.detectors.equip import equip
from harness.detectors.ssd_models import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from harness.detectors.tiny_ssd import tiny_ssd
from tests.detectors.dense_parity import (
    SCENES,
    assert_same_training,
    assert_same_training_in_doubles,
    assert_twin_is_the_host,
    images,
    losses_and_gradients,
    scene,
)

BUILDERS = {"ssd300_vgg16": ssd300_vgg16, "ssdlite320_mobilenet_v3_large": ssdlite320_mobilenet_v3_large}


@pytest.fixture(scope="module", params=list(BUILDERS))
def host(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return BUILDERS[request.param](6, score_thresh=0.0)


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return tiny_ssd(6, score_thresh=0.0)


def test_losses_and_gradients_are_torchvisions(host: nn.Module) -> None:
    count = 1 if isinstance(host.backbone, SSDFeatureExtractorVGG) else 2  # BatchNorm asks for two, time for one
    assert_same_training(host, equip(host), images()[:count], scene("ordinary")[:count])


def test_twin_is_the_host(host: nn.Module) -> None:
    assert_twin_is_the_host(host, images())


@pytest.mark.parametrize("kind", SCENES)
def test_losses_and_gradients_of_the_tiny_one_are_torchvisions(tiny: nn.Module, kind: str) -> None:
    """In all these scenes 3 x positives stays below the negatives, where torchvision's mining is right."""
    seen: list[Selection] = []
    assert_same_training(
        tiny, equip(tiny, observers=[lambda _, selection: seen.append(selection)]), images(), scene(kind)
    )
    assert_same_training_in_doubles(tiny, images(), scene(kind))
    positives = seen[0].assignment.positive.sum(-1)
    assert (4 * positives <= seen[0].candidates.boxes.shape[1]).all()


def test_tiny_twin_is_the_host(tiny: nn.Module) -> None:
    assert_twin_is_the_host(tiny, images())


def test_torchvision_counts_positives_twice_where_they_outnumber_the_negatives() -> None:
    """The fault, and what is right: every positive once, and every negative, as there are fewer than were asked for."""
    torch.manual_seed(0)
    host = tiny_ssd(6, image_size=32, anchor_sizes=(12.0, 20.0, 28.0))
    logits: list[Tensor] = []
    host.head.register_forward_hook(lambda module, inputs, output: logits.append(output["cls_logits"].detach()))
    batch, targets = images(32, 32, 1), scene("crowded", height=32, width=32)[:1]
    seen: list[Selection] = []
    twin = equip(host, observers=[lambda _, selection: seen.append(selection)])
    theirs, _ = losses_and_gradients(host, batch, targets)
    ours, _ = losses_and_gradients(twin, batch, targets)

    gt_index = seen[0].assignment.gt_index[0]
    positive = gt_index >= 0
    assert 3 * positive.sum() > (~positive).sum() > 0
    target = torch.where(positive, targets[0]["labels"][gt_index.clamp(min=0)], 0)
    losses = cross_entropy(logits[0][0], target, reduction="none")
    once = losses.sum() / positive.sum()
    twice = min(int(positive.sum()), int(3 * positive.sum() - (~positive).sum()))
    torch.testing.assert_close(ours["classification"], once, rtol=1e-6, atol=0)
    extra = losses[positive].sort().values
    low, high = extra[:twice].sum() / positive.sum(), extra[-twice:].sum() / positive.sum()
    assert once + low * 0.999 <= theirs["classification"] <= once + high * 1.001
    torch.testing.assert_close(ours["bbox_regression"], theirs["bbox_regression"], rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "name", [pytest.param("ssd300_vgg16", marks=pytest.mark.slow), "ssdlite320_mobilenet_v3_large"]
)
def test_checkpoint_of_another_number_of_classes_keeps_all_but_the_predictor(name: str, tmp_path: object) -> None:
    trained = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=4)
    path = f"{tmp_path}/ssd.pt"
    torch.save(trained.state_dict(), path)
    model = BUILDERS[name](6, weights=path)
    state = model.state_dict()
    assert state.keys() == trained.state_dict().keys()
    changed = {
        key
        for key, value in trained.state_dict().items()
        if value.shape != state[key].shape or not torch.equal(value, state[key])
    }
    assert changed
    assert all(key.startswith("head.classification_head.") for key in changed)
    assert model.head.classification_head.num_columns == 6


def test_anchor_sizes_of_another_number_of_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="must be one longer than levels"):
        tiny_ssd(6, anchor_sizes=(20.0, 40.0))
