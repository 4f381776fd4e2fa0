"""Output never ends a command: not on an ASCII terminal, not on a closed stream, not where nobody reads any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAFE = "from harness.core.output import make_output_safe; make_output_safe(); import sys\n"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def shell(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which ``$PY`` is Python; its code is that of the first command of a pipe."""
    environment = {**ENVIRONMENT, "PY": sys.executable, **environment}
    line = f"{line}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", line], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}])
def test_signs_that_the_terminal_lacks(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "a.py").write_text(SAFE + "print('0.5 ± 0.1 — ≥ 猫'); print('×', file=sys.stderr)", encoding="utf-8")
    done = shell("$PY -X utf8=0 a.py", tmp_path, **environment)
    assert done.stdout == "0.5 +/- 0.1 - >= ?\n"
    assert done.stderr == "x\n"


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
def test_a_closed_stream_swallows_what_is_said(tmp_path: Path, closed: str) -> None:
    """Without care it would land in the next file that is opened, or on the other stream."""
    (tmp_path / "a.py").write_text(
        SAFE + "with open('file', 'w') as file:\n"
        "    print('out', flush=True); print('err', file=sys.stderr, flush=True); file.write('own')"
    )
    done = shell(f"$PY a.py {closed}", tmp_path)
    assert done.returncode == 0
    assert done.stdout == ("out\n" if closed == "2>&-" else "")
    assert done.stderr == ("err\n" if closed == ">&-" else "")
    assert (tmp_path / "file").read_text() == "own"


def test_a_reader_that_has_gone_does_not_end_the_work(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        SAFE + "for i in range(30_000): print(i, 'x' * 50); print(i, file=sys.stderr)\nopen('done', 'w').close()"
    )
    done = shell("$PY a.py 2>&1 | head -1 >/dev/null", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("command", ["harness --help", "harness.evaluate --help", "harness.report --help"])
def test_every_command_uses_it(tmp_path: Path, command: str) -> None:
    for streams in (">&- 2>&-", "| head -1 >/dev/null"):
        done = shell(f"PYTHONIOENCODING=ascii $PY -OO -m {command} {streams}", tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), (command, streams)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    done = shell("$PY -m harness --help >/dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (1, "harness: output: No space left on device\n")


@pytest.mark.slow
def test_commands_from_a_run_to_its_pictures(tmp_path: Path) -> None:
    """On an ASCII terminal, with errors closed, and with a reader that leaves after the first line."""
    from tests.runs.conftest import SMALL

    small = " ".join([*SMALL, f"data.cache_dir={tmp_path}"])
    commands = (
        f"harness {small}",
        f"harness -m {small} seed=0,1",
        "harness.report results",
        f"harness.inspect {small}",
    )
    for streams in ("2>&-", "2>&1 | head -1"):
        for command in commands:
            root = "" if "report" in command else f"run.root={'piped' if 'head' in streams else 'results'}"
            done = shell(f"PYTHONIOENCODING=ascii $PY -m {command} {root} {streams}", tmp_path)
            assert done.returncode == 0, (command, streams, done.stdout, done.stderr)
            assert "Traceback" not in done.stdout + done.stderr
            assert done.stdout.isascii()
    for root in ("results", "piped"):
        assert len(list((tmp_path / root / "runs").glob("*/result.json"))) == 2
