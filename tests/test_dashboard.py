"""The workspace's specification: made without a network, and of keys that runs really have."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from harness.data.export import to_coco
from harness.data.sources.shapes import shapes
from harness.tracking import dashboard
from harness.tracking.wandb_tracker import numbers, sampling_values
from tests.test_tracking import closed_port, detections_of, result_of, window_of

# wandb-workspaces warns of its own use of pydantic when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def own_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", closed_port())
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    wandb.teardown()
    yield
    wandb.teardown()


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    pytest.importorskip("wandb_workspaces")
    assert dashboard.main(["--entity", "me", "--project", "own", "--dry-run", *arguments]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    value: dict[str, Any] = json.loads(said.out)
    return value


def panels_of(specification: dict[str, Any]) -> list[dict[str, Any]]:
    sections = specification["spec"]["section"]["panelBankConfig"]["sections"]
    return [panel for section in sections for panel in section["panels"]]


def test_the_specification_says_what_is_compared(capsys: pytest.CaptureFixture[str], own_wandb: None) -> None:
    specification = printed(capsys)
    assert (specification["entity"], specification["project"]) == ("me", "own")
    by_title = {panel["config"].get("chartTitle"): panel for panel in panels_of(specification)}
    accuracy = by_title["mAP@[.5:.95]"]
    assert accuracy["viewType"] == "Bar Chart"
    assert accuracy["config"]["metrics"] == ["eval/map"]
    assert (accuracy["config"]["groupBy"], accuracy["config"]["groupAgg"]) == ("group", "mean")
    assert accuracy["config"]["groupArea"] == "stderr"
    (runs,) = specification["spec"]["section"]["runSets"]
    assert runs["grouping"] == [{"name": "group", "section": "run"}]
    assert runs["filters"]["filters"][0]["value"] == "train"


def test_every_key_is_one_that_runs_have(capsys: pytest.CaptureFixture[str], own_wandb: None, tmp_path: Path) -> None:
    annotations = to_coco(shapes(num_train=1, num_val=3, cache_dir=str(tmp_path)).val)
    result = result_of(annotations, detections_of(annotations))
    known = {"train/lr", "eval/images", "train/loss/classifier", *sampling_values(window_of(1))}
    for values, prefix in ((result.metrics, "eval"), (result.sampling, "sampling_run"), (vars(result.cost), "cost")):
        known |= {name for name, _ in numbers(values, prefix)}
    asked = set()
    for panel in panels_of(printed(capsys, "--stages", "roi")):
        config = panel["config"]
        asked |= set(config.get("metrics") or []) | set(config.get("mediaKeys") or [])
        asked |= {config[axis].removeprefix("summary:") for axis in ("xAxis", "yAxis") if config.get(axis)}
        if config.get("metricRegex"):
            assert any(re.fullmatch(config["metricRegex"], name) for name in known)
    assert {"eval/map", "cost/train_seconds", "sample_iou/roi/sampled/negative"} <= asked
    assert asked - {"_step"} <= known


def test_stages_are_chosen(capsys: pytest.CaptureFixture[str], own_wandb: None) -> None:
    text = json.dumps(printed(capsys, "--stages", "dense"))
    assert "sample_iou/dense/sampled/negative" in text
    assert "sample_iou/roi" not in text


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb_workspaces"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert dashboard.main(["--entity", "me", "--dry-run"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"{dashboard.MISSING}\n"


def test_without_a_key_it_says_so(own_wandb: None, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb_workspaces")
    assert dashboard.main(["--entity", "me"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("harness:")]
    assert "no API key" in line
