"""Kills runs and sweeps at random moments and continues them: identical results, no run that stays "running".

    python -m tests.robustness.kills --runs 100 --sweeps 20 --seed 0 --record kills.jsonl

With ``--record`` every outcome is written to that file as it comes, and the same command goes on behind the last one.

A run is a process that is forked from this one, so that torch is imported once; a signal is sent to it after a random
part of the processor time that a whole run takes (SIGKILL half of the time), and the same configuration is run again
to its end. A sweep is the command line in a process group of its own; the signal goes to the parent, a worker or the
whole group, and the same command is given again.
After every signal no run may say "running" (:attr:`RunFolder.status` looks for the process behind it); at the end the
results, detections, log, histograms and weights must be those of the run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from harness.runs.folder import RunFolder
from harness.runs.metrics_log import MetricsLog
from harness.runs.records import State, read_json
from harness.training import checkpoint

SMALL = [
    "run=smoke", "run.threads=1", "tracker=none", "data.num_train=8", "data.num_val=4", "data.image_size=64",
    "detector.min_size=64", "run.iterations=10", "run.log_every=2", "run.checkpoint_iterations=3", "run.eval_every=4",
    "run.ema_decay=0.9", "analysis.guard_images=4",
]  # fmt: skip
SEEDS = 2  # jobs of a sweep
LAUNCHERS = ("basic", "joblib")
OTHERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Difference(AssertionError):
    """A continued run is not the undisturbed one."""


class Record:
    """What the kills of one seed came to, by number; kept in a file where one is given.

    Args:
        kind: ``runs`` or ``sweeps``.
        seed: of all random choices.
        path: one line of JSON per kill; lines of other kinds and seeds are left alone.
    """

    def __init__(self, kind: str, seed: int, path: Path | None) -> None:
        self.kind, self.seed, self.path = kind, seed, path
        self.seen: dict[int, str] = {}
        rows = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        for row in map(json.loads, rows):
            if (row["kind"], row["seed"]) == (kind, seed):
                self.seen[row["number"]] = row["met"]

    def missing(self, count: int) -> list[int]:
        """The numbers below ``count`` that are still to be done."""
        return [number for number in range(count) if number not in self.seen]

    def rng(self, number: int) -> random.Random:
        """The random choices of one kill: the same whether others were done before it or not."""
        return random.Random(f"{self.seed} {self.kind} {number}")

    def add(self, number: int, met: str) -> None:
        """Takes down one kill after which everything was as it should be."""
        self.seen[number] = met
        if self.path is not None:
            row = {"kind": self.kind, "seed": self.seed, "number": number, "met": met}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def compare(folder: Path, whole: Path) -> None:
    """Raises Difference unless two finished runs agree in all but their cost."""
    for name in ("result.json", "detections.json"):
        a, b = (read_json(path / name) for path in (folder, whole))
        for value in (a, b) if name == "result.json" else ():
            del value["cost"]
        if a != b:
            raise Difference(f"{folder / name} differs from {whole / name}")
    if MetricsLog.rows(folder / "metrics.jsonl") != MetricsLog.rows(whole / "metrics.jsonl"):
        raise Difference(f"{folder}: another log")
    if (folder / "sampling.npz").read_bytes() != (whole / "sampling.npz").read_bytes():
        raise Difference(f"{folder}: other histograms")
    first, second = (checkpoint.load(path / "model.pt") for path in (folder, whole))
    if any(not torch.equal(first[key], second[key]) for key in second):
        raise Difference(f"{folder}: other weights")
    left = [path.name for path in folder.iterdir() if path.name.startswith(".") and path.name != ".lock"]
    if left or (folder / "checkpoint.pt").exists():
        raise Difference(f"{folder}: leftovers: {left}")


def stale(root: Path) -> list[Path]:
    """Run folders that say "running"."""
    folders = [path.parent for path in (root / "results" / "runs").glob("*/status.json")]
    statuses = [(folder, RunFolder(folder).status) for folder in folders]
    return [folder for folder, status in statuses if status is None or status.state is State.RUNNING]


def one_run(config: DictConfig) -> None:
    """The body of a run's process."""
    from harness.app.job import Job, run_job
    from harness.runs.schema import folder

    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    job = Job(0, (), {"detector": "tiny_rcnn"}, (str(folder("conf")),), sweep=None)
    raise SystemExit(run_job(config, job).exit_code)


def configured(root: Path, cache: Path) -> DictConfig:
    """The configuration of a run below ``root``."""
    return composed([*SMALL, f"run.root={root / 'results'}", f"data.cache_dir={cache}"])


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration of these overrides."""
    from hydra import compose, initialize_config_dir

    from harness.runs import schema

    schema.register()
    with initialize_config_dir(str(schema.folder("conf")), version_base="1.3"):
        return compose("config", list(overrides))


def start(body: Callable[..., None], *arguments: Any) -> Any:
    """A process of its own; what it needs is imported in this one, which costs more than a small run."""
    import harness.app.entry
    import harness.app.training_run
    import harness.report.build
    import harness.report.evidence
    import harness.report.files  # noqa: F401

    torch.set_num_threads(1)
    process = multiprocessing.get_context("fork").Process(target=body, args=arguments)
    process.start()
    return process


def processor_seconds(processes: Sequence[int]) -> float:
    """What these processes have computed so far. Unlike the time on the clock, it says how far they are."""
    ticks = 0
    for number in processes:
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def whole_run(process: Any) -> float:
    """Waits for a process that nobody disturbs; returns the processor seconds of it and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.exitcode != 0:
        raise Difference(f"what nobody disturbed ended with {process.exitcode}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def kill_runs(count: int, root: Path, record: Record) -> None:
    """Interrupts ``count`` runs and records in which state they were met."""
    cache, whole = root / "scenes", root / "whole"
    took = whole_run(start(one_run, configured(whole, cache)))
    (reference,) = (whole / "results" / "runs").glob("*")
    for number in record.missing(count):
        own, rng = root / f"run{number}", record.rng(number)
        config = configured(own, cache)
        process = start(one_run, config)
        until = rng.uniform(0, 1) * took
        while process.is_alive() and processor_seconds([process.pid]) < until:
            time.sleep(0.01)
        sent = signal.SIGKILL if rng.random() < 0.5 else rng.choice(OTHERS)
        if process.is_alive():
            os.kill(process.pid, sent)
        process.join()
        if running := stale(own):
            raise Difference(f"run {number}: still running after {sent.name}: {running}")
        found = list((own / "results" / "runs").glob("*/status.json"))
        status = RunFolder(found[0].parent).status if found else None
        met = "before its folder" if status is None else str(status.state)
        process = start(one_run, config)
        process.join()
        if process.exitcode != 0:
            raise Difference(f"run {number}: the continued run ended with {process.exitcode}")
        (folder,) = (own / "results" / "runs").glob("*")
        compare(folder, reference)
        record.add(number, met)
        shutil.rmtree(own)


def one_sweep(root: Path, cache: Path, launcher: str) -> None:
    """The body of a sweep's process: the command line, in a process group of its own."""
    os.setsid()
    root.mkdir(parents=True, exist_ok=True)
    os.chdir(root)
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    more = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    sys.argv = ["harness", "-m", *SMALL, f"seed=range({SEEDS})", f"data.cache_dir={cache}", *more]
    runpy.run_module("harness", run_name="__main__", alter_sys=True)


def members(group: int) -> list[int]:
    """The processes of a group, this one's children and theirs."""
    found = subprocess.run(["pgrep", "-g", str(group)], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


def hit(process: Any, rng: random.Random) -> str:
    """Sends a signal to the parent, a worker or the group; says which to whom."""
    sent = rng.choice((signal.SIGKILL, *OTHERS[:3]))
    target = rng.choice(("parent", "worker", "group"))
    workers = [number for number in members(process.pid) if number != process.pid]
    victims = {"parent": [process.pid], "group": [process.pid, *workers]}.get(target, workers[-1:] or [process.pid])
    for number in victims:
        try:
            os.kill(number, sent)
        except ProcessLookupError:
            continue
    return f"{sent.name} to the {target}"


def ended(process: Any, wait: Callable[[], bool], seconds: float) -> None:
    """Waits for the parent and for all others of its group."""
    deadline = time.monotonic() + seconds
    while process.is_alive() or wait():
        if time.monotonic() > deadline:
            raise Difference(f"processes are left after {seconds:.0f} s: {members(process.pid)}")
        time.sleep(0.2)


def kill_sweeps(count: int, root: Path, record: Record) -> None:
    """Interrupts ``count`` sweeps, basic and joblib in turn, and records what was sent to whom."""
    cache = root / "scenes"
    took = {
        launcher: whole_run(start(one_sweep, root / f"whole-{launcher}", cache, launcher)) for launcher in LAUNCHERS
    }
    whole = root / "whole-basic"
    references = {path.name: path for path in (whole / "results" / "runs").glob("*")}
    for number in record.missing(count):
        own, rng, launcher = root / f"sweep{number}", record.rng(number), LAUNCHERS[number % 2]
        process = start(one_sweep, own, cache, launcher)
        until = rng.uniform(0.05, 1.0) * took[launcher]
        while process.is_alive() and processor_seconds(members(process.pid)) < until:
            time.sleep(0.1)
        what = hit(process, rng) if process.is_alive() else "nothing: it had ended"
        group = process.pid
        ended(process, lambda group=group: bool(members(group)), 120 + 20 * took[launcher])
        if running := stale(own):
            raise Difference(f"sweep {number}: still running after {what}: {running}")
        process = start(one_sweep, own, cache, launcher)
        process.join()
        if process.exitcode != 0:
            raise Difference(f"sweep {number}: {(own / 'said.txt').read_text()}")
        for name, reference in references.items():
            compare(own / "results" / "runs" / name, reference)
        if "Traceback" in (own / "said.txt").read_text():
            raise Difference(f"sweep {number}: a traceback in {(own / 'said.txt').read_text()}")
        record.add(number, f"{launcher}: {what}")
        shutil.rmtree(own)


def main() -> int:
    """The command line; 1 where a difference was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--sweeps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, metavar="FILE", help="outcomes so far; what it holds is not done again")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="harness-kills-"))
    try:
        for name, kill, count in (
            ("runs", kill_runs, arguments.runs), ("sweeps", kill_sweeps, arguments.sweeps),
        ):  # fmt: skip
            record = Record(name, arguments.seed, arguments.record)
            if record.missing(count):
                kill(count, root, record)
            print(f"{count} {name} interrupted: all results identical, none stays running")
            for what, times in sorted(Counter(record.seen[number] for number in range(count)).items()):
                print(f"  {times:4} x {what}")
    except Difference as difference:
        print(f"DIFFERENCE: {difference} (kept: {root})", file=sys.stderr)
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
