"""Which sampler each stage of a cascade trains with."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from harness.experiment.pieces import build_pieces
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
