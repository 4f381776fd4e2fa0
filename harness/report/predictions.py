"""The predictions of single runs and the objects they are held against, read back from ``detections.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.evaluation.coco_format import CocoTables, read_tables
from harness.evaluation.confusion import Detected, best_f1_score, detected
from harness.report.comparison import Row, Section
from harness.report.frame import RunTable
from harness.report.reading import UnreadableError, read_json, read_json_object


@dataclass(frozen=True)
class Predictions:
    """One run of a method at the score where its F1 is highest."""

    label: str
    method: int  # the method's place among the rows of its section
    run: int  # row of the table
    score: float  # detections from here on are counted; NaN where no detection is right
    detections: Sequence[Mapping[str, Any]]
    tables: CocoTables
    found: Detected


@dataclass(frozen=True)
class Pair:
    """The baseline and the best other method with one seed, or one method alone."""

    seed: int | str
    annotations: Mapping[str, Any]
    classes: tuple[str, ...]
    runs: tuple[Predictions, ...]


def read_pair(table: RunTable, section: Section) -> Pair:
    """Reads the predictions of two methods of a section that have a seed in common.

    Raises:
        UnreadableError: files are missing or damaged, in one line.
    """
    rows, seed = _chosen(section)
    first = section.context.done[0]
    fingerprint = str(table.frame["fingerprint"][first])
    max_dets = int(table.settings[first].get("evaluator.max_dets") or 100)
    annotations = read_json_object(table.paths[first].parent.parent / "annotations", f"{fingerprint}.json")
    runs = tuple(_predictions(table, section, row, seed, annotations, max_dets) for row in rows)
    return Pair(seed, annotations, runs[0].tables.category_names, runs)


def _chosen(section: Section) -> tuple[list[Row], int | str]:
    """The best compared method and its baseline with their first shared seed; else the first method that has a run."""
    for row, one in section.compared:
        return [section.row(one.baseline), row], one.seeds[0]
    scored = [row for row in section.rows if row.scores]
    if not scored:
        raise UnreadableError("no run has a value of the metric")
    return scored[:1], next(iter(scored[0].scores))


def _predictions(
    table: RunTable, section: Section, row: Row, seed: int | str, annotations: Mapping[str, Any], max_dets: int
) -> Predictions:
    run = next(run for run in row.method.done if str(table.settings[run]["seed"]) == str(seed))
    folder = table.paths[run]
    detections = read_json(folder, "detections.json")
    try:
        tables = read_tables(annotations, detections)
        score = best_f1_score(tables, max_dets=max_dets)
        found = detected(tables, score if score == score else 2.0, max_dets=max_dets)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UnreadableError(f"{folder.name}: detections.json: {' '.join(str(error).split())[:160]}") from None
    return Predictions(row.label, section.rows.index(row), run, score, detections, tables, found)
