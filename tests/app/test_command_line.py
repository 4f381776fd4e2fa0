"""The command line as a user meets it: answers in one line, exit codes, sweeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.permissions import let_bits_count
from tests.processes import Started, harness
from tests.runs.conftest import SMALL

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sampler=ohme"], "sampler=ohme: there is no such option; did you mean ohem?"),
        (["loss=focal"], "loss=focal: there is no such option; did you mean loss/classification=focal?"),
        (["arm=ohem_papr"], "experiment/arm=ohem_papr: there is no such option; did you mean ohem_paper?"),
        (["samplr=ohem"], "samplr: there is no such key; did you mean sampler?"),
        (["sampler.numm=3"], "sampler.numm: there is no such key; did you mean sampler.num?"),
        (["-m", "--cfg=job", "sampler=random,ohem"], "-m --cfg: only one of them at a time"),
        (["run.iterations=many"], "run.iterations=many: must be of type int"),
        (["data=voc", "data.root=/nowhere", "mode=check"], "data: root: /nowhere is not a folder; valid: one with"),
        (["seed=-1", "mode=check"], "seed=-1 must be between 0 and 4294967295"),
        (["data=voc", "mode=train"], "data.root must be given"),
    ],
)
def test_a_configuration_error_is_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = harness(tmp_path, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert says in line
    assert done.stdout == ""


def test_a_composition_error_answers_without_torch(tmp_path: Path) -> None:
    """The interpreter is told to list its imports: a time would depend on the machine."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for arguments in (["--help"], ["sampler=ohme"]):
        command = [sys.executable, "-X", "importtime", "-m", "harness", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert ("hydra" in done.stderr) == (arguments != ["--help"])  # the help is written without Hydra
        assert not [line for line in done.stderr.splitlines() if line.endswith((" torch", " pandas", " wandb"))]


def write_voc(root: Path, *, xml: str | None = None, image: bytes | None = None) -> Path:
    from PIL import Image

    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>40</xmax><ymax>40</ymax></bndbox>"
    good = (
        "<annotation><filename>{name}.jpg</filename><size><width>64</width><height>64</height><depth>3</depth></size>"
        f"<object><name>cat</name>{box}</object></annotation>"
    )
    for name in ("a", "b"):
        Image.new("RGB", (64, 64)).save(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(good.format(name=name))
    if xml is not None:
        (root / "Annotations" / "a.xml").write_text(xml)
    if image is not None:
        (root / "JPEGImages" / "a.jpg").write_bytes(image)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    (root / "ImageSets/Main/val.txt").write_text("b\n")
    return root


def voc_run(tmp_path: Path, root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    small = [o for o in SMALL if not o.startswith("data.")]
    return harness(tmp_path, *small, "data=voc", f"data.root={root}", *more)


def one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()
    (line,) = [
        line
        for line in said
        if not line.startswith("drawing ") and " iterations of " not in line and not line.startswith("data: ")
    ]
    for word in words:
        assert word in line
    assert "Traceback" not in done.stderr


def test_a_missing_data_folder(tmp_path: Path) -> None:
    one_line(voc_run(tmp_path, tmp_path / "nowhere"), "refused", "nowhere")
    assert not (tmp_path / "results" / "runs").exists()


def test_broken_xml(tmp_path: Path) -> None:
    one_line(voc_run(tmp_path, write_voc(tmp_path / "voc", xml="<annotation><object>")), "a.xml")


def test_a_corrupt_jpeg(tmp_path: Path) -> None:
    one_line(voc_run(tmp_path, write_voc(tmp_path / "voc", image=b"\xff\xd8\xff\xe0 not an image")), "a.jpg")


def test_an_empty_split(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc")
    (root / "ImageSets/Main/val.txt").write_text("")
    one_line(voc_run(tmp_path, root), "val", "empty")


def test_a_class_that_is_not_listed(tmp_path: Path) -> None:
    one_line(voc_run(tmp_path, write_voc(tmp_path / "voc"), "data.classes=[dog]"), "cat", "dog")


def fill_the_disk() -> None:
    """From now on what is written fails where it is forced to the disk, as on one that is full."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        with open("/dev/full", "w") as full:
            full.write("x")
            full.flush()
        real(descriptor)

    os.fsync = fsync


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk(tmp_path: Path) -> None:
    done = harness(tmp_path, *SMALL, f"data.cache_dir={tmp_path}", "run.iterations=2")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "results" / "runs").iterdir()
    for name in ("result.json", "checkpoint.pt"):
        (run / name).unlink()
    (run / "environment.json").unlink()
    done = harness(tmp_path, *SMALL, f"data.cache_dir={tmp_path}", "run.iterations=2", before=fill_the_disk)
    one_line(done, "No space left on device")


def test_no_permission_to_write(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    arguments = [*SMALL, f"run.root={locked}", f"data.cache_dir={tmp_path}"]
    one_line(harness(tmp_path, *arguments, before=let_bits_count), "locked", "Permission denied")


def test_jobs_in_folders_of_their_own(tmp_path: Path) -> None:
    """``hydra.job.chdir``: where a run is, is said as a path from everywhere, and the sweep finds its jobs' ends."""
    sweep = ["-m", *SMALL, f"data.cache_dir={tmp_path}", "hydra.job.chdir=true", "hydra.sweep.dir=jobs", "sampler=ohem"]
    done = harness(tmp_path, *sweep, "run.iterations=2", "run.root=own")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 runs have a result" in done.stderr
    assert "ohem" in done.stdout
    assert (tmp_path / "jobs" / "report" / "report.html").is_file()
    (run,) = (tmp_path / "jobs" / "0" / "own" / "runs").iterdir()
    assert f": {run} (" in done.stderr


def test_the_results_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    done = harness(tmp_path, *SMALL, "run.root=taken", f"data.cache_dir={tmp_path}")
    one_line(done, "taken is in the way: it is not a folder")


def test_a_sweep_goes_on_after_a_failure_and_finishes_only_what_is_missing(tmp_path: Path) -> None:
    sweep = ["-m", *SMALL, f"data.cache_dir={tmp_path}", "run.iterations=2", "sampler=random,ohem", "sampler.num=-1,8"]
    done = harness(tmp_path, *sweep)
    assert done.returncode == 1, done.stderr
    assert "2 of 4 runs have a result" in done.stderr
    assert done.stderr.count("sampler.num=-1 must be a whole number") >= 2
    assert "random" in done.stdout
    assert "ohem" in done.stdout
    results = sorted((tmp_path / "results" / "runs").glob("*/result.json"))
    assert len(results) == 2
    results[0].unlink()
    times = results[1].stat().st_mtime_ns
    time.sleep(0.01)
    assert harness(tmp_path, *sweep).returncode == 1
    assert sorted((tmp_path / "results" / "runs").glob("*/result.json")) == results
    assert results[1].stat().st_mtime_ns == times


def test_the_matrix_of_what_can_work(tmp_path: Path) -> None:
    done = harness(tmp_path, "-m", "mode=check", "detector=tiny_rcnn,tiny_retinanet", "assigner=max_iou,fcos,atss")
    assert done.returncode == 0, done.stderr
    assert "assigner / detector" in done.stdout
    assert "(1)" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("logging", ["disabled", "none"])
def test_the_log_can_be_turned_off(logging: str, tmp_path: Path) -> None:
    done = harness(tmp_path, "mode=check", f"hydra/job_logging={logging}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "this combination can work\n", "")
    assert not list(tmp_path.iterdir())


def test_one_interrupt_stops_a_whole_sweep(tmp_path: Path) -> None:
    sweep = ["-m", "sampler=random,ohem", *SMALL, f"data.cache_dir={tmp_path}", "run.iterations=100000"]
    process = Started(tmp_path, *sweep)
    process.wait_until(lambda: any(log.stat().st_size for log in tmp_path.glob("results/runs/*/metrics.jsonl")))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert len(list(tmp_path.glob("**/status.json"))) == 1
