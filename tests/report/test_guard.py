"""An arm that the guard warned of is marked in the sweep's table, and the reason stands below it."""

from __future__ import annotations

import json
from pathlib import Path

from harness.report.build import Options, build_report
from harness.report.folders import find_folders
from harness.report.main_table import main_table
from tests.report.folders import write_arm

LINE = "stage dense: 85 % of the objects in the first training images have no positive; change assigner.point_scale"


def test_a_broken_arm_carries_its_mark(tmp_path: Path) -> None:
    write_arm(tmp_path, "random", [0.40, 0.41], heavy=False)
    for folder in write_arm(tmp_path, "ohem", [0.01, 0.02], heavy=False):
        (folder / "guard.json").write_text(json.dumps({"images": 64, "warnings": [LINE]}))
    (one,) = build_report(find_folders(tmp_path), Options()).contexts
    names = {str(row[0].text) for row in main_table(one.section).rows}
    assert names == {"random", "ohem (!)"}
    assert one.warnings[0] == f"(!) ohem: before its training, {LINE}."
    assert sum(LINE in line for line in one.warnings) == 1, "once for all seeds"
