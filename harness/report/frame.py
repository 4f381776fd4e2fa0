"""`load_runs`: one row per run, one column per fact."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

from harness.evaluation.branches import IOU_TYPES
from harness.evaluation.branches import SCALARS as BRANCH_SCALARS
from harness.report.folders import RunFiles, SkippedFolder, find_folders, read_run
from harness.report.reading import UnreadableError
from harness.runs.identity import added_defaults, config_hash
from harness.runs.records import State

CORE = ("run", "state", "reason", "data", "detector", "assigner", "sampler", "classification", "regression", "seed")
# Groups that say how a run was driven, not which method it is.
_NO_METHOD = ("run", "tracker", "analysis", "evaluator", "loss", "data", "detector")
BRANCHES = IOU_TYPES[1:]  # segm, keypoints: scored beside the boxes where a detector finds them
Settings = dict[str, Any]  # choices and configuration leaves of one run, hashable values


@dataclass(frozen=True, eq=False)
class RunTable:
    """All settled runs of a folder. Row i of the frame has settings i and path i. Equal to itself only."""

    frame: pd.DataFrame
    settings: list[Settings]
    paths: list[Path]
    environments: list[dict[str, Any]]
    choice_columns: tuple[str, ...]  # the columns that name an option of the configuration
    skipped: list[SkippedFolder]


def load_runs(path: str | os.PathLike[str]) -> pd.DataFrame:
    """One row per run of ``path`` (the folder that holds ``runs/``), from the files alone.

    Columns: run, state (done | failed | refused), reason, data, detector, assigner, sampler, classification,
    regression, seed; every other choice by its place in the configuration (`rpn.sampler`, `optimizer`, ...); metrics
    (`map`, `map50`, ..., `ap.<class>`, `tide.<type>`, `d_ece`, of masks `segm.map`, `segm.ap.<class>`, of keypoints
    `keypoints.map`, ..., of LVIS `map_rare`, `map_common`, `map_frequent`; fractions); cost (`train_seconds`,
    `images_per_second`, `peak_memory_mb`, ...); `sampling.<stage>.<population>.<quantity>`; and the whole
    configuration, one dotted key a column.

    Incomplete, corrupt and foreign folders are no rows: ``frame.attrs["skipped"]`` lists them as `SkippedFolder`.

    Raises:
        ReportError: there is no such folder, or no run in it.
    """
    return read_table(find_folders(Path(path))).frame


def read_table(folders: Sequence[Path]) -> RunTable:
    """The settled runs among ``folders``."""
    runs: list[RunFiles] = []
    skipped: list[SkippedFolder] = []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except UnreadableError as reason:
            skipped.append(SkippedFolder(folder.name, str(reason)))
    runs = _without_superseded(runs)
    choices = [{choice_column(group): option for group, option in run.choices.items()} for run in runs]
    leaves = [flat(run.config) for run in runs]
    facts = [_facts(run, chosen) for run, chosen in zip(runs, choices, strict=True)]
    methods = tuple(dict.fromkeys(name for chosen in choices for name in chosen if name not in _NO_METHOD))
    rows = []
    for fact, chosen, leaf in zip(facts, choices, leaves, strict=True):
        named = {name: option for name, option in chosen.items() if name in methods}
        rows.append({**fact, **named, **{key: leaf[key] for key in leaf if key not in fact and key not in methods}})
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=[*CORE, *(name for name in frame.columns if name not in CORE)])
    frame.attrs["skipped"] = skipped
    settings = [{**added_defaults(), **leaf, **chosen} for leaf, chosen in zip(leaves, choices, strict=True)]
    environments = [run.environment for run in runs]
    return RunTable(frame, settings, [run.path for run in runs], environments, methods, skipped)


def _without_superseded(runs: Sequence[RunFiles]) -> list[RunFiles]:
    """Without failures of a run that succeeded later, and with one, the newest, of a run that failed several times."""
    if all(run.state is State.DONE for run in runs):
        return list(runs)
    newest: dict[str, RunFiles] = {}
    for run in runs:
        key = _same_run(run)
        other = newest.get(key)
        if other is None or (run.state is State.DONE, run.updated) >= (other.state is State.DONE, other.updated):
            newest[key] = run
    return [run for run in runs if run.state is State.DONE or newest[_same_run(run)] is run]


def _same_run(run: RunFiles) -> str:
    """What two folders of one run have in common: every setting that can change its result, and where its data are."""
    data = run.config.get("data")
    root = data.get("root") if isinstance(data, Mapping) else None
    return config_hash(run.config, str(root))


def choice_column(group: str) -> str:
    """The column of a configuration group: its place in the configuration, ``loss.`` left out.

    >>> choice_column("loss/classification@rpn.loss.classification"), choice_column("sampler")
    ('rpn.classification', 'sampler')
    """
    place = group.partition("@")[2] or group.replace("/", ".")
    return re.sub(r"(^|\.)loss\.", r"\1", place)


def node_of(column: str) -> str:
    """The configuration node that a choice's column stands for.

    >>> node_of("classification"), node_of("rpn.regression"), node_of("regression.base"), node_of("detector.regression")
    ('loss.classification', 'rpn.loss.regression', 'loss.regression.base', 'detector.regression')
    """
    parts = column.split(".")
    for place, part in enumerate(parts):
        if part in ("classification", "regression") and parts[0] != "detector" and "loss" not in parts[:place]:
            return ".".join([*parts[:place], "loss", *parts[place:]])
    return column


def flat(config: Mapping[str, Any], prefix: str = "") -> Settings:
    """Dotted key -> value; lists as JSON text, so that every value is hashable."""
    out: Settings = {}
    for key, value in config.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping):
            out |= flat(value, f"{dotted}.")
        else:
            out[dotted] = json.dumps(value) if isinstance(value, list) else value
    return out


def _facts(run: RunFiles, choices: Mapping[str, str]) -> dict[str, Any]:
    result = run.result or {}
    data = _section(result, "data")
    settings = _section(run.config, "run")
    return {
        "run": run.path.name,
        "state": str(run.state),
        "reason": run.reason,
        "data": choices.get("data", data.get("name", "")),
        "detector": choices.get("detector", ""),
        "seed": run.config["seed"],
        "fingerprint": None if data.get("fingerprint") is None else str(data["fingerprint"]),
        "iterations": settings.get("iterations"),
        "updated": run.updated,
        **_metrics(_section(result, "metrics")),
        **{key: value for key, value in _section(result, "cost").items() if _number(value)},
        **({"parameters": result["parameters"]} if _number(result.get("parameters")) else {}),
        **{
            f"sampling.{place.replace('/', '.')}.{quantity}": value
            for place, values in _section(result, "sampling").items()
            if isinstance(values, Mapping)
            for quantity, value in values.items()
            if _number(value)
        },
    }


def _metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Every number of the evaluation; a value that does not exist (None) is NaN."""
    out = {
        key: _value_or_nan(value)
        for key, value in metrics.items()
        if (value is None and key.startswith(("map", "ar_"))) or _number(value)
    }
    for branch in BRANCHES:
        own = _section(metrics, branch)
        out |= {f"{branch}.{key}": _value_or_nan(own[key]) for key in BRANCH_SCALARS if key in own}
        out |= {f"{branch}.ap.{name}": _value_or_nan(ap) for name, ap in _section(own, "per_class").items()}
    out |= {key: _value_or_nan(value) for key, value in _section(metrics, "frequencies").items()}
    tide, calibration = _section(metrics, "tide"), _section(metrics, "calibration")
    out |= {f"tide.{kind}": float(v) for kind, v in _section(tide, "delta_ap").items() if _number(v)}
    if _number(calibration.get("d_ece")):
        out["d_ece"] = float(calibration["d_ece"])
    rows = metrics.get("per_class")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, Mapping) and "category" in row:
            out[f"ap.{row['category']}"] = _value_or_nan(row.get("ap"))
    return out


def _value_or_nan(value: Any) -> float:
    return float(value) if _number(value) else math.nan


def _section(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, Mapping) else {}


def _number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
