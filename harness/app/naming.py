"""The name of a run and its folder: its data, its detector, its method, and what else was asked for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.runs.folder import RunFolder
from harness.runs.identity import role_of
from harness.runs.presets import PRESETS
from harness.runs.roles import Role

if TYPE_CHECKING:
    from harness.experiment.experiment import Experiment  # torch, for which those who only name jobs do not wait

LONGEST = 90  # characters of a name before its seed and hash: W&B takes 128, file systems 255
SHORTEST = 14  # characters to which one part of a name is cut for the sake of the others
NOT_NAMED = frozenset({Role.SEED, Role.CONDITION, Role.SPEED, Role.BOOKKEEPING, Role.EVALUATION})


def run_name(choices: Mapping[str, str], overrides: Sequence[str]) -> str:
    """``shapes-tiny_rcnn-ohem-num=64``: data, detector, preset or sampler, then what the overrides change besides.

    A name of more than ``LONGEST`` characters has its longest parts cut, and then lacks the last differences.

    Args:
        choices: group -> option.
        overrides: the job's part of the command line, those that tell it from other jobs first.
    """
    presets = [choices[group] for group in PRESETS if choices.get(group)]
    parts = [choices.get("data", "data"), choices.get("detector", "detector")]
    parts += presets or [choices.get("sampler", "sampler")]
    told = {"data", "detector", *PRESETS, *(() if presets else ("sampler",))}
    parts = list(map(_safe, parts))
    for difference in map(_safe, _differences(overrides, told, choices)):
        if sum(min(len(part), SHORTEST) + 1 for part in [*parts, difference]) <= LONGEST + 1:
            parts.append(difference)
    return "-".join(_fitted(parts))


def named_first(overrides: Sequence[str], varied: Collection[str] | None) -> list[str]:
    """The overrides in the order in which :func:`run_name` wants them: those of the keys that a sweep varies first."""
    return sorted(overrides, key=lambda text: text.partition("=")[0] not in (varied or ()))


def _fitted(parts: Sequence[str]) -> list[str]:
    """The parts of a name, the longest cut until all of them fit."""
    longest = max(map(len, parts))
    while longest > SHORTEST and sum(min(len(part), longest) + 1 for part in parts) > LONGEST + 1:
        longest -= 1
    return [part if len(part) <= longest else _cut(part, longest) for part in parts]


def _cut(part: str, length: int) -> str:
    """The beginning of a part, and four digits of the whole, so that two that begin alike still differ."""
    return f"{part[: length - 5]}~{hashlib.sha256(part.encode()).hexdigest()[:4]}"


def folder_of(experiment: Experiment, fingerprint: str) -> Path:
    """``<root>/runs/<name>-s<seed>-<hash>``, or the folder that a run with this seed and hash has under another name.

    The hash is of the experiment and of the data's ``fingerprint``. With ``run.again`` it is the first repetition,
    ``.again2``, ``.again3``, ..., that is not done.
    """
    settings = experiment.settings
    runs = Path(settings.run.root) / "runs"
    identity = f"-s{settings.seed}-{experiment.hash_on(fingerprint)}"
    path = runs / f"{settings.name or run_name(experiment.choices, experiment.overrides)}{identity}"
    if settings.name is None and not path.exists():
        path = next(iter(sorted(runs.glob(f"*{identity}"))), path)
    number, repeated = 1, path
    while settings.run.again and RunFolder(repeated).finished:
        number += 1
        repeated = path.with_name(f"{path.name}.again{number}")
    return repeated


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
