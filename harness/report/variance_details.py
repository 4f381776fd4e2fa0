"""The parts of a method's variance as a table and in sentences, and what would narrow its interval more."""

from __future__ import annotations

import math

from harness.report.parts import Cell, Column, Heading, Part, Table, Text
from harness.report.variance import Paired, Split, Variance
from harness.report.words import counted
from harness.statistics.variance_split import SEEDS

_NOTE = (
    "The verdicts above are about new seeds on these same images. Here the images vary, too: by a bootstrap over them, "
    "the same resamples for all seeds, and an analysis of variance. Interplay is the noise of the images that differs "
    "between seeds, so that more of either lessens it. From fewer than ten seeds the parts are rough."
)
_HELP = {
    "sd": "of one run's mAP, over new seeds and new sets of so many images",
    "seed": "share of the variance that no number of images removes",
    "images": "share that all seeds have in common on one set of images",
    "interplay": "share that comes from so few images, but differs between seeds",
    "error": "standard error of the mean over these seeds, for new seeds and new images",
    "error, 2 × seeds": "the same with twice the seeds",
    "error, 2 × images": "the same with twice the images",
}


def variance_details(found: Variance) -> list[Part]:
    """Empty where nothing could be split and there is nothing to say of it."""
    splits = [*found.methods, *found.differences]
    if not splits:
        return [Text(found.notes)] if found.notes else []
    columns = [Column("what"), Column("seeds", "right"), Column("images", "right")]
    heads = [
        Column(f"{head} %" if head in ("seed", "interplay") else head, "right", help=told)
        for head, told in _HELP.items()
    ]
    heads[2] = Column("image set %", "right", help=_HELP["images"])
    last = Column("helps more", help="more seeds or more images: which of the two narrows the interval more")
    table = Table([*columns, *heads, last], list(map(_row, splits)))
    lines = [*map(_purchase, found.differences or found.methods), *map(_pairing, found.pairings), *found.notes]
    return [Heading("Where the noise comes from", 3), Text([_NOTE], "caption"), table, Text(lines)]


def _row(split: Split) -> list[Cell]:
    parts = split.parts
    total = parts.seed + parts.images + parts.both
    shares = [part / total if total > 0 else math.nan for part in (parts.seed, parts.images, parts.both)]
    errors = [parts.standard_error, *_errors(split)]
    return [
        Cell(split.label),
        Cell(str(parts.seeds), parts.seeds),
        Cell(f"{parts.num_images:,}", parts.num_images),
        _sd(math.sqrt(total)),
        *(Cell("—") if math.isnan(share) else Cell(f"{100 * share:.0f}", share) for share in shares),
        *map(_sd, errors),
        Cell(parts.better_purchase),
    ]


def _errors(split: Split) -> tuple[float, float]:
    """Standard errors with twice the seeds, and with twice the images."""
    parts = split.parts
    return (
        parts.standard_error_with(2 * parts.seeds, parts.num_images),
        parts.standard_error_with(parts.seeds, 2 * parts.num_images),
    )


def _sd(value: float) -> Cell:
    return Cell(f"{value:.4f}", value)


def _purchase(split: Split) -> str:
    parts = split.parts
    more_seeds, more_images = _errors(split)
    better = "seeds" if parts.better_purchase == SEEDS else "validation images"
    return (
        f"{split.label}: the mean of {counted(parts.seeds, 'seed')} on {counted(parts.num_images, 'image')} has a "
        f"standard error of {parts.standard_error:.4f}. Twice the seeds make it {more_seeds:.4f}, twice the images "
        f"{more_images:.4f}: more {better} narrow the interval more."
    )


def _pairing(one: Paired) -> str:
    value = one.value
    told = (
        f"{one.label} and {one.baseline}: differences of the same seed have sd {value.paired_sd:.4f}, those of "
        f"unrelated seeds {value.unpaired_sd:.4f}"
    )
    if math.isinf(value.seeds_saved):
        return f"{told}."
    times = f"{value.seeds_saved:.2g} times as many seeds"
    if value.seeds_saved >= 1:
        return f"{told}: without pairing, the same standard error would take {times}."
    return f"{told}: pairing does not help here; without it, {times} would do."
