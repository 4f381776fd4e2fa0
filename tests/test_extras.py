"""Every extra of pyproject.toml can be installed together with the exact versions of constraints.txt, and the oldest
versions that it allows do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = sorted(PROJECT["optional-dependencies"])
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PYTHONS = ("3.11.9", "3.12", "3.13")
UNREACHABLE = ("error sending request", "Failed to fetch", "dns error", "network", "Connection", "offline")


def test_constraints_are_exact_versions_in_order_each_once() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.+]+", pin) for pin in PINS)
    names = [re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() for pin in PINS]
    assert len(set(names)) == len(names)
    assert sorted(PINS) == PINS


def test_the_package_of_every_requirement_has_an_exact_version() -> None:
    pinned = {re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() for pin in PINS}
    wanted = [*PROJECT["dependencies"], *(one for extra in EXTRAS for one in PROJECT["optional-dependencies"][extra])]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~ ;]", one)[0]).lower() for one in wanted}
    assert names <= pinned


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_resolves(extra: str, python: str, tmp_path: Path) -> None:
    """Asks uv's resolver, which asks the package index."""
    if find_spec("uv") is None:
        pytest.skip("uv is not installed")
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--extra", extra, "--quiet"]
    command += ["--constraint", "constraints.txt", "--python-version", python, "--output-file", str(tmp_path / "found")]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=300)
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        pytest.skip(f"no package index: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    found = (tmp_path / "found").read_text()
    assert all(f"{name}==" in found for name in ("torch", "hydra-core"))


OLD = ("numpy", "scipy", "pandas", "tabulate", "plotly", "jinja2")  # of the tables, the intervals and the page
USED = """
import pandas as pd
from pathlib import Path
from harness.report.command import main
from harness.report.files import without_formulas
from harness.statistics import bca_interval
from tests.report.folders import write_arm
low, high = bca_interval([0.1, 0.2, 0.4], resamples=50)
assert 0.1 <= low < high <= 0.4
assert without_formulas(pd.DataFrame({"a": ["=x", "y"], "b": [1, 2]})).to_numpy().tolist() == [["'=x", 1], ["y", 2]]
for sampler, maps in {"random": [0.40, 0.41, 0.39], "ohem": [0.50, 0.52, 0.49]}.items():
    write_arm(Path("results"), sampler, maps)
assert main(["results", "--pictures", "0"]) == 0
"""


@pytest.mark.slow
def test_the_oldest_versions_make_a_report(tmp_path: Path) -> None:
    """The least version of pyproject.toml is one that was tried, not one that was guessed."""
    if find_spec("uv") is None:
        pytest.skip("uv is not installed")
    least = dict(re.match(r"([\w-]+)>=([\d.]+)", one).groups() for one in PROJECT["dependencies"] if ">=" in one)  # type: ignore[union-attr]
    oldest = [f"{name}=={least[name]}" for name in OLD]
    target = tmp_path / "oldest"
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, "--no-deps"]
    command += ["--only-binary", ":all:", "--target", str(target), *oldest, "pytz"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode and any(sign in done.stderr for sign in (*UNREACHABLE, "no wheels")):
        pytest.skip(f"no package index, or no wheels for this Python: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(target), str(ROOT)))}
    run = [sys.executable, "-W", "ignore", "-c", USED]
    ended = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
