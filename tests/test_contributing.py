"""CONTRIBUTING's five steps, followed with the code that it shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from harness.assigners import MaxIoUAssigner
from harness.data.records import DataError
from harness.losses import GIoULoss
from harness.samplers import AllSampler
from harness.testing import (
    ContractError,
    check_assigner,
    check_classification_loss,
    check_regression_loss,
    check_sampler,
)
from tests.processes import harness

ROOT = Path(__file__).resolve().parent.parent
OWN = ("--config-dir", "my_conf", "sampler=easiest")


def shown(name: str, page: str = "CONTRIBUTING.md") -> str:
    """The code block that follows the comment with this name."""
    text = (ROOT / page).read_text()
    found = re.search(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```", text, flags=re.S)
    assert found, f"{page} shows no {name}"
    return found.group(1)


def defined(name: str, page: str) -> dict[str, Any]:
    """What a code block defines."""
    names: dict[str, Any] = {}
    exec(compile(shown(name, page), name, "exec"), names)
    return names


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contributor")
    (folder / "my_sampler.py").write_text(shown("my_sampler.py"))
    (folder / "check_my_sampler.py").write_text(shown("check_my_sampler.py"))
    (folder / "my_conf" / "sampler").mkdir(parents=True)
    (folder / "my_conf" / "sampler" / "easiest.yaml").write_text(shown("easiest.yaml"))
    return folder


def python(workplace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(workplace), str(ROOT)])}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, timeout=300)


def test_the_new_sampler_is_checked(workplace: Path) -> None:
    done = harness(workplace, *OWN, "mode=check")
    assert done.returncode == 0, done.stderr
    assert "can work" in done.stdout


def test_the_new_sampler_refuses_a_bad_value_in_one_line(workplace: Path) -> None:
    done = harness(workplace, *OWN, "sampler.num=0", "mode=check")
    assert done.returncode == 2
    assert "sampler.num=0 must be a whole number of at least 1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_new_sampler_trains(workplace: Path) -> None:
    small = ("run=smoke", "tracker=none", "data.num_train=8", "data.num_val=4")
    done = python(workplace, "-m", "harness", *OWN, *small)
    assert done.returncode == 0, done.stderr
    (run,) = (workplace / "results" / "runs").iterdir()
    result = json.loads((run / "result.json").read_text())
    assert result["choices"]["sampler"] == "easiest"
    assert result["sampling"]["roi/sampled"]["positives_per_image"] >= 0


def test_the_new_sampler_keeps_the_contract(workplace: Path) -> None:
    done = python(workplace, "check_my_sampler.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        (("if losses is None:", "if False:"), "without losses, which it needs, it raises a ValueError, not Attribute"),
        (("used.float())", "used.to(easiness.dtype))"), "weight is float32 whatever the losses are"),
        (("among(order_code(easiness), trainable)", "order_code(easiness)"), "candidates are never sampled"),
        (
            (
                "index, used = largest(among(order_code(easiness), trainable), min(self.num, easiness.shape[-1]))",
                "value, index = easiness.masked_fill(~trainable, -1e9).topk(min(self.num, easiness.shape[-1])); "
                "used = value > -1e9",
            ),
            "ties go to the lower index",
        ),
        (("index.masked_fill(~used, 0)", "index.masked_fill_(used, 0)"), "no candidate is in two used slots"),
    ],
)
def test_the_contract_says_which_promise_is_broken(change: tuple[str, str], promise: str) -> None:
    code = shown("my_sampler.py")
    assert change[0] in code
    names: dict[str, object] = {}
    exec(compile(code.replace(*change), "my_sampler.py", "exec"), names)
    sampler = names["EasiestSampler"](16)  # type: ignore[operator]
    with pytest.raises(ContractError, match=promise):
        check_sampler(sampler, compiles=False)


def test_the_assigner_and_the_losses_of_the_guide_keep_the_contract() -> None:
    page = "docs/own-components.md"
    check_assigner(defined("my_assigner.py", page)["NearestAssigner"](3))
    losses = defined("my_losses.py", page)
    check_classification_loss(losses["Poly1Loss"]())
    check_regression_loss(losses["LogCoshLoss"]())


@pytest.mark.parametrize(
    ("check", "piece", "says"),
    [
        (check_sampler, AllSampler, r"an object is checked, not its class: AllSampler\(\.\.\.\)"),
        (check_sampler, MaxIoUAssigner(0.5, 0.5), "a sampler is callable .*; this is a MaxIoUAssigner"),
        (check_assigner, AllSampler(), "AllSampler is a sampler: check_sampler checks it"),
        (
            check_classification_loss,
            GIoULoss(),
            r"a subclass of harness\.losses\.ClassificationLoss; this is a GIoULoss",
        ),
        (check_regression_loss, torch.nn.L1Loss(), r"a subclass of harness\.losses\.RegressionLoss; this is a L1Loss"),
    ],
)
def test_what_is_of_another_kind_is_said_first(check: Callable[[Any], None], piece: object, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        check(piece)


def test_the_source_of_the_guide_reads_its_files(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "train.csv").write_text("0.png,1,2,11,12,cat\n0.png,5,5,20,20,dog\n1.png,,,,,\n")
    (tmp_path / "val.csv").write_text("2.png,0,0,40,30,dog\n")
    source = defined("my_data.py", "docs/own-data.md")["csv_boxes"]
    splits = source(str(tmp_path))
    assert (splits.classes, len(splits.train), len(splits.val)) == (("cat", "dog"), 2, 1)
    image, target = splits.train[0]
    assert (tuple(image.shape), target["boxes"].tolist()) == ((3, 30, 40), [[1, 2, 11, 12], [5, 5, 20, 20]])
    assert target["labels"].tolist() == [1, 2]
    (tmp_path / "val.csv").write_text("2.png,20,0,10,30,dog\n")
    with pytest.raises(DataError, match=r"val\.csv, object 1: box is inverted"):
        source(str(tmp_path))
    (tmp_path / "train.csv").write_text("0.png,1,2,11\n")
    with pytest.raises(DataError, match=r"train\.csv, line 1: .* six values"):
        source(str(tmp_path))
