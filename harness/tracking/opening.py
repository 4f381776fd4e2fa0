"""Opens and closes mirrors; falls back to offline, in seconds and with one line, where online does not work."""

from __future__ import annotations

import csv
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.runs.identity import config_hash
from harness.runs.schema import TrackerConfig
from harness.tracking.report_values import Pictured, Plotted, report_values
from harness.tracking.tracker import NoTracker, Tracker
from harness.tracking.wandb_tracker import WandbTracker
from harness.training.interrupt import Interrupted

log = logging.getLogger("harness")

# What a group's name starts with; it ends with a hash of all settings but the seed, so that runs of one group differ in
# nothing else. The dashboard's bars and bands are over the runs of a group.
COMBINATION = (
    "experiment/arm",
    "experiment/rung",
    "data",
    "detector",
    "assigner",
    "sampler",
    "loss/classification",
    "loss/regression",
)
MAX_GROUP = 128  # W&B's bound

FAILED, STOPPED = 1, 255  # exit codes that W&B shows as failed and killed


@contextmanager
def open_tracker(
    settings: TrackerConfig, folder: Path, config: Mapping[str, Any], choices: Mapping[str, str]
) -> Iterator[Tracker]:
    """Opens the mirror that ``settings`` asks for and closes it however the run ends.

    A run that is continued keeps its W&B identity, the name of its folder. Offline, each session leaves a folder of its
    own, and ``wandb sync`` puts those of one run together.
    """
    if settings.kind == "none":
        yield NoTracker()
        return
    group = settings.group or group_of(config, choices)
    run = _open(
        settings,
        folder,
        id=folder.name,
        name=folder.name,
        group=group,
        job_type="train",
        tags=[*settings.tags, *(f"{k}:{v}"[:64] for k, v in choices.items() if k in ("detector", "sampler", "data"))],
        config={**config, "choices": dict(choices)},
    )
    if run is None:
        yield NoTracker()
        return
    exit_code = FAILED
    try:
        yield WandbTracker(run, settings.images)
        exit_code = 0
    except BaseException as stop:
        exit_code = STOPPED if isinstance(stop, KeyboardInterrupt | Interrupted) else FAILED
        raise
    finally:
        _close(run, exit_code)


def group_of(config: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """The name of what a run shares with its other seeds."""
    told = "-".join(choices[name] for name in COMBINATION if name in choices)
    alike = config_hash({**config, "seed": None}, data_fingerprint="")[:6]
    return f"{told[: MAX_GROUP - len(alike) - 1]}-{alike}"


def log_report(
    settings: TrackerConfig,
    folder: Path,
    name: str,
    figures: Sequence[Plotted] = (),
    galleries: Sequence[Pictured] = (),
) -> None:
    """Mirrors a report as a run of its own: its files as one artifact, its frames as tables, its page to be looked at.

    Args:
        settings: of the sweep; ``kind: none`` does nothing.
        folder: of the report; the W&B run stands beside its files, in ``wandb``.
        name: of the run and of its artifact.
        figures: plotly figures, which W&B shows as the page does.
        galleries: pictures with boxes.
    """
    if settings.kind == "none":
        return
    import wandb

    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    run = _open(settings, folder, name=name, group=settings.group, job_type="report", tags=list(settings.tags))
    if run is None:
        return
    exit_code = FAILED
    try:
        values: dict[str, Any] = {}
        for path in files:
            if path.suffix == ".html":
                values[f"{path.stem}/page"] = wandb.Html(os.fspath(path), inject=False)
            elif path.suffix == ".csv":
                with path.open(encoding="utf-8", newline="") as file:
                    head, *rows = csv.reader(file)
                columns = [_numbers(column) for column in zip(*rows, strict=True)]
                values[f"report/{path.stem}"] = wandb.Table(columns=[*head], data=[*zip(*columns, strict=True)])
        run.log({**values, **dict(report_values(figures, galleries))})
        artifact = wandb.Artifact(name=name, type="report")
        for path in files:
            artifact.add_file(os.fspath(path))
        run.log_artifact(artifact)
        exit_code = 0
    finally:
        _close(run, exit_code)


def _numbers(column: Sequence[str]) -> list[float | str | None]:
    """A column as numbers where all of its cells are; an empty cell has no value."""
    try:
        return [float(cell) if cell else None for cell in column]
    except ValueError:
        return [cell or None for cell in column]


def _open(settings: TrackerConfig, folder: Path, **options: Any) -> Any:
    """``wandb.init`` as asked, offline where online does not work; None, with one line, where nothing works."""
    import wandb

    quiet = wandb.Settings(silent=True, console="off", init_timeout=settings.init_timeout, disable_git=True)
    options = {"project": settings.project, "entity": settings.entity, "dir": os.fspath(folder), **options}
    if settings.mode == "online":
        before = _session_folders(folder)
        try:
            if not wandb.login(prompt=False):  # init would wait for a keyboard
                raise wandb.errors.UsageError("no API key; `wandb login` stores one")
            return wandb.init(mode="online", resume="allow", settings=quiet, **options)
        except Exception as error:
            log.warning(
                "W&B is not reachable (%s): this run is mirrored offline, `wandb sync` uploads it", _first_line(error)
            )
            # What is left of the attempt holds the run's id, and an empty session folder.
            wandb.teardown()
            for left in _session_folders(folder) - before:
                shutil.rmtree(left, ignore_errors=True)
    try:
        return wandb.init(mode="offline", settings=quiet, **options)
    except Exception as error:
        log.warning("no W&B mirror of this run (%s); its folder misses nothing", _first_line(error))
        return None


def _close(run: Any, exit_code: int) -> None:
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:
        log.warning("the W&B mirror was not closed (%s); the run's folder misses nothing", _first_line(error))


def _session_folders(folder: Path) -> set[Path]:
    return set((folder / "wandb").glob("run-*"))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
