"""A signal ends every command beside the training in one line with the shell's code, whenever it comes."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import matplotlib.figure
import pytest

from harness.inspect import drawing
from harness.training import interruptible

COMMANDS = {
    "harness.inspect": "harness.inspect.command",
    "harness.inspect.gallery": "harness.inspect.method_pictures",
    "harness.report": "harness.report.command",
    "harness.evaluate": "harness.evaluation.command",
    "harness.dashboard": "harness.tracking.dashboard",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_the_work(
    command: str,
    number: signal.Signals,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(arguments: Sequence[str] | None) -> int:
        os.kill(os.getpid(), number)
        raise AssertionError("the signal was not heard")

    monkeypatch.setattr(import_module(COMMANDS[command]), "main", work)
    before = signal.getsignal(number)
    for name in (command, f"{command}.__main__"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(SystemExit) as end:
        runpy.run_module(command, run_name="__main__")
    assert end.value.code == code
    said = capsys.readouterr().err
    assert said.startswith(f"{command}: stopped by {number.name}; ")
    assert said.count("\n") == 1
    assert signal.getsignal(number) is before


def test_a_signal_during_the_imports_waits_for_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slowly_imported.py").write_text(
        "import os, pathlib, signal\nos.kill(os.getpid(), signal.SIGTERM)\n"
        "pathlib.Path(__file__).with_name('imported').touch()\n"
        "def main(arguments): pathlib.Path(__file__).with_name('called').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert interruptible.run("slowly_imported", [], "command", "nothing is kept") == 143
    assert capsys.readouterr().err == "command: stopped by SIGTERM; nothing is kept\n"
    assert (tmp_path / "imported").exists()
    assert not (tmp_path / "called").exists()


def test_arguments_and_exit_code_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counting.py").write_text("def main(arguments): return len(arguments)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert interruptible.run("counting", ["a", "b", "c"], "command", "") == 3


def test_a_sheet_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet, _ = drawing.figure(1, 1, "old")
    path = drawing.save(sheet, tmp_path / "sheet.png")
    old, draw = path.read_bytes(), matplotlib.figure.Figure.savefig

    def half(self: matplotlib.figure.Figure, file: object, **options: object) -> None:
        draw(self, file, **options)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", half)
    with pytest.raises(KeyboardInterrupt):
        drawing.save(drawing.figure(1, 2, "new")[0], path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["sheet.png"]


def test_little_is_imported_before_signals_are_heard() -> None:
    """The packages and the entries of the commands; :func:`interruptible.run` imports what takes seconds."""
    entries = [f"{name}.__main__" if name in ("harness.inspect", "harness.report") else name for name in COMMANDS]
    slow = "{'torch', 'pandas', 'numpy', 'scipy', 'hydra', 'wandb', 'PIL', 'matplotlib', 'yaml'}"
    code = f"import sys, {', '.join(entries)}; print(*{slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
