"""What adaptive sweeps (``hydra/sweeper=until_settled``) were asked, read from the folders that they left."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.report.reading import UnreadableError, parse_yaml, read_json_object, read_text

GOALS = ("baseline", "best")
_MARK = "hydra_plugins.harness.UntilSettled"  # the sweeper's _target_ in multirun.yaml


@dataclass(frozen=True)
class Sweep:
    """One adaptive sweep: by which rules it ended, and which runs it made or found."""

    name: str  # of its folder
    metric: str
    alpha: float
    margin: float
    goal: str  # baseline | best
    baseline: str | None  # setting=value[,setting=value]
    runs: frozenset[str]  # names of run folders


@dataclass(frozen=True)
class Sweeps:
    """All adaptive sweeps beside some run folders, and a line for each whose record cannot be read."""

    found: tuple[Sweep, ...] = ()
    notes: tuple[str, ...] = ()


def find_sweeps(runs: Sequence[Path]) -> Sweeps:
    """The sweeps in ``<results>/sweeps`` of every ``<results>/runs`` that holds one of the run folders.

    A sweep whose folder was put elsewhere (``hydra.sweep.dir``) is not found.
    """
    found: list[Sweep] = []
    notes: list[str] = []
    for root in dict.fromkeys(run.parent.parent / "sweeps" for run in runs if run.parent.name == "runs"):
        try:
            folders = sorted(path for path in root.iterdir() if os.path.isdir(path)) if os.path.isdir(root) else []
        except OSError as error:
            notes.append(f"sweeps: {error.strerror}, so the alpha, margin and goal of its sweeps are not known.")
            continue
        for folder in folders:
            try:
                sweep = _read(folder)
            except UnreadableError as why:
                notes.append(f"sweeps/{folder.name}: {why}, so its alpha, margin and goal are not known.")
                continue
            found += [sweep] if sweep is not None else []
    return Sweeps(tuple(found), tuple(notes))


def _read(folder: Path) -> Sweep | None:
    """None for a folder that another sweeper left."""
    try:
        if not (folder / "multirun.yaml").exists():
            return None
    except OSError as error:
        raise UnreadableError(f"unreadable: {error.strerror}") from None
    text = read_text(folder, "multirun.yaml")
    if _MARK not in text:
        return None
    try:
        settings = parse_yaml(text)["hydra"]["sweeper"]
        return Sweep(
            name=folder.name,
            metric=str(settings["metric"]),
            alpha=_number(settings, "alpha", 1.0),
            margin=_number(settings, "margin", math.inf),
            goal=_goal(settings),
            baseline=None if settings["baseline"] is None else str(settings["baseline"]),
            runs=frozenset(_runs(folder)),
        )
    except UnreadableError as why:
        raise UnreadableError(f"corrupt: multirun.yaml {why}") from None
    except (KeyError, TypeError) as error:
        raise UnreadableError(f"corrupt: multirun.yaml does not say hydra.sweeper ({error})") from None


def _number(settings: Mapping[str, Any], key: str, below: float) -> float:
    value = settings[key]
    if not isinstance(value, (int, float)) or not 0 <= value < below or (key == "alpha" and value == 0):
        raise UnreadableError(f"says hydra.sweeper.{key}={value!r:.40}")
    return float(value)


def _goal(settings: Mapping[str, Any]) -> str:
    if settings["goal"] not in GOALS:
        raise UnreadableError(f"says hydra.sweeper.goal={settings['goal']!r:.40}, none of {', '.join(GOALS)}")
    return str(settings["goal"])


def _runs(folder: Path) -> list[str]:
    """Names of the run folders in the outcomes of the sweep's jobs; those of an earlier sweep count, too."""
    names = []
    for path in sorted(folder.rglob("outcome-*.json")):
        try:
            run = read_json_object(path.parent, path.name).get("folder")
        except UnreadableError:
            continue  # of a job that was killed while it wrote: its run ended no better
        names += [Path(run).name] if isinstance(run, str) else []
    return names
