"""The benchmark of target assignment runs, and its two sides agree."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_every_method_agrees_with_its_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import target_assignment

    monkeypatch.setattr(sys, "argv", ["target_assignment.py"])
    methods = list(target_assignment.METHODS)
    arguments = ["--batch", "2", "--size", "336x5", "--methods", *methods, "--reps", "2"]
    arguments += ["--threads", str(torch.get_num_threads())]
    target_assignment.main([*arguments, "--json", str(tmp_path / "r.json"), "--markdown", str(tmp_path / "r.md")])
    rows = json.loads((tmp_path / "r.json").read_text())
    assert [row["method"] for row in rows] == methods
    assert all(row["ours_ms"] > 0 and row["theirs_ms"] > 0 and row["ratio"] > 0 for row in rows)
    table = (tmp_path / "r.md").read_text()
    assert f"python benchmarks/target_assignment.py {' '.join(arguments)}" in table
    assert "torchvision" in table
    assert table in capsys.readouterr().out
