"""Every key of the configuration has one role, and the identity of a run follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from harness.runs.identity import config_hash, identity_of, role_of
from harness.runs.roles import WITHOUT_EFFECT, Role
from tests.runs.conftest import Composed, small_config

CHANGES = {  # what a user may change -> its role
    "sampler=ohem": Role.METHOD,
    "augment@data.augment=photometric": Role.METHOD,
    "optimizer.lr=0.1": Role.TRAINING,
    "run.batch_size=3": Role.TRAINING,
    "detector.min_size=96": Role.DETECTOR,
    "data.draw_seed=3": Role.DATA,
    "run.iterations=7": Role.LENGTH,
    "evaluator.max_dets=10": Role.EVALUATION,
    "seed=1": Role.SEED,
    "run.threads=2": Role.CONDITION,
    "optimizer.fused=true": Role.CONDITION,
    "evaluator.tide=false": Role.CONDITION,
    "assigner.memory_bound=1000": Role.SPEED,
    "run.num_workers=2": Role.SPEED,
    "data.cache_dir=/elsewhere": Role.BOOKKEEPING,
    "tracker.project=mine": Role.BOOKKEEPING,
    "name=mine": Role.BOOKKEEPING,
}


def hashed(config: DictConfig) -> str:
    return config_hash(OmegaConf.to_container(config, resolve=True), "data")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def unchanged(cache: Path) -> str:
    """The hash of a small run in another folder."""
    return hashed(small_config(Path("elsewhere"), cache))


@pytest.mark.parametrize("override", CHANGES)
def test_a_change_is_a_new_run_unless_its_role_says_that_it_has_no_effect(
    override: str, composed: Composed, unchanged: str
) -> None:
    role = role_of(override.partition("=")[0].rpartition("@")[2])
    assert role is CHANGES[override]
    assert (hashed(composed(override)) == unchanged) == (role in WITHOUT_EFFECT)


def test_a_key_of_a_later_version_does_not_count_at_its_default(composed: Composed) -> None:
    now: Any = OmegaConf.to_container(composed(), resolve=True)
    before = {**now, "optimizer": {name: value for name, value in now["optimizer"].items() if name != "fused"}}
    assert before != now
    assert identity_of(before) == identity_of(now)


def test_a_shared_value_counts_where_it_is_referred_to(composed: Composed) -> None:
    def identity(*overrides: str) -> object:
        return identity_of(OmegaConf.to_container(composed(*overrides), resolve=True))  # type: ignore[arg-type]

    assert identity("quota.num=8") == identity("sampler.num=8") != identity()
    assert identity("sampler=all", "quota.num=8") == identity("sampler=all")


def test_every_field_of_the_schema_states_its_role() -> None:
    assert role_of("rpn.sampler.num") is Role.METHOD
    assert role_of("area_ranges.small") is Role.SHARED
    assert role_of("evaluator.area_ranges.small") is Role.EVALUATION
    assert role_of("a_key.of_nobody") is Role.METHOD
