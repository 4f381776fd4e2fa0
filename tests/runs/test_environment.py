"""On what a run was made."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.runs.environment import commit_of


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_that_of_the_code_and_not_of_a_checkout_around_its_installation(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        own = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *own, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    own, installed = tmp_path / "train.py", tmp_path / ".venv" / "harness" / "environment.py"
    installed.parent.mkdir(parents=True)
    for file in (own, installed):
        file.write_text("1")
    assert commit_of(own) is None
    git("add", "train.py")
    git("commit", "-qm", "x")
    assert commit_of(own) == git("rev-parse", "HEAD")
    own.write_text("2")
    assert commit_of(own) == f"{git('rev-parse', 'HEAD')}+changes"
    assert commit_of(installed) is None
