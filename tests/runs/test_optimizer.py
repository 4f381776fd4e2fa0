"""``optimizer.fused``: the same training up to rounding."""

from __future__ import annotations

import pytest

from harness.runs.metrics_log import MetricsLog
from tests.runs.conftest import Trained


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_fused_optimizer_makes_the_same_steps_up_to_rounding(optimizer: str, trained: Trained) -> None:
    chosen = [f"optimizer={optimizer}", "detector=tiny_retinanet", "recipe=retinanet", "analysis.guard_images=0"]
    plain, fused = (
        MetricsLog.rows(trained(*chosen, f"optimizer.fused={fused}", root=root) / "metrics.jsonl")[0]
        for fused, root in (("null", "plain"), ("true", "fused"))
    )
    assert fused == pytest.approx(plain, rel=1e-3)
