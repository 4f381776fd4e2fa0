"""Disks that are full or read-only: one line names the file, nothing half-written stays, and nothing saved is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.app.run_end import Stopped, os_line
from harness.app.runner import run
from harness.experiment.experiment import Experiment
from harness.runs.folder import RunFolder
from harness.runs.records import State, atomic_write
from harness.training import checkpoint
from tests.permissions import bits_count
from tests.runs.conftest import Composed


class Full:
    """A file on a disk that takes no more than ``room`` bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: Any) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 5_000, 90_000])
def test_weights_on_a_full_disk(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.save says only "unexpected pos 620800 vs 620688" of it."""
    path, save = tmp_path / "checkpoint.pt", torch.save
    checkpoint.save(path, {"a": torch.zeros(3)})
    monkeypatch.setattr(torch, "save", lambda state, file: save(state, Full(file, room)))
    with pytest.raises(OSError, match="No space left on device") as full:
        checkpoint.save(path, {"a": torch.ones(30_000)})
    assert full.value.filename == str(path)
    assert os_line(full.value) == f"{path}: No space left on device"
    assert os.listdir(tmp_path) == ["checkpoint.pt"]
    assert torch.equal(checkpoint.load(path)["a"], torch.zeros(3))


def test_an_error_of_torch_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(state: Any, file: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match=r"^broken$"):
        checkpoint.save(tmp_path / "a.pt", {})


@pytest.mark.parametrize("name", ["checkpoint.pt", "result.json"])
def test_a_disk_that_fills_up_loses_nothing_that_was_saved(
    name: str, composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line says where the same command goes on, and it does."""
    settings = ["run.checkpoint_iterations=2", "run.iterations=4", "analysis.guard_images=0"]
    replace, written = os.replace, []

    def full(source: Any, target: Any) -> None:
        written.append(Path(target).name)
        late = name != "checkpoint.pt" or written.count(name) == 2
        if Path(target).name == name and late:
            raise OSError(errno.ENOSPC, "No space left on device", str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Stopped) as stopped:
        run(composed(*settings), choices={}, sources=[])
    end = stopped.value
    folder = RunFolder(Path(str(end.folder)))
    saved = 2 if name == "checkpoint.pt" else 4
    line = f"{folder.path / name}: No space left on device; the same command continues from iteration {saved}"
    assert end.reason == f"{line} (traceback in {folder.path}/error.txt)"
    assert folder.status is not None
    assert (folder.status.state, folder.status.iteration) == (State.FAILED, saved)
    assert not [file for file in folder.path.iterdir() if file.name.startswith(f".{name}")]
    monkeypatch.setattr(os, "replace", replace)
    run(composed(*settings), choices={}, sources=[])
    assert folder.result()["iterations"] == 4


def test_a_result_that_may_only_be_read_is_found(composed: Composed) -> None:
    """As in a folder of a colleague; one that has no result is refused by its name."""
    finished = run(composed("run.iterations=2"), choices={}, sources=[])
    for path in (finished.folder, finished.folder / ".lock"):
        path.chmod(0o500)
    with bits_count():
        again = run(composed("run.iterations=2"), choices={}, sources=[])
        assert again.line.startswith("already done")
        assert (again.folder, again.map) == (finished.folder, finished.map)
    (finished.folder).chmod(0o700)
    (finished.folder / "result.json").unlink()
    finished.folder.chmod(0o500)
    with bits_count(), pytest.raises(Stopped, match=r"\.lock: Permission denied$"):
        run(composed("run.iterations=2"), choices={}, sources=[])
    finished.folder.chmod(0o700)


def test_a_root_that_may_not_be_written_is_said_before_the_data_are_read(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    monkeypatch.setattr(Experiment, "splits", property(lambda self: pytest.fail("the data are read")))
    with bits_count(), pytest.raises(Stopped, match=rf"^{locked}: Permission denied$"):
        run(composed("run.iterations=2", root="locked/deeper"), choices={}, sources=[])
    (tmp_path / "taken").touch()
    with pytest.raises(Stopped, match=r"taken is in the way: it is not a folder$"):
        run(composed("run.iterations=2", root="taken"), choices={}, sources=[])


def test_what_is_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    for path in (tmp_path / "taken" / "runs" / "a", tmp_path / "taken"):
        with pytest.raises(OSError) as caught:
            path.mkdir(parents=True)
        assert os_line(caught.value) == f"{tmp_path / 'taken'} is in the way: it is not a folder"


def test_texts_that_utf8_cannot_hold_are_written_with_escapes(tmp_path: Path) -> None:
    """Names of files may be such: a report that shows one is written all the same."""
    with atomic_write(tmp_path / "page.html") as file:
        file.write("image \udcff.jpg")
    assert (tmp_path / "page.html").read_text() == "image \\udcff.jpg"
