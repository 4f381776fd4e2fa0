"""A fused optimizer trains the same up to rounding, and to the bit where it was stopped and continued."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.app.run_end import Stopped
from harness.runs.folder import RunFolder
from harness.runs.metrics_log import MetricsLog
from harness.runs.records import State
from harness.training import checkpoint
from tests.runs.conftest import Trained, outcome


def result_of(folder: Path) -> dict[str, Any]:
    return {**outcome(folder), "log": MetricsLog.rows(folder / "metrics.jsonl")}


GROUPS = "optimizer.norm_decay_mult=0 optimizer.bias_decay_mult=0 optimizer.bias_lr_mult=2 run.ema_decay=0.9"


@pytest.mark.parametrize("optimizer", ["optimizer=adamw", f"optimizer=sgd {GROUPS}"])
def test_a_fused_optimizer_makes_the_same_steps_up_to_rounding_however_often_it_is_stopped(
    optimizer: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [*optimizer.split(), "detector=tiny_retinanet", "recipe=retinanet", "analysis.guard_images=0"]
    chosen.append("run.checkpoint_iterations=2")
    plain, fused = (
        trained(*chosen, f"optimizer.fused={fused}", root=root)
        for fused, root in (("null", "plain"), ("true", "fused"))
    )
    rows = [MetricsLog.rows(folder / "metrics.jsonl")[0] for folder in (plain, fused)]
    assert rows[1] == pytest.approx(rows[0], rel=1e-3)

    real = RunFolder.set_status

    def set_status(folder: RunFolder, state: State, *arguments: Any, **more: Any) -> None:
        real(folder, state, *arguments, **more)
        if more.get("iteration") == 2 and state is State.RUNNING:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RunFolder, "set_status", set_status)
    with pytest.raises(Stopped) as stop:
        trained(*chosen, "optimizer.fused=true", root="stopped")
    assert stop.value.state is State.INTERRUPTED
    monkeypatch.undo()
    continued = trained(*chosen, "optimizer.fused=true", root="stopped")
    assert result_of(continued) == result_of(fused)
    weights = [checkpoint.load(folder / "checkpoint.pt")["model"] for folder in (continued, fused)]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
