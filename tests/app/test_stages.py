"""Which sampler each stage of a cascade trains with."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from harness.experiment.pieces import build_pieces
from harness.losses.regression.smooth_l1 import SmoothL1Loss
from harness.runs import schema
from harness.samplers.ohem import OHEMSampler
from harness.samplers.random import RandomSampler


@pytest.mark.parametrize(
    ("overrides", "later"),
    [
        ((), RandomSampler),
        (("sampler=ohem",), OHEMSampler),
        (("sampler=ohem", "sampler@roi2.sampler=random", "sampler@roi3.sampler=random"), RandomSampler),
        (("recipe=cascade_rcnn",), RandomSampler),
    ],
)
def test_the_stages_of_a_cascade_follow_the_root(overrides: tuple[str, ...], later: type) -> None:
    schema.register()
    conf = str(schema.folder("conf"))
    with initialize_config_dir(conf, version_base="1.3"):
        config = compose("config", overrides=["detector=tiny_cascade", "roi3.quota.num=40", *overrides])
    pieces = build_pieces(config, [conf])
    for name, num in (("roi2", config.roi2.quota.num), ("roi3", 40)):
        sampler = pieces.stages[name].sampler
        assert isinstance(sampler, later)
        assert sampler.quota.num == num


@pytest.mark.parametrize("detector", ["tiny_cascade", "cascade_rcnn_resnet50_fpn"])
def test_the_recipe_of_a_cascade_has_the_published_box_losses(detector: str) -> None:
    """mmdetection's: smooth L1 of beta 1 in the three stages and 1/9 in the RPN; stages of weight 1, .5, .25."""
    schema.register()
    conf = str(schema.folder("conf"))
    with initialize_config_dir(conf, version_base="1.3"):
        pieces = build_pieces(compose("config", overrides=[f"detector={detector}", "recipe=cascade_rcnn"]), [conf])
    found = {}
    for name, stage in {"roi": pieces.root, **pieces.stages}.items():
        assert stage.loss is not None
        assert isinstance(stage.loss.regression, SmoothL1Loss)
        found[name] = (stage.loss.regression.beta, stage.loss.classification_weight, stage.loss.regression_weight)
    later = {"roi": (1.0, 1.0, 1.0), "roi2": (1.0, 0.5, 0.5), "roi3": (1.0, 0.25, 0.25)}
    assert found == {**later, "rpn": (1 / 9, 1.0, 1.0)}
