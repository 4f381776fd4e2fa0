"""``python -m harness.report [results]``: the table here, the page and the frames in ``<results>/report/``."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

from harness.report.build import Options, build_report
from harness.report.files import write_report
from harness.report.folders import ReportError, find_folders
from harness.report.summary import text_of
from harness.statistics.verdicts import MARGIN, TESTS


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on what cannot be."""
    asked = _parser().parse_args(arguments)
    results = Path(asked.results)
    group_by = None if asked.group_by is None else tuple(filter(None, asked.group_by.split(",")))
    options = Options(asked.baseline, group_by, asked.metric, asked.test, asked.margin)
    try:
        report = build_report(find_folders(results), options)
        written = write_report(report, _place(results) if asked.out is None else Path(asked.out), asked.latex)
    except ReportError as error:
        print(f"harness.report: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"harness.report: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    runs, out = len(report.table.frame), len(report.table.left_out)
    try:
        print(text_of(report))
        print(f"\n{runs} run{'s' * (runs != 1)}, {out} folder{'s' * (out != 1)} left out: {written[0]}", flush=True)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _place(results: Path) -> Path:
    """Beside ``runs/``, also where that folder itself or one run was named."""
    if (results / "status.json").exists() or (results / "config.yaml").exists():
        results = results.parent
    return (results.parent if results.name == "runs" else results) / "report"


def _margin(text: str) -> float:
    """A finite number of at least 0; argparse turns the error into one line."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number of at least 0, got {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.report", description=__doc__)
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
        help="what the verdicts rest on: anytime (seeds may be added and looked at again), t or sign_flip (valid for "
        "one look at a number of seeds that was fixed beforehand) (default: anytime)",
    )
    parser.add_argument(
        "--margin",
        type=_margin,
        default=MARGIN,
        help=f"the smallest difference of the metric that is worth having (default: {MARGIN:g})",
    )
    parser.add_argument("--latex", action="store_true", help="write report.tex, too")
    parser.add_argument("--out", metavar="DIR", help="where to write (default: <results>/report)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
