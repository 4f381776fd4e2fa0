"""Damaged, hostile and half run folders leave that run out with a reason: never a traceback, never a wrong number."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from harness.report.command import main
from harness.report.folders import find_folders
from harness.report.frame import load_runs, read_table
from tests.report.folders import write_arm, write_run

DEEP = 100_000
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))


def _changed(place, value):
    """Sets one value in result.json."""

    def change(folder):
        result = json.loads((folder / "result.json").read_text())
        node = result
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        (folder / "result.json").write_text(json.dumps(result))

    return change


def _text(name, text):
    return lambda folder: (folder / name).write_text(text)


def _appended(text):
    return lambda folder: (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + text)


def _fifo(name):
    def change(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


DAMAGE = {
    "corrupt: result.json is nested too deeply": _text("result.json", "[" * DEEP),
    "corrupt: status.json is nested too deeply": _text("status.json", '{"a":' * DEEP),
    "corrupt: config.yaml is nested too deeply": _appended("x: " + "[" * DEEP),
    "corrupt: config.yaml has aliases": _appended(f"bomb:\n{''.join('  ' + line for line in BOMB.splitlines(True))}"),
    "corrupt: config.yaml: seed is not a number from 0": _appended(f"seed: {10**39}\n"),
    "corrupt: result.json: metrics.map is 7.5, not a number from 0 to 1": _changed(("metrics", "map"), 7.5),
    "corrupt: result.json: metrics.map50 is -0.1": _changed(("metrics", "map50"), -0.1),
    "corrupt: result.json: metrics.map is 'high'": _changed(("metrics", "map"), "high"),
    "corrupt: result.json: metrics.tide.delta_ap.both is inf": _changed(("metrics", "tide", "delta_ap", "both"), 1e999),
    "corrupt: result.json: metrics.per_class[1].ap is 3": _changed(("metrics", "per_class", 1, "ap"), 3),
    "corrupt: result.json: cost.train_seconds is -5, not a number of 0 or more": _changed(
        ("cost", "train_seconds"), -5
    ),
    f"corrupt: result.json: cost.peak_memory_mb is 1{'0' * 38}": _changed(("cost", "peak_memory_mb"), 10**39),
    "unreadable: result.json is not a regular file": _fifo("result.json"),
    "unreadable: config.yaml is not a regular file": _fifo("config.yaml"),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_a_damaged_run_is_left_out_with_its_reason(tmp_path, reason):
    whole = write_run(tmp_path, "random", 0, heavy=False)
    damaged = write_run(tmp_path, "ohem", 0, heavy=False)
    DAMAGE[reason](damaged)
    frame = load_runs(tmp_path)
    assert list(frame["run"]) == [whole.name]
    (skipped,) = frame.attrs["skipped"]
    assert skipped.folder == damaged.name
    assert skipped.reason.startswith(reason)


ROWS = (
    '{"iteration": 50, "loss_a": 1.0}',
    '{"iteration": ' + "[" * DEEP,
    '{"iteration": 99999999999999999999}',
    '{"iteration": 100, "loss_a": [1], "loss_b": true, "loss_c": 1e400}',
    '{"iteration": 150, "loss_a": 0.5}',
)
HEAVY = {
    "metrics.jsonl": "".join(f"{row}\n" for row in ROWS),
    "sampling.npz": "PK\x03\x04 half a file",
    "detections.json": "[" * DEEP,
}


@pytest.mark.parametrize("name", [*HEAVY, "fifos"])
def test_damaged_heavy_files_are_named_and_their_run_stays(tmp_path, name):
    write_arm(tmp_path, "random", [0.4, 0.41])
    folder = write_run(tmp_path, "ohem", 0)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / f"{'f00d' * 8}.json").write_text('{"images": [], "annotations": [], "categories": []}')
    if name == "fifos":
        for heavy in HEAVY:
            (folder / heavy).unlink(missing_ok=True)
            os.mkfifo(folder / heavy)
    else:
        (folder / name).write_text(HEAVY[name])
    assert main([str(tmp_path)]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "3 runs" in page
    if name == "metrics.jsonl":
        assert f"{folder.name}: 3 damaged lines of metrics.jsonl are left out." in page


def _spoilt(folder, rng):
    """One file of a run with bytes changed, cut off, doubled or zeroed; its name and what was done."""
    path = rng.choice([p for p in sorted(folder.iterdir()) if p.is_file()])
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    how = rng.choice(("bit", "byte", "cut", "zero", "double"))
    if how == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif how == "byte":
        data[at] = rng.choice(b'[]{}":,-\n0eE\\\xff')
    elif how == "cut":
        del data[at:]
    elif how == "zero":
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    else:
        data[at:at] = data[at : at + 400]
    path.write_bytes(bytes(data))
    return f"{path.name}: {how} at {at}"


def _damage(tmp_path, trials, seed):
    rng = random.Random(seed)
    for trial in range(trials):
        root = tmp_path / str(trial)
        write_arm(root, "random", [0.4, 0.41], shadows=("ohem",))
        write_arm(root, "ohem", [0.42, 0.43])
        told = _spoilt(rng.choice(find_folders(root)), rng)
        try:
            assert main([str(root)]) == 0, told
        except Exception as error:
            raise AssertionError(told) from error
        values = read_table(find_folders(root)).frame["map"].dropna()
        assert values.between(0, 1).all(), told


def test_a_few_damaged_files_bring_no_traceback(tmp_path):
    _damage(tmp_path, 3, seed=1)


@pytest.mark.slow
def test_many_damaged_files_bring_no_traceback(tmp_path):
    _damage(tmp_path, 1_000, seed=2)


def test_names_are_no_formulas_of_a_spreadsheet(tmp_path):
    for chosen, name in (("random", "=1+1"), ("ohem", "@SUM(A1)"), ("iou_balanced", "-2"), ("ohem_paper", "+3")):
        write_arm(tmp_path, chosen, [0.4, 0.41], heavy=False, choices={"sampler": name})
    assert main([str(tmp_path)]) == 0
    summary = pd.read_csv(tmp_path / "report" / "summary.csv", dtype=str)
    assert set(summary["method"]) == {"'=1+1", "'@SUM(A1)", "'-2", "'+3"}
    for name in ("runs.csv", "summary.csv"):
        frame = pd.read_csv(tmp_path / "report" / name)
        texts = frame.select_dtypes(["object", "str"])
        assert not texts.map(lambda cell: isinstance(cell, str) and cell.startswith(("=", "+", "-", "@"))).any(
            axis=None
        )
        assert not any(str(column).startswith(("=", "+", "-", "@")) for column in frame.columns)
    assert np.issubdtype(pd.read_csv(tmp_path / "report" / "summary.csv")["difference"].dtype, np.floating)


def _report(root, shell):
    command = f"{sys.executable} -m harness.report {root} --pictures 0 {shell}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_and_a_closed_pipe_bring_no_traceback(tmp_path):
    write_arm(tmp_path, "random", [0.4, 0.41], heavy=False)
    full = _report(tmp_path, "> /dev/full")
    assert full.returncode == 1
    assert full.stderr == "harness.report: the table cannot be printed: No space left on device\n"
    closed = _report(tmp_path, "| head -1")
    assert closed.stderr == ""
    assert closed.stdout.startswith("tiny_rcnn on shapes")
    assert (tmp_path / "report" / "report.html").exists()
