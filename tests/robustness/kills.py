"""Kills runs and sweeps at random moments and continues them: identical results, no run that stays "running".

    python -m tests.robustness.kills --runs 100 --sweeps 20 --seed 0

A run is a process that is forked from this one, so that torch is imported once; a signal is sent to it after a random
time (SIGKILL half of the time), and the same configuration is run again to its end. A sweep is the command line in
processes of its own; the signal goes to the parent, a worker or the whole group, and the same command is given again.
After every signal no run may say "running" (:attr:`RunFolder.status` looks for the process behind it); at the end the
results, detections, log, histograms and weights must be those of the run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
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

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "run=smoke", "run.threads=1", "tracker=none", "data.num_train=12", "data.num_val=4", "data.image_size=64",
    "detector.min_size=64", "run.iterations=16", "run.log_every=2", "run.checkpoint_iterations=3", "run.eval_every=5",
    "run.ema_decay=0.9",
]  # fmt: skip
OTHERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Difference(AssertionError):
    """A continued run is not the undisturbed one."""


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


def one_run(root: Path, cache: Path) -> None:
    """The body of a run's process."""
    from harness.app.job import Job, run_job
    from harness.runs.schema import folder

    torch.set_num_threads(1)
    config = composed([*SMALL, f"run.root={root / 'results'}", f"data.cache_dir={cache}"])
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    job = Job(0, (), {"detector": "tiny_rcnn"}, (str(folder("conf")),), sweep=None)
    raise SystemExit(run_job(config, job).exit_code)


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration of these overrides."""
    from hydra import compose, initialize_config_dir

    from harness.runs import schema

    schema.register()
    with initialize_config_dir(str(schema.folder("conf")), version_base="1.3"):
        return compose("config", list(overrides))


def start(root: Path, cache: Path) -> Any:
    """A run in a process of its own."""
    process = multiprocessing.get_context("fork").Process(target=one_run, args=(root, cache))
    process.start()
    return process


def kill_runs(count: int, root: Path, rng: random.Random) -> Counter[str]:
    """Interrupts ``count`` runs; returns how often in which state they were met."""
    cache, whole = root / "scenes", root / "whole"
    started = time.monotonic()
    process = start(whole, cache)
    process.join()
    took = time.monotonic() - started
    if process.exitcode != 0:
        raise Difference(f"the undisturbed run ended with {process.exitcode}")
    (reference,) = (whole / "results" / "runs").glob("*")
    seen: Counter[str] = Counter()
    for number in range(count):
        own = root / f"run{number}"
        process = start(own, cache)
        process.join(rng.uniform(0, 1.1) * took)
        sent = signal.SIGKILL if rng.random() < 0.5 else rng.choice(OTHERS)
        if process.is_alive():
            os.kill(process.pid, sent)
        process.join()
        if running := stale(own):
            raise Difference(f"run {number}: still running after {sent.name}: {running}")
        found = list((own / "results" / "runs").glob("*/status.json"))
        status = RunFolder(found[0].parent).status if found else None
        seen["before its folder" if status is None else f"{status.state}"] += 1
        process = start(own, cache)
        process.join()
        if process.exitcode != 0:
            raise Difference(f"run {number}: the continued run ended with {process.exitcode}")
        (folder,) = (own / "results" / "runs").glob("*")
        compare(folder, reference)
        shutil.rmtree(own)
    return seen


def sweep(root: Path, cache: Path, launcher: str) -> subprocess.Popen[bytes]:
    """A sweep of three seeds as a command, in a process group of its own."""
    more = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    command = [sys.executable, "-m", "harness", "-m", *SMALL, "seed=0,1,2", f"data.cache_dir={cache}", *more]
    root.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (root / "said.txt").open("ab") as said:
        return subprocess.Popen(command, cwd=root, env=environment, stdout=said, stderr=said, start_new_session=True)


def members(group: int) -> list[int]:
    """The processes of a group, this one's children and theirs."""
    found = subprocess.run(["pgrep", "-g", str(group)], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


def hit(process: subprocess.Popen[bytes], rng: random.Random) -> str:
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


def ended(process: subprocess.Popen[bytes], wait: Callable[[], bool], seconds: float) -> None:
    """Waits for the parent and for all others of its group."""
    deadline = time.monotonic() + seconds
    while process.poll() is None or wait():
        if time.monotonic() > deadline:
            raise Difference(f"processes are left after {seconds:.0f} s: {members(process.pid)}")
        time.sleep(0.2)


def kill_sweeps(count: int, root: Path, rng: random.Random) -> Counter[str]:
    """Interrupts ``count`` sweeps, basic and joblib in turn; returns how often what was sent to whom."""
    cache, whole = root / "scenes", root / "whole-sweep"
    started = time.monotonic()
    process = sweep(whole, cache, "basic")
    process.wait()
    took = time.monotonic() - started
    references = {path.name: path for path in (whole / "results" / "runs").glob("*")}
    seen: Counter[str] = Counter()
    for number in range(count):
        own, launcher = root / f"sweep{number}", ("basic", "joblib")[number % 2]
        process = sweep(own, cache, launcher)
        time.sleep(rng.uniform(0.1, 1.0) * took)
        what = hit(process, rng) if process.poll() is None else "nothing: it had ended"
        seen[f"{launcher}: {what}"] += 1
        group = process.pid
        ended(process, lambda group=group: bool(members(group)), 60 + 5 * took)
        if running := stale(own):
            raise Difference(f"sweep {number}: still running after {what}: {running}")
        process = sweep(own, cache, launcher)
        if process.wait() != 0:
            raise Difference(f"sweep {number}: {(own / 'said.txt').read_text()}")
        for name, reference in references.items():
            compare(own / "results" / "runs" / name, reference)
        if "Traceback" in (own / "said.txt").read_text():
            raise Difference(f"sweep {number}: a traceback in {(own / 'said.txt').read_text()}")
        shutil.rmtree(own)
    return seen


def main() -> int:
    """The command line; 1 where a difference was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--sweeps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="harness-kills-"))
    try:
        for name, kill, count in (
            ("runs", kill_runs, arguments.runs), ("sweeps", kill_sweeps, arguments.sweeps),
        ):  # fmt: skip
            seen = kill(count, root, random.Random(f"{arguments.seed} {name}")) if count else Counter()
            print(f"{count} {name} interrupted: all results identical, none stays running")
            for what, times in sorted(seen.items()):
                print(f"  {times:4} x {what}")
    except Difference as difference:
        print(f"DIFFERENCE: {difference} (kept: {root})", file=sys.stderr)
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
