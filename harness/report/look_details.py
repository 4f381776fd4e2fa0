"""Confusion matrices and galleries of pictures."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from harness.report.evidence import Evidence
from harness.report.figures.errors import confusion_figure
from harness.report.parts import Figure, Heading, Part, Text
from harness.report.words import listed


def look_details(evidence: Evidence, number: int) -> list[Part]:
    """What two methods confuse and where they differ; empty where predictions were not asked for."""
    look = evidence.look
    if look is None:
        return []
    parts: list[Part] = []
    if look.pair is not None:
        pair = look.pair
        scores = listed([f"{one.score:.2f} for {one.label}" for one in pair.runs])
        told = (
            f"Matrices: detections of seed {pair.seed} from the score on at which F1 is highest ({scores}), matched at "
            "IoU 0.5. Colors are shares of a row."
        )
        parts.append(Text([told], "caption"))
        parts += [
            Figure(
                f"{number}/confusion/{one.label}",
                f"Confusion matrix: {one.label}",
                partial(confusion_figure, f"Confusion matrix: {one.label}", one.found.matrix(), pair.classes),
            )
            for one in pair.runs
        ]
        parts += [replace(gallery, key=f"{number}/{gallery.key}") for gallery in look.galleries]
    if look.notes:
        parts.append(Text(look.notes))
    return [Heading("What is confused, and where methods differ", 3), *parts] if parts else []
