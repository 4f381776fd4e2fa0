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


def test_an_arm_that_diverged_is_marked_with_the_number_of_its_runs(tmp_path: Path) -> None:
    first, second, third = write_arm(tmp_path, "ohem", [0.01, 0.02, 0.40], heavy=False)
    for folder, diverged in ((first, {"iteration": 20, "times": 31.4}), (second, {"iteration": 40, "times": 12.0})):
        (folder / "guard.json").write_text(json.dumps({"warnings": [], "diverged": diverged}))
    (third / "guard.json").write_text(json.dumps({"warnings": []}))
    (one,) = build_report(find_folders(tmp_path), Options()).contexts
    assert one.warnings[0] == "(!) ohem: in 2 of 3 runs the loss rose to up to 31 times its start."
