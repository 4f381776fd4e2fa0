"""What the mirror is told: by the command line first, then by W&B's environment variables, then by default."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from harness.runs.schema import ConfigError, TrackerConfig

MODES = {"online": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
RESERVED = "/\\#?%:"  # not in a project's name
LONGEST = 128  # characters of a project, a group, a run's name, an artifact's name
LONGEST_ID = 96  # of a run: a table is an artifact called run-<id>-<key>
LONGEST_TAG = 64
TIMEOUT = 10.0  # seconds until a host counts as unreachable


def settled(settings: TrackerConfig, environ: Mapping[str, str] = os.environ) -> TrackerConfig:
    """The settings with what they leave open filled in, in a form that W&B takes.

    Read are ``WANDB_MODE``, ``WANDB_DISABLED``, ``WANDB_PROJECT``, ``WANDB_TAGS`` (separated by commas),
    ``WANDB_RUN_GROUP``, ``WANDB_JOB_TYPE``, ``WANDB_NAME``, ``WANDB_DIR`` and ``WANDB_INIT_TIMEOUT``.

    Raises:
        ConfigError: a value that W&B would refuse; the line names the key or the variable.
    """
    told = {name.removeprefix("WANDB_").lower(): value for name, value in environ.items() if name.startswith("WANDB_")}
    mode = settings.mode or _mode(told)
    timeout = settings.init_timeout
    if timeout is None:
        timeout = _seconds(told.get("init_timeout", str(TIMEOUT)))
    project = settings.project if settings.project is not None else told.get("project", "harness")
    source = "tracker.project" if settings.project is not None else "WANDB_PROJECT"
    if not project or len(project) > LONGEST or set(project) & set(RESERVED):
        raise ConfigError(f"{source}={project!r} must have 1 to {LONGEST} characters and none of {' '.join(RESERVED)}")
    group = settings.group or told.get("run_group") or None
    return replace(
        settings,
        kind="none" if mode == "disabled" else settings.kind,
        mode=mode,
        project=project,
        group=group[:LONGEST] if group else None,
        tags=cleaned_tags(settings.tags or told.get("tags", "").split(",")),
        job_type=settings.job_type or told.get("job_type") or "train",
        run_name=settings.run_name or told.get("name") or None,
        dir=settings.dir or told.get("dir") or None,
        init_timeout=timeout,
    )


def cleaned_tags(tags: list[str]) -> list[str]:
    """Tags of 1 to 64 characters, each once: longer ones are cut, empty ones left out."""
    return list(dict.fromkeys(tag.strip()[:LONGEST_TAG] for tag in tags if tag.strip()))


def run_id(name: str, longest: int = LONGEST_ID) -> str:
    """A folder's name as an identifier that W&B takes; a long name keeps its end: a run's seed and hash."""
    clean = re.sub(r"[^\w.=+-]+", "_", name, flags=re.ASCII)
    return clean if len(clean) <= longest else f"{clean[: longest - 41]}_{clean[-40:]}"


def artifact_name(name: str) -> str:
    """A name as W&B takes it for an artifact."""
    return re.sub(r"[^\w.-]", "_", run_id(name, LONGEST), flags=re.ASCII)


def agents_run_id(environ: Mapping[str, str] = os.environ) -> str | None:
    """The id that W&B's sweep controller gave to what its agent runs here; ``None`` outside of such an agent."""
    return (environ.get("WANDB_RUN_ID") or None) if environ.get("WANDB_SWEEP_ID") else None


def _mode(told: Mapping[str, str]) -> str:
    if told.get("disabled", "").lower() in ("true", "1", "yes"):
        return "disabled"
    asked = told.get("mode", "offline")
    if asked not in MODES:
        raise ConfigError(f"WANDB_MODE={asked!r} must be one of {', '.join(MODES)}")
    return MODES[asked]


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value > 0:
        raise ConfigError(f"WANDB_INIT_TIMEOUT={text!r} must be a number of seconds above 0")
    return value
