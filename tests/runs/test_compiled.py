"""``run.compile``: which parts are compiled, and that the training is the same up to rounding."""

from __future__ import annotations

import copy

import pytest
from torch import nn

from harness.app.composition import composed
from harness.experiment.pieces import build
from harness.runs.identity import config_hash
from harness.runs.metrics_log import MetricsLog
from harness.training.compiled import compile_networks
from tests.runs.conftest import Trained

STAGES = ("roi", "roi2", "roi3")
PARTS = {
    "tiny_rcnn": ["backbone", "rpn.head", "roi_heads.box_head", "roi_heads.box_predictor"],
    "tiny_cascade": [
        "backbone",
        "rpn.head",
        *(f"roi_heads.stages.{stage}.{part}" for stage in STAGES for part in ("box_head", "box_predictor")),
    ],
    "tiny_maskrcnn": [
        "backbone",
        "rpn.head",
        *(f"roi_heads.{part}" for part in ("box_head", "box_predictor", "mask_head", "mask_predictor")),
    ],
    "tiny_retinanet": ["backbone", "head.classification_head", "head.regression_head"],
    "tiny_ssd": ["backbone", "head.classification_head", "head.regression_head"],
    "tiny_fcos": ["backbone", "head.classification_head", "head.regression_head"],
    "tiny_yolox": ["backbone", "head"],
}


@pytest.mark.parametrize("detector", PARTS)
def test_backbone_and_heads_are_compiled_and_keep_their_names(detector: str) -> None:
    config, _ = composed([f"detector={detector}"])
    model: nn.Module = build(config.detector, "detector", num_classes=6)
    names = list(model.state_dict())
    assert compile_networks(model) == PARTS[detector]
    assert list(model.state_dict()) == names
    assert all(model.get_submodule(name)._compiled_call_impl is not None for name in PARTS[detector])
    copied = copy.deepcopy(model)  # the moving average of the weights is such a copy
    assert list(copied.state_dict()) == names


def test_runs_of_versions_without_the_key_keep_their_identity() -> None:
    known = {"run": {"iterations": 5}, "sampler": {"num": 8}}

    def hash_with(**run: object) -> str:
        return config_hash({**known, "run": {**known["run"], **run}}, "data")

    assert config_hash(known, "data") == hash_with(compile=False)
    assert hash_with(compile=True) != hash_with(compile=False) != hash_with(iterations=6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own, on compiling
@pytest.mark.parametrize("detector", ["tiny_rcnn", "tiny_retinanet"])
def test_a_compiled_run_is_the_same_up_to_rounding(detector: str, trained: Trained) -> None:
    chosen = [f"detector={detector}", "run.log_every=1", *(["recipe=retinanet"] * (detector == "tiny_retinanet"))]
    plain, compiled = (
        MetricsLog.rows(trained(*chosen, f"run.compile={compiles}", root=root) / "metrics.jsonl")[0]
        for compiles, root in (("false", "plain"), ("true", "compiled"))
    )
    assert compiled == pytest.approx(plain, rel=1e-4, abs=1e-6)
