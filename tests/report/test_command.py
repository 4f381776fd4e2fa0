"""The command line and the end of a sweep."""

import errno
import os
import subprocess
import sys
import time

import pytest
from omegaconf import OmegaConf

from harness.app.job import Outcome
from harness.app.sweep import SweepEnd, report_and_mirror
from harness.report.command import main
from harness.runs import records
from harness.runs.records import State
from harness.runs.schema import TrackerConfig
from tests.permissions import bits_count
from tests.report.folders import write_arm, write_run

UNTRACKED = OmegaConf.create({"tracker": TrackerConfig(kind="none")})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no such folder"),
        (["."], "no runs there"),
        (["results", "--baseline", "sampler=banana"], "sampler is one of ohem, random"),
        (["results", "--group-by", "banana"], "no run has such a setting; there are sampler"),
        (["results", "--metric", "banana"], "no such metric; there are map"),
        (["results", "--out", "results/runs/../a_file/x"], "a_file"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "results", "random", 0, heavy=False)
    write_run(tmp_path / "results", "ohem", 0, heavy=False)
    (tmp_path / "results" / "a_file").write_text("")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" or "a_file" in said  # that the folder cannot be written is known after the table
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_it_runs_as_a_module_without_torch_and_prints_the_table(tmp_path):
    write_arm(tmp_path, "random", [0.4, 0.41, 0.42, 0.4, 0.41], heavy=False)
    write_arm(tmp_path, "ohem", [0.45, 0.46, 0.475, 0.451, 0.461], heavy=False)
    code = "import sys, runpy; sys.argv[0] = 'x'\ntry: runpy.run_module('harness.report', run_name='__main__')\n"
    code += "except SystemExit as end: print('exit', end.code, 'torch' in sys.modules, 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "ohem is better than random" in done.stdout
    assert "exit 0 False False" in done.stdout
    assert str(tmp_path / "report" / "report.html") in done.stdout
    assert done.stderr == ""


def test_out_and_the_default_place(tmp_path):
    run = write_run(tmp_path, "random", 0, heavy=False)
    assert main([str(tmp_path), "--out", str(tmp_path / "deep" / "there")]) == 0
    assert not (tmp_path / "report").exists()
    assert sorted(os.listdir(tmp_path / "deep" / "there")) == ["report.html", "report.md", "runs.csv", "summary.csv"]
    assert main([str(run)]) == 0
    assert (tmp_path / "report" / "report.html").exists()


def test_the_end_of_a_sweep_prints_its_own_runs_only(tmp_path, capsys):
    ours = write_arm(tmp_path, "random", [0.4, 0.41, 0.42, 0.4, 0.41], heavy=False)
    ours += write_arm(tmp_path, "ohem", [0.5, 0.51, 0.525, 0.501, 0.511], heavy=False)
    write_arm(tmp_path, "iou_balanced", [0.9], heavy=False)
    ours.append(write_run(tmp_path, "ohem", 7, state=State.FAILED, reason="nan", heavy=False))
    report_and_mirror(ours, tmp_path / "sweep", UNTRACKED)
    said = capsys.readouterr().out
    assert "ohem is better than random" in said
    assert "iou_balanced" not in said
    assert "Failed or refused (1)" in said


def test_the_end_of_a_sweep_survives_folders_that_are_gone(tmp_path, capsys):
    report_and_mirror([tmp_path / "gone"], tmp_path / "sweep", UNTRACKED)
    said = capsys.readouterr().out
    assert "No run has a result yet." in said
    assert "foreign" in said


@pytest.mark.slow
def test_a_thousand_runs(tmp_path, capsys):
    for rate in range(1, 11):
        for chosen in ("random", "ohem", "ohem_paper", "iou_balanced", "matched_random"):
            write_arm(tmp_path, chosen, [0.4 + 0.001 * i for i in range(20)], optimizer__lr=rate / 1000)
    started, used = time.perf_counter(), time.process_time()
    assert main([str(tmp_path)]) == 0
    wall, processor = time.perf_counter() - started, time.process_time() - used
    assert "1000 runs, 0 folders left out" in capsys.readouterr().out
    with capsys.disabled():
        print(f"\n1,000 run folders reported in {wall:.1f} s ({processor:.1f} s of processor time)")
    assert processor < 10


def test_the_report_of_a_sweep_lists_what_failed_and_what_was_refused(tmp_path, capsys):
    runs = [
        write_run(tmp_path, "random", 0, heavy=False),
        write_run(tmp_path, "ohem", 0, state=State.FAILED, reason="the loss is not finite", heavy=False),
        write_run(tmp_path, "iou_balanced", 0, state=State.REFUSED, reason="needs proposals"),
    ]
    for number, (run, state) in enumerate(zip(runs, (State.DONE, State.FAILED, State.REFUSED), strict=True)):
        Outcome(state, "why", str(run)).write(tmp_path / "sweep" / str(number))
    sweep = {"mode": "train", "run": {"root": str(tmp_path)}, "hydra": {"sweep": {"dir": str(tmp_path / "sweep")}}}
    config = OmegaConf.merge(UNTRACKED, sweep)
    with pytest.raises(SystemExit):
        SweepEnd().on_multirun_end(config)
    assert "1 of 3 runs have a result" in capsys.readouterr().err
    for name in ("report.md", "report.html"):
        told = (tmp_path / "sweep" / "report" / name).read_text()
        assert "the loss is not finite" in told
        assert "needs proposals" in told


def test_a_run_that_may_not_be_read_is_left_out(tmp_path, capsys):
    write_arm(tmp_path, "random", [0.4, 0.41], heavy=False)
    closed = write_run(tmp_path, "ohem", 0, heavy=False)
    sweep = tmp_path / "sweeps" / "a"
    sweep.mkdir(parents=True)
    for folder in (closed, sweep):
        folder.chmod(0)
    with bits_count():
        assert main([str(tmp_path), "--pictures", "0"]) == 0
        said = capsys.readouterr()
        assert "unreadable: status.json: Permission denied" in said.out
        assert "2 runs, 1 folder left out" in said.out
        for folder in (tmp_path / "sweeps", tmp_path / "runs", tmp_path):
            folder.chmod(0)
            found = main([str(tmp_path), "--pictures", "0", "--out", str(closed.parent.parent / "report")])
            folder.chmod(0o700)
            said = capsys.readouterr()
            if folder.name == "sweeps":
                assert (found, said.err) == (0, "")
            else:
                assert found == 2
                assert said.err.startswith(f"harness.report: {folder}: ")
                assert said.err.count("\n") == 1
    for folder in (closed, sweep):
        folder.chmod(0o700)


def test_results_that_may_not_be_written(tmp_path, capsys):
    """The table is printed, and the line says how to have the page."""
    write_run(tmp_path, "random", 0, heavy=False)
    tmp_path.chmod(0o500)
    with bits_count():
        assert main([str(tmp_path), "--pictures", "0"]) == 2
    tmp_path.chmod(0o700)
    said = capsys.readouterr()
    assert "random" in said.out
    line = f"harness.report: {tmp_path / 'report'}: Permission denied; --out DIR writes the report somewhere else\n"
    assert said.err == line


def test_a_full_disk_is_named_with_the_file_and_leaves_nothing_half_written(tmp_path, capsys, monkeypatch):
    write_run(tmp_path, "random", 0, heavy=False)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    assert main([str(tmp_path), "--pictures", "0"]) == 2
    page = tmp_path / "report" / "report.html"
    assert capsys.readouterr().err.startswith(f"harness.report: {page}: No space left on device; --out DIR")
    assert not list(page.parent.iterdir())


@pytest.mark.parametrize(
    ("option", "value", "valid"),
    [
        ("--margin", "many", "a number of 0 or more"),
        ("--margin", "nan", "a number of 0 or more"),
        ("--alpha", "five", "a number above 0 and below 1"),
        ("--pictures", "-1", "a whole number of 0 or more"),
        ("--pictures", "inf", "a whole number of 0 or more"),
    ],
)
def test_numbers_that_are_none(option, value, valid, capsys):
    with pytest.raises(SystemExit) as end:
        main([f"{option}={value}"])
    assert end.value.code == 2
    assert f"argument {option}: {value} is not valid: {valid}" in capsys.readouterr().err
