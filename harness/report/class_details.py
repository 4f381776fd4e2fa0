"""AP by class, as a figure and as tables, of masks and keypoints as well."""

from __future__ import annotations

from functools import partial

import numpy as np

from harness.report.comparison import Section
from harness.report.evidence import Evidence
from harness.report.figures.errors import class_figure
from harness.report.frame import RunTable
from harness.report.parts import Figure, Fold, Heading, Part, Text
from harness.report.tables import class_table

MOST_CLASSES = 24  # drawn; the table has all


def class_details(table: RunTable, section: Section, evidence: Evidence, number: int) -> list[Part]:
    """The figure where there are few classes, and folded tables; empty where no class is known."""
    numbers = class_table(table, section.rows)
    if numbers is None:
        return []
    names = [str(column) for column in table.frame.columns if str(column).startswith("ap.")]
    values = np.array(
        [[float(table.frame[name].iloc[row.method.done].mean()) for name in names] for row in evidence.rows]
    )
    known = np.flatnonzero(np.isfinite(values).any(0))
    parts: list[Part] = [Heading("Classes", 3), Text(["Means over seeds."], "caption")]
    if len(known) <= MOST_CLASSES:
        classes = [names[k].removeprefix("ap.") for k in known]
        draw = partial(class_figure, classes, values[:, known].tolist(), evidence.drawn)
        parts.append(Figure(f"{number}/classes", "AP by class", draw, methods=evidence.toggles, wide=True))
    parts.append(Fold("AP by class, in numbers", [numbers]))
    for branch, what in (("segm", "Mask"), ("keypoints", "Keypoint")):
        if (own := class_table(table, section.rows, f"{branch}.ap.")) is not None:
            parts.append(Fold(f"{what} AP by class, in numbers", [own]))
    return parts
