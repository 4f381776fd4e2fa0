"""Every question in ``sweeps/`` says what it asks, what it costs and how it is asked, and its commands compose."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness.runs.schema import folder
from tests.docs.test_commands import composes

SWEEPS = sorted(folder("sweeps").glob("*.yaml"))
ROOT = Path(__file__).parents[2]
STUDY = re.compile(r"results/(?:studies|reference)/\w+")
COMMAND = re.compile(r"^# (?:Command:)? *python -m harness (-cn .*?)$", re.MULTILINE)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_question_says_what_it_asks_and_what_it_costs(path: Path) -> None:
    header = path.read_text().split("defaults:")[0]
    for word in ("# Question: ", "# Command:  ", "# Cost:     "):
        assert word in header
    commands = COMMAND.findall(header)
    assert commands
    assert commands[0] == f"-cn {path.stem}"  # the question itself comes first
    for study in STUDY.findall(header):
        assert (ROOT / study / "README.md").is_file(), study


@pytest.mark.parametrize(
    "command", [pytest.param(line, id=line) for path in SWEEPS for line in COMMAND.findall(path.read_text())]
)
def test_its_commands_compose(command: str) -> None:
    composes(shlex.split(command, comments=True))
