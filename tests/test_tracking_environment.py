"""W&B's environment: it wins over the defaults and loses to the command line; what W&B would refuse is cleaned."""

from __future__ import annotations

import pytest

from harness.runs.schema import ConfigError, TrackerConfig
from harness.tracking.environment import agents_run_id, artifact_name, cleaned_tags, run_id, settled

ENVIRONMENT = {
    "WANDB_MODE": "dryrun",
    "WANDB_PROJECT": "mine",
    "WANDB_TAGS": "a, b,,a",
    "WANDB_RUN_GROUP": "g",
    "WANDB_JOB_TYPE": "j",
    "WANDB_NAME": "n",
    "WANDB_DIR": "/elsewhere",
}


def test_the_environment_wins_over_defaults_and_loses_to_the_command_line() -> None:
    found = settled(TrackerConfig(), ENVIRONMENT)
    assert (found.mode, found.project, found.tags, found.group) == ("offline", "mine", ["a", "b"], "g")
    assert (found.job_type, found.run_name, found.dir) == ("j", "n", "/elsewhere")
    told = TrackerConfig(mode="online", project="p", tags=["t"], group="h", job_type="k", run_name="m", dir="/d")
    assert settled(told, ENVIRONMENT) == settled(told, {})
    plain = settled(TrackerConfig(), {})
    assert (plain.mode, plain.project, plain.job_type, plain.group) == ("offline", "harness", "train", None)


@pytest.mark.parametrize("environment", [{"WANDB_MODE": "disabled"}, {"WANDB_DISABLED": "true"}])
def test_a_disabled_mirror_is_none(environment: dict[str, str]) -> None:
    assert settled(TrackerConfig(), environment).kind == "none"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"WANDB_MODE": "nonsense"}, "WANDB_MODE='nonsense' must be one of online, offline, dryrun, disabled"),
        ({"WANDB_PROJECT": "my/project"}, "WANDB_PROJECT='my/project' must have"),
        ({"WANDB_INIT_TIMEOUT": "abc"}, "WANDB_INIT_TIMEOUT='abc' must be a number"),
    ],
)
def test_what_wandb_would_refuse_is_refused_early(environment: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settled(TrackerConfig(), environment)


def test_names_and_tags_are_cleaned() -> None:
    assert cleaned_tags(["t" * 70, "", "a", "a"]) == ["t" * 64, "a"]
    assert run_id("größe: 1/2?-s0-0123456789") == "gr_e_1_2_-s0-0123456789"
    assert len(run_id("n" * 200 + "-s0-0123456789")) == 96
    assert run_id("n" * 200 + "-s0-0123456789").endswith("-s0-0123456789")
    assert artifact_name("report-a b=1+2/?") == "report-a_b_1_2_"


def test_the_id_is_the_agents_in_a_wandb_sweep_alone() -> None:
    assert agents_run_id({"WANDB_RUN_ID": "abc", "WANDB_SWEEP_ID": "s"}) == "abc"
    assert agents_run_id({"WANDB_RUN_ID": "abc"}) is None
    assert agents_run_id({"WANDB_SWEEP_ID": "s"}) is None
