"""``python -m harness.report [results]``: the table here, the page and the frames in ``<results>/report/``."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.core.output import make_output_safe
from harness.report.build import build_report
from harness.report.document import document_of
from harness.report.evidence import PICTURES, gather
from harness.report.files import write_report
from harness.report.folders import ReportError, find_folders
from harness.report.rules import Options
from harness.report.sweeps import GOALS
from harness.report.views.terminal import render_terminal
from harness.report.words import counted
from harness.statistics.verdicts import ALPHA, MARGIN, TESTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 2 with one line on what cannot be; 1 where the table could not be printed."""
    make_output_safe()
    asked = _parser().parse_args(arguments)
    results = Path(asked.results).expanduser()
    group_by = None if asked.group_by is None else tuple(filter(None, asked.group_by.split(",")))
    options = Options(asked.baseline, group_by, asked.metric, asked.test, asked.margin, asked.alpha, asked.goal)
    place = _place(results) if asked.out is None else Path(asked.out).expanduser()
    try:
        report = build_report(find_folders(results), options)
        printed = _print(render_terminal(document_of(report)))
        parts = document_of(report, gather(report, asked.pictures))
        written = write_report(report, parts, place, asked.latex)
    except ReportError as error:
        print(f"harness.report: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        unwritten = str(error.filename).startswith(str(place)) and asked.out is None
        elsewhere = "; --out DIR writes the report somewhere else" if unwritten else ""
        print(f"harness.report: {error.filename}: {error.strerror}{elsewhere}", file=sys.stderr)
        return 2
    runs, out = len(report.table.frame), len(report.table.skipped)
    skipped = f", {counted(out, 'folder')} left out" if out else ""
    printed = _print(f"\n{counted(runs, 'run')}{skipped}. Open {written[0]} in a browser.") and printed
    return 0 if printed else 1


def _print(text: str) -> bool:
    """Prints and flushes; whether that worked."""
    try:
        print(text, flush=True)
    except OSError as error:
        # What is left in the buffer would raise again, with a traceback, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"harness.report: the table cannot be printed: {error.strerror}", file=sys.stderr)
        return False
    return True


def _place(results: Path) -> Path:
    """Beside ``runs/``, also where that folder itself or one run was named."""
    if any(os.path.exists(results / name) for name in ("status.json", "config.yaml")):
        results = results.parent
    return (results.parent if results.name == "runs" else results) / "report"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.report", description="Compares the runs below a folder.")
    parser.add_argument("results", nargs="?", default="results", help="the folder that holds runs/ (default: results)")
    parser.add_argument(
        "--baseline",
        metavar="SETTING=VALUE[,...]",
        help="the method that all others are compared with (default: sampler=random, else the one with most runs)",
    )
    parser.add_argument(
        "--group-by",
        metavar="SETTING[,...]",
        help="what makes a method, e.g. sampler,loss (default: every setting in which the runs differ, but the seed)",
    )
    parser.add_argument("--metric", default="map", help="map, map50, ar_100, d_ece, ap.<class>, ... (default: map)")
    parser.add_argument(
        "--test",
        choices=TESTS,
        default="anytime",
        help="what the verdicts rest on; anytime: valid after every seed; t and sign_flip: valid for one look at a "
        "number of seeds that was fixed beforehand (default: anytime)",
    )
    parser.add_argument(
        "--margin",
        type=_margin,
        help="the smallest difference worth having: methods within it are the same (default: that of the sweep that "
        f"made the runs, else {MARGIN:g})",
    )
    parser.add_argument(
        "--alpha",
        type=_alpha,
        help="accepted probability of any false verdict, over all methods and looks (default: that of the sweep that "
        f"made the runs, else {ALPHA:g})",
    )
    parser.add_argument(
        "--goal",
        choices=GOALS,
        help="baseline: every method against a baseline; best: all against each other, which is best (default: that of "
        "the sweep that made the runs, else baseline)",
    )
    parser.add_argument(
        "--pictures",
        type=_pictures,
        default=PICTURES,
        metavar="N",
        help=f"images on which two methods differ most, read from the data; 0: no pictures (default: {PICTURES})",
    )
    parser.add_argument("--latex", action="store_true", help="write report.tex, too")
    parser.add_argument("--out", metavar="DIR", help="where to write (default: <results>/report)")
    return parser


def _margin(text: str) -> float:
    value = _number(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not valid: a number of 0 or more")
    return value


def _alpha(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not valid: a number above 0 and below 1")
    return value


def _pictures(text: str) -> int:
    value = _number(text)
    if not (value.is_integer() and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not valid: a whole number of 0 or more")
    return int(value)


def _number(text: str) -> float:
    """NaN for what is no number, which every range refuses."""
    try:
        return float(text)
    except ValueError:
        return math.nan
