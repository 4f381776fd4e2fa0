"""The name of a run: its data, its detector, its method, and what else was asked for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from harness.runs.identity import role_of
from harness.runs.presets import PRESETS
from harness.runs.roles import Role

LONGEST = 90  # characters of a name before its seed and hash: W&B takes 128, file systems 255
NOT_NAMED = frozenset({Role.SEED, Role.CONDITION, Role.SPEED, Role.BOOKKEEPING, Role.EVALUATION})


def run_name(choices: Mapping[str, str], overrides: Sequence[str]) -> str:
    """``shapes-tiny_rcnn-ohem-num=64``: data, detector, preset or sampler, then what the overrides change besides.

    Args:
        choices: group -> option.
        overrides: the job's part of the command line.
    """
    presets = [choices[group] for group in PRESETS if choices.get(group)]
    parts = [choices.get("data", "data"), choices.get("detector", "detector")]
    parts += presets or [choices.get("sampler", "sampler")]
    told = {"data", "detector", *PRESETS, *(() if presets else ("sampler",))}
    name = _safe("-".join(parts))[:LONGEST]
    for difference in map(_safe, _differences(overrides, told, choices)):
        if len(name) + len(difference) < LONGEST:
            name = f"{name}-{difference}"
    return name


def job_label(overrides: Iterable[str], varied: Collection[str] | None) -> str:
    """The overrides of one job of a sweep that tell it from the others.

    Args:
        overrides: the job's part of the command line.
        varied: the keys that differ between the jobs; None where they are not known.
    """
    if varied is not None:
        return " ".join(text for text in overrides if text.partition("=")[0] in varied)
    shown = [text for text in overrides if _role(text.partition("=")[0]) not in (Role.SPEED, Role.BOOKKEEPING)]
    return " ".join(text for text in shown if not text.startswith("hydra"))


def _differences(overrides: Sequence[str], told: set[str], choices: Mapping[str, str]) -> list[str]:
    found = []
    last = dict(override.lstrip("+~").partition("=")[::2] for override in overrides)  # of a key that is given twice
    for key, value in last.items():
        if key in told or key.startswith("hydra") or _role(key) in NOT_NAMED:
            continue
        short = key.rpartition("@")[2].replace("/", ".")
        stage = f"{short.split('.')[0]}." if short.startswith(("rpn.", "roi")) else ""
        found.append(f"{stage}{value}" if key in choices else f"{stage}{short.rpartition('.')[2]}={value}")
    return found


def _role(key: str) -> Role:
    return role_of(key.lstrip("+~").rpartition("@")[2].replace("/", "."))


def _safe(name: str) -> str:
    """Only characters that every file system and W&B take."""
    return re.sub(r"[^\w.=,+-]+", "_", name, flags=re.ASCII).strip("_.")
