"""Whatever is damaged on disk is named, and is neither trained with nor reported."""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.app.run_end import Stopped
from harness.app.runner import run
from harness.data.records import DataError
from harness.data.sources.shapes import shapes
from harness.runs.folder import RunFolder
from harness.runs.integrity import DamagedFileError, check_zip, seal_zip
from harness.runs.metrics_log import MetricsLog
from harness.runs.records import State, read_json, write_json
from harness.training import checkpoint
from harness.training.checkpoint import CheckpointError, NonFiniteWeightsError
from harness.training.mining import read_round
from tests.permissions import bits_count
from tests.runs.conftest import Composed, Trained

Damage = Callable[[bytes, random.Random], bytes]


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def zeroed(data: bytes, rng: random.Random) -> bytes:
    start, size = rng.randrange(len(data)), min(len(data), 512)
    changed = data[:start] + bytes(size) + data[start + size :]
    return changed if changed != data else flipped(data, rng)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


DAMAGES = [flipped, zeroed, cut]
VALUE = {"map": 0.25, "classes": ["猫", "a"], "nested": {"x": [1, 2, None]}}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_damaged_json_file_never_reads_as_something_else(damage: Damage, indent: int | None, tmp_path: Path) -> None:
    path, rng = tmp_path / "a.json", random.Random(0)
    write_json(path, VALUE, indent)
    assert read_json(path) == VALUE
    assert json.loads(path.read_text())["map"] == 0.25, "any reader of JSON reads it"
    whole = path.read_bytes()
    for _ in range(200):
        path.write_bytes(damage(whole, rng))
        try:
            value = read_json(path)
        except ValueError:
            continue
        assert {key: value[key] for key in VALUE} == VALUE, "damage to the checksum's own name"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused(damage: Damage, tmp_path: Path) -> None:
    path, rng = tmp_path / "a.pt", random.Random(0)
    state = {"model": {"w": torch.arange(600.0)}, "iteration": 3}
    checkpoint.save(path, state)
    assert torch.equal(torch.load(path, weights_only=True)["model"]["w"], state["model"]["w"]), "torch reads it"
    assert checkpoint.load(path)["iteration"] == 3
    whole = path.read_bytes()
    for _ in range(100):
        path.write_bytes(damage(whole, rng))
        with pytest.raises(CheckpointError, match=r"a\.pt is damaged.*remove it to start afresh"):
            checkpoint.load(path)


def test_a_checkpoint_that_may_not_be_read_need_not_be_removed(tmp_path: Path) -> None:
    path, mined = tmp_path / "a.pt", tmp_path / "round_1.json"
    checkpoint.save(path, {"iteration": 3})
    write_json(mined, {"round": 1})
    for file in (path, mined):
        file.chmod(0)
    with bits_count():
        with pytest.raises(CheckpointError, match=r"a\.pt cannot be read: Permission denied$"):
            checkpoint.load(path)
        with pytest.raises(CheckpointError, match=r"round_1\.json cannot be read: Permission denied$"):
            read_round(mined, 1)


def test_an_archive_of_numpy_keeps_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with path.open("w+b") as file:
        np.savez(file, x=np.arange(5))
        seal_zip(file)
    check_zip(path)
    assert np.load(path)["x"].tolist() == [0, 1, 2, 3, 4]
    path.write_bytes(path.read_bytes().replace(b"\x03", b"\x07", 1))
    with pytest.raises(DamagedFileError):
        check_zip(path)


def test_what_is_no_file_and_what_is_too_deep(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ValueError, match=r"pipe\.json is not a file"):
        read_json(tmp_path / "pipe.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"deep\.json is not JSON: it is nested too deeply"):
        read_json(tmp_path / "deep.json")


def test_one_damaged_line_of_the_log_costs_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for iteration in range(1, 6):
        log.append({"iteration": iteration, "loss_x": 1.5, "lr": 0.1})
    log.close()
    lines = path.read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace("1.5", "7.5")
    lines[2] = "\x00" * len(lines[2][:-1]) + "\n"
    path.write_text("".join(lines) + '{"iteration": 6, "lo')
    with caplog.at_level(logging.WARNING):
        assert [row["iteration"] for row in MetricsLog.rows(path)] == [1, 4, 5]
    assert caplog.text.count("is damaged and left out") == 2, "the last line was cut by a kill, which is no damage"
    MetricsLog(path, resume_at=4).close()
    assert [row["iteration"] for row in MetricsLog.rows(path)] == [1, 4]


CHOICES = {"detector": "tiny_rcnn", "sampler": "chosen", "data": "shapes"}


@pytest.mark.parametrize("name", ["result.json", "detections.json"])
def test_a_damaged_result_is_not_already_done(name: str, trained: Trained, composed: Composed) -> None:
    folder = trained()
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(before.replace(b"0.", b"7.", 1))
    with pytest.raises(Stopped, match=f"{name} is damaged: .*remove .* and the same command makes it again") as stop:
        run(composed(), choices=CHOICES, sources=[])
    assert stop.value.state is State.FAILED
    (folder / name).unlink()
    assert trained() == folder
    assert (folder / "detections.json").read_bytes() == before or name == "result.json"


def test_a_result_out_of_range_is_damaged(trained: Trained) -> None:
    folder = trained()
    value = read_json(folder / "result.json")
    value["metrics"]["map"] = 7.5
    write_json(folder / "result.json", value)
    with pytest.raises(DamagedFileError, match=r"metrics.map=7.5 must be from 0 to 1"):
        RunFolder(folder).result()


@pytest.mark.parametrize("name", ["images.npy", "objects.npz"])
def test_damaged_scenes_are_refused(name: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"image_size": 32, "num_train": 3, "num_val": 1, "size": (4, 8)}
    shapes(**arguments, cache_dir=str(tmp_path))
    file = next(tmp_path.glob(f"shapes-train-*/{name}"))
    data = bytearray(file.read_bytes())
    data[-200] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"shapes-train-\w+ is damaged .*delete it"):
        shapes(**arguments, cache_dir=str(tmp_path))


def test_weights_that_are_not_finite_are_neither_saved_nor_evaluated(
    composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.training import loop

    real = loop.step

    def poisoned(training: loop.TrainState, batch: loop.Batch) -> dict[str, torch.Tensor]:
        losses = real(training, batch)
        with torch.no_grad():
            next(training.model.parameters()).fill_(float("nan"))
        return {name: torch.zeros_like(loss) for name, loss in losses.items()}

    monkeypatch.setattr(loop, "step", poisoned)
    with pytest.raises(Stopped, match=r"the weights are not finite at iteration 1: model\.") as stop:
        run(composed("run.iterations=1"), choices={}, sources=[])
    assert isinstance(stop.value.__cause__, NonFiniteWeightsError)
    assert not (Path(str(stop.value.folder)) / "checkpoint.pt").exists()


def test_a_box_that_is_not_finite_is_an_error() -> None:
    from harness.training.steps import require_finite_boxes

    target = {"boxes": torch.tensor([[0.0, 0.0, float("nan"), 4.0]]), "image_id": torch.tensor(7)}
    with pytest.raises(ValueError, match="a box of image 7 is not finite"):
        require_finite_boxes(([torch.zeros(3, 8, 8)], [target]))
