"""Damages files of finished and interrupted runs and tries to use them: no wrong result, no traceback.

    python -m tests.robustness.damage --count 1000 --seed 0

For every family of files a copy of a small run is damaged ``count`` times (a flipped bit, a zeroed stretch, a cut end,
a repeated stretch, an emptied file) and used as the harness uses it. The outcome is counted as

* ``refused``: one line says so (an error of the classes that the command line turns into a line);
* ``same``: the result is the undamaged one's, because the damage was noticed and worked around, or changed nothing;
* ``wrong``: anything else was read without a word;
* ``traceback``: an error of another class.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.data.records import DataError
from harness.data.sources.shapes import shapes
from harness.report.folders import ReportError, UnreadableError
from harness.runs.folder import RunFolder
from harness.runs.integrity import DamagedFileError
from harness.runs.metrics_log import MetricsLog
from harness.runs.records import write_json
from harness.runs.schema import ConfigError
from harness.training import checkpoint
from harness.training.checkpoint import CheckpointError
from harness.training.mining import read_round

SAID = (CheckpointError, ConfigError, DamagedFileError, DataError, UnreadableError, ReportError, OSError)
OUTCOMES = ("refused", "same", "wrong", "traceback")


def flipped(data: bytes, rng: random.Random) -> bytes:
    """One bit is the other one."""
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def zeroed(data: bytes, rng: random.Random) -> bytes:
    """A stretch of zeros, as of a page that was never written."""
    start, size = rng.randrange(len(data)), rng.choice([16, 512, 4096])
    return data[:start] + bytes(min(size, len(data) - start)) + data[start + size :]


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return data[: rng.randrange(len(data))]


def repeated(data: bytes, rng: random.Random) -> bytes:
    """A stretch stands there twice."""
    start, size = rng.randrange(len(data)), rng.choice([1, 16, 512])
    return data[: start + size] + data[start:]


def emptied(data: bytes, rng: random.Random) -> bytes:
    """Nothing is left."""
    return b""


DAMAGES = (flipped, zeroed, cut, repeated, emptied)
WEIGHTS = (6, 3, 2, 1, 0.2)


@dataclass(frozen=True)
class Family:
    """One kind of file: where it is, and what the harness reads from it."""

    name: str
    path: Path
    read: Callable[[], Any]
    may_lose: bool = False  # damaged parts are left out with a word: what is left must be part of the original


def families(folder: Path, cache: Path) -> list[Family]:
    """The families of a run folder and of the drawn scenes in ``cache``."""
    run = RunFolder(folder)
    size: dict[str, Any] = {"image_size": 32, "num_train": 6, "num_val": 2, "size": (4, 8), "cache_dir": str(cache)}

    def scenes() -> Any:
        splits = shapes(**size)
        return [dataset[i] for dataset in (splits.train, splits.val) for i in range(len(dataset))]

    def report() -> Any:
        from harness.report.frame import load_runs

        frame = load_runs(folder.parents[1])
        return None if frame.empty else frame.drop(columns=[c for c in frame if "seconds" in str(c)]).to_json()

    scenes()
    mined = folder / "mined" / "round_1.json"
    drawn = {name: next(cache.glob(f"shapes-train-*/{name}")) for name in ("images.npy", "objects.npz")}
    return [
        Family("checkpoint.pt", folder / "checkpoint.pt", lambda: checkpoint.load(folder / "checkpoint.pt")),
        Family("model.pt", folder / "model.pt", lambda: checkpoint.load(folder / "model.pt")),
        Family("result.json", folder / "result.json", run.result),
        Family("detections.json", folder / "detections.json", run.detections),
        Family("status.json", folder / "status.json", lambda: run.status),
        Family("metrics.jsonl", folder / "metrics.jsonl", lambda: MetricsLog.rows(folder / "metrics.jsonl"), True),
        Family("mined round", mined, lambda: read_round(mined, 1, 3)),
        Family("report of result.json", folder / "result.json", report),
        *(Family(name, path, scenes) for name, path in drawn.items()),
    ]


def equal(a: Any, b: Any) -> bool:
    """Whether two values are the same, tensors by their bits."""
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def outcome_of(family: Family, expected: Any) -> tuple[str, str]:
    """One of ``OUTCOMES`` and, where it is bad, what happened."""
    try:
        value = family.read()
    except SAID as error:
        return ("refused", "") if len(str(error).splitlines()) <= 1 else ("traceback", str(error))
    except ValueError as error:
        named = family.path.name in str(error) and len(str(error).splitlines()) == 1
        return ("refused", "") if named else ("traceback", f"{type(error).__name__}: {error}")
    except BaseException as error:
        return "traceback", f"{type(error).__name__}: {error}"
    if value is None:
        return "refused", ""
    if family.may_lose:
        return ("same", "") if all(row in expected for row in value) else ("wrong", str(value)[:200])
    return ("same", "") if equal(value, expected) else ("wrong", str(value)[:200])


def damage(family: Family, count: int, rng: random.Random) -> Counter[str]:
    """Damages the file ``count`` times, each time from its whole state, and counts the outcomes."""
    whole, expected = family.path.read_bytes(), family.read()
    outcomes: Counter[str] = Counter()
    for number in range(count):
        kind = rng.choices(DAMAGES, WEIGHTS)[0]
        family.path.write_bytes(kind(whole, rng))
        outcome, what = outcome_of(family, expected)
        outcomes[outcome] += 1
        if outcome in ("wrong", "traceback"):
            print(f"{family.name}, damage {number} ({kind.__name__}): {outcome}: {what}", file=sys.stderr)
    family.path.write_bytes(whole)
    return outcomes


def small_run(root: Path) -> Path:
    """A finished small run with all files, and a round of mining."""
    from hydra import compose, initialize_config_dir

    from harness.app.runner import run
    from harness.runs import schema
    from tests.runs.conftest import SMALL

    schema.register()
    with initialize_config_dir(str(schema.folder("conf")), version_base="1.3"):
        config = compose("config", [*SMALL, f"run.root={root / 'results'}", f"data.cache_dir={root / 'scenes'}"])
    folder = run(config, choices={"detector": "tiny_rcnn"}, sources=[str(schema.folder("conf"))]).folder
    (folder / "mined").mkdir(exist_ok=True)
    row = {"image_id": 1, "category_id": 2, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    record = {"round": 1, "iteration": 3, "parameters": {"max_iou": 0.1}, "detections": [row], "missed": []}
    write_json(folder / "mined" / "round_1.json", record, indent=None)
    return folder


def main() -> int:
    """The command line; 1 where an outcome was bad."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="damages per family")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("harness").setLevel(logging.CRITICAL)
    root = Path(tempfile.mkdtemp(prefix="harness-damage-"))
    bad = 0
    try:
        print(f"| {'file':22} | " + " | ".join(OUTCOMES) + " |\n|---|" + "---|" * len(OUTCOMES))
        for family in families(small_run(root), root / "few"):
            counts = damage(family, arguments.count, random.Random(f"{arguments.seed} {family.name}"))
            print(f"| {family.name:22} | " + " | ".join(str(counts[name]) for name in OUTCOMES) + " |", flush=True)
            bad += counts["wrong"] + counts["traceback"]
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
