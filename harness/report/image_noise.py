"""Where there is but one pair of runs: how much of their difference is the luck of the test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.evaluation.match_table import MatchTable
from harness.report.comparison import Section
from harness.report.frame import RunTable
from harness.report.reading import UnreadableError, read_json_object
from harness.runs.folder import RunFolder
from harness.statistics import ImageBootstrap, paired_image_bootstrap

LABEL = "noise of the test set, not of training"
MOST_PAIRS = 8  # each costs about a second


@dataclass(frozen=True)
class ImageNoise:
    """What the bootstrap over images says of each single pair, or why it says nothing."""

    found: dict[str, ImageBootstrap]  # by method
    notes: tuple[str, ...]


def image_noise(table: RunTable, section: Section) -> ImageNoise:
    """The paired bootstrap of mAP for the section's comparisons with exactly one pair of runs.

    The annotations are read from ``annotations/<fingerprint>.json`` beside ``runs/``; without them there is a note.
    """
    single = [row for row in section.rows if row.comparison is not None and row.comparison.n == 1]
    if not single or section.metric.column != "map":
        return ImageNoise({}, ())
    notes = []
    if len(single) > MOST_PAIRS:
        notes.append(f"The bootstrap over test images was made for {MOST_PAIRS} of {len(single)} single pairs.")
    found = {}
    for row in single[:MOST_PAIRS]:
        one = row.comparison
        assert one is not None
        ours = runs_with_seed(table, row.method.done, one.seeds[0])
        theirs = runs_with_seed(table, section.row(one.baseline).method.done, one.seeds[0])
        if len(ours) > 1 or len(theirs) > 1:
            notes.append(f"No bootstrap over the test images for {row.label}: several runs have seed {one.seeds[0]}.")
            continue
        try:
            candidate, baseline = (match_table(table, run) for run in (ours[0], theirs[0]))
            found[row.label] = paired_image_bootstrap(candidate, baseline)
        except UnreadableError as why:
            notes.append(f"No bootstrap over the test images for {row.label}: {why}.")
        except (ValueError, TypeError, OverflowError) as error:
            notes.append(f"No bootstrap over the test images for {row.label}: {' '.join(str(error).split())}")
    return ImageNoise(found, tuple(notes))


def runs_with_seed(table: RunTable, rows: Sequence[int], seed: int | str) -> list[int]:
    """The rows of the table, among ``rows``, whose run had this seed."""
    return [row for row in rows if str(table.settings[row]["seed"]) == str(seed)]


def match_table(table: RunTable, row: int) -> MatchTable:
    """The matches of a run's predictions, for mAP on resampled images.

    Raises:
        UnreadableError: the predictions or the annotations are missing or damaged.
        ValueError: they do not fit each other.
    """
    run, max_dets = table.paths[row], int(table.settings[row].get("evaluator.max_dets") or 100)
    annotations = _annotations(run.parent.parent / "annotations", f"{table.frame['fingerprint'][row]}.json")
    return MatchTable.from_coco(annotations, _detections(run), max_dets)


@lru_cache(maxsize=4)
def _annotations(folder: Path, name: str) -> dict[str, Any]:
    return read_json_object(folder, name)


def _detections(run: Path) -> list[dict[str, Any]]:
    try:
        return RunFolder(run).detections()
    except FileNotFoundError as error:
        raise UnreadableError(f"incomplete: no {Path(error.filename).name}") from None
    except (OSError, ValueError):
        raise UnreadableError("corrupt: detections.json is not what the run wrote") from None
