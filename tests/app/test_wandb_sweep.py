"""Sweep files of W&B: the command that an agent makes of one composes, and its result has what the sweep looks at."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from harness.app.composition import composed
from harness.experiment.settings import settled
from harness.runs.schema import folder
from tests.processes import harness
from tests.runs.conftest import SMALL

FILES = sorted((folder("sweeps") / "wandb").glob("*.yaml"))


def values_of(parameter: dict[str, Any]) -> list[Any]:
    """The values that the controller may draw, or the ends of their range."""
    if "values" in parameter:
        return list(parameter["values"])
    return [parameter["value"]] if "value" in parameter else [parameter["min"], parameter["max"]]


def agent_calls(file: Path) -> list[list[str]]:
    """What an agent runs, with each value of each parameter at least once; as W&B makes it of the file."""
    sweep = yaml.safe_load(file.read_text())
    values = {name: values_of(parameter) for name, parameter in sweep["parameters"].items()}
    calls = []
    for place in range(max(map(len, values.values()))):
        args = {name: {"value": one[place % len(one)]} for name, one in values.items()}
        known = {**create_sweep_command_args({"args": args}), "env": ["/usr/bin/env"]}
        words = create_sweep_command(list(sweep["command"]))
        calls.append([part for word in words for part in known.get(word.strip("${}"), [word])])
    return calls


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_the_agent_runs_composes(file: Path) -> None:
    assert "wandb sweep --project harness sweeps/wandb/" + file.name in file.read_text()
    for call in agent_calls(file):
        assert call[:4] == ["/usr/bin/env", "python", "-m", "harness"], shlex.join(call)
        config, _ = composed(call[4:])
        settled(config)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_the_agent_runs_ends_with_the_metric_of_the_sweep(file: Path, tmp_path: Path) -> None:
    metric = yaml.safe_load(file.read_text())["metric"]["name"]
    call = [word for word in agent_calls(file)[0][4:] if not word.startswith("tracker")]
    done = harness(tmp_path, *call, *SMALL[:2], *SMALL[3:], "tracker=none", f"run.root={tmp_path}")
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("runs/*/result.json")
    assert metric.removeprefix("eval/") in yaml.safe_load(result.read_text())["metrics"]
