"""The data in words: its statistics as a table a split, and every problem in its annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SPREADS = {
    "objects_per_image": "objects an image",
    "box_side": "box side, px",
    "box_aspect": "width / height",
    "box_share": "share of the image",
    "image_width": "image width, px",
    "image_height": "image height, px",
}
QUANTILES = ("min", "q25", "median", "q75", "max", "mean")


def described(statistics: Mapping[str, Any]) -> Iterator[str]:
    """Lines about what ``harness.data.summary.describe`` returned."""
    for split in ("train", "val"):
        yield from _split(split, statistics[split])
        yield ""
    yield from _classes(statistics)
    yield ""
    problems = statistics["problems"]
    yield f"problems in the annotations: {len(problems) or 'none'}"
    for problem in problems:
        where = problem["file"] if problem["object"] is None else f"{problem['file']}, object {problem['object']}"
        valid = f" (valid: {problem['valid']})" if problem["valid"] else ""
        yield f"  {where}: {problem['what']}{valid}: {problem['outcome']}"


def _split(name: str, own: Mapping[str, Any]) -> Iterator[str]:
    empty, ignored = own["images_without_objects"], own["ignored"]
    yield f"{name}: {own['images']} images ({empty} without objects), {own['objects']} objects, {ignored} ignored"
    yield f"  {'':18}" + "".join(f"{quantile:>9}" for quantile in QUANTILES)
    for key, title in SPREADS.items():
        if own[key]:
            yield f"  {title:18}" + "".join(f"{own[key][quantile]:>9.4g}" for quantile in QUANTILES)


def _classes(statistics: Mapping[str, Any]) -> Iterator[str]:
    width = max(len(name) for name in statistics["classes"])
    yield f"{'objects of':{width}}     train      val"
    for name in statistics["classes"]:
        train, val = (statistics[split]["objects_per_class"][name] for split in ("train", "val"))
        yield f"{name:{width}} {train:>9} {val:>8}"
