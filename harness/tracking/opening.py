"""Opens and closes mirrors; falls back to offline, in seconds and with one line, where online does not work."""

from __future__ import annotations

import csv
import logging
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from harness.data.dataset import DetectionDataset
from harness.data.export import to_coco
from harness.runs.folder import RunFolder
from harness.runs.identity import config_hash
from harness.runs.metrics_log import MetricsLog
from harness.runs.presets import PRESETS
from harness.runs.records import Cost, Result
from harness.runs.schema import TrackerConfig
from harness.tracking.closing import close, end_attempt
from harness.tracking.environment import LONGEST, TIMEOUT, agents_run_id, artifact_name, cleaned_tags, run_id, settled
from harness.tracking.report_values import Pictured, Plotted, report_values
from harness.tracking.tracker import NoTracker, Tracker
from harness.tracking.wandb_tracker import WandbTracker
from harness.training.interrupt import Interrupted

log = logging.getLogger("harness")

# What a group's name starts with; it ends with a hash of all settings but the seed, so that runs of one group differ in
# nothing else. The dashboard's bars and bands are over the runs of a group.
COMBINATION = (
    *PRESETS,
    "data",
    "detector",
    "assigner",
    "sampler",
    "loss/classification",
    "loss/regression",
)
COMPLETE = ".mirrored"  # in a run's folder: its mirror was closed with its result

FAILED, STOPPED = 1, 255  # exit codes that W&B shows as failed and killed


@contextmanager
def open_tracker(
    settings: TrackerConfig, folder: Path, config: Mapping[str, Any], choices: Mapping[str, str]
) -> Iterator[Tracker]:
    """Opens the mirror that ``settings`` asks for and closes it however the run ends.

    A run that is continued keeps its W&B identity, the name of its folder. Offline, each session leaves a folder of its
    own, and ``wandb sync`` puts those of one run together. Under the agent of a W&B sweep the identity is the agent's.
    """
    settings = settled(settings)
    if settings.kind == "none":
        yield NoTracker()
        return
    group = settings.group or group_of(config, choices)
    chosen = [f"{group}:{option}" for group, option in choices.items() if group in ("detector", "sampler", "data")]
    run = _open(
        settings,
        folder,
        id=agents_run_id() or run_id(folder.name),
        name=(settings.run_name or folder.name)[:LONGEST],
        group=group,
        job_type=settings.job_type,
        tags=cleaned_tags([*settings.tags, *chosen]),
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
        if close(run, exit_code, settings) and exit_code == 0:
            (folder / COMPLETE).touch()


def complete_mirror(settings: TrackerConfig, folder: Path, dataset: DetectionDataset) -> None:
    """Mirrors a finished run from its files, where its own mirror was not closed: killed in its last part, or none.

    The agent of a W&B sweep gets a mirror in any case: its controller waits for the result under an id of its own.

    Args:
        settings: as of the run.
        folder: of the run.
        dataset: the validation images.
    """
    if settled(settings).kind == "none" or ((folder / COMPLETE).exists() and agents_run_id() is None):
        return
    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert isinstance(config, dict)
    choices = config.pop("choices", {})
    stored = RunFolder(folder).result()
    result = Result(**{**stored, "cost": Cost(**stored["cost"])})
    log.warning("the W&B mirror of %s is completed", folder.name)
    with open_tracker(settings, folder, config, choices) as tracker:  # type: ignore[arg-type]
        for row in MetricsLog.rows(folder / "metrics.jsonl"):
            tracker.log(row["iteration"], {name: value for name, value in row.items() if name != "iteration"})
        tracker.finish(result, dataset, to_coco(dataset), RunFolder(folder).detections())


def group_of(config: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """The name of what a run shares with its other seeds."""
    told = "-".join(choices[name] for name in COMBINATION if name in choices)
    alike = config_hash({**config, "seed": None}, data_fingerprint="")[:6]
    return f"{told[: LONGEST - len(alike) - 1]}-{alike}"


def log_report(
    settings: TrackerConfig,
    folder: Path,
    name: str,
    figures: Sequence[Plotted] = (),
    galleries: Sequence[Pictured] = (),
) -> None:
    """Mirrors a report as a run of its own: its files as one artifact, its frames as tables, its page to be looked at.

    What fails in it is a warning; the sweep has its report.

    Args:
        settings: of the sweep; ``kind: none`` does nothing.
        folder: of the report; the W&B run stands beside its files, in ``wandb``.
        name: of the run and of its artifact.
        figures: plotly figures, which W&B shows as the page does.
        galleries: pictures with boxes.
    """
    settings = settled(settings)
    if settings.kind == "none":
        return
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    run = _open(settings, folder, name=name[:LONGEST], group=settings.group, job_type="report", tags=settings.tags)
    if run is None:
        return
    exit_code = FAILED
    try:
        _send(run, files, artifact_name(name), dict(report_values(figures, galleries)))
        exit_code = 0
    except Exception as error:  # W&B's, its service's, or of a disk that takes no temporary file
        reason = f"{type(error).__name__}: {_first_line(error)}"
        log.warning("the W&B mirror of this report ends here (%s); its folder misses nothing", reason)
    finally:
        close(run, exit_code, settings)


def _send(run: Any, files: Sequence[Path], name: str, values: dict[str, Any]) -> None:
    import wandb

    for path in files:
        if path.suffix == ".html":
            values[f"{path.stem}/page"] = wandb.Html(os.fspath(path), inject=False)
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                head, *rows = csv.reader(file)
            columns = [_numbers(column) for column in zip(*rows, strict=True)]
            values[f"report/{path.stem}"] = wandb.Table(columns=[*head], data=[*zip(*columns, strict=True)])
    run.log(values)
    artifact = wandb.Artifact(name=name, type="report")
    for path in files:
        artifact.add_file(os.fspath(path))
    run.log_artifact(artifact)


def _numbers(column: Sequence[str]) -> list[float | str | None]:
    """A column as numbers where all of its cells are; an empty cell has no value."""
    try:
        return [float(cell) if cell else None for cell in column]
    except ValueError:
        return [cell or None for cell in column]


def _open(settings: TrackerConfig, folder: Path, **options: Any) -> Any:
    """``wandb.init`` as asked, offline where online does not work; None, with one line, where nothing works."""
    import wandb

    quiet = wandb.Settings(silent=True, console="off", init_timeout=settings.init_timeout or TIMEOUT, disable_git=True)
    place = settings.dir or os.fspath(folder)
    options = {"project": settings.project, "entity": settings.entity, "dir": place, **options}
    if settings.mode == "online":
        before = _session_folders(Path(place))
        try:
            if not wandb.login(prompt=False):  # init would wait for a keyboard
                raise wandb.errors.UsageError("no API key; `wandb login` stores one")
            return wandb.init(mode="online", resume="allow", settings=quiet, **options)
        except Exception as error:
            log.warning(
                "W&B is not reachable (%s): this run is mirrored offline, `wandb sync %s` uploads it",
                _first_line(error),
                shlex.quote(f"{Path(place) / 'wandb'}") + "/offline-run-*",
            )
            end_attempt()
            for left in _session_folders(Path(place)) - before:
                shutil.rmtree(left, ignore_errors=True)
    try:
        return wandb.init(mode="offline", settings=quiet, **options)
    except Exception as error:
        log.warning("no W&B mirror of this run (%s); its folder misses nothing", _first_line(error))
        return None


def _session_folders(folder: Path) -> set[Path]:
    return set((folder / "wandb").glob("run-*"))


def _first_line(error: Exception) -> str:
    """The line that says something: a validation error's first one only counts the errors."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if re.match(r"\d+ validation errors? for", lines[0]):
        return ": ".join(lines[1:3]) or lines[0]
    return lines[0]
