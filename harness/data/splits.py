"""From parsed files to the two data sets of a run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from harness.core import limits
from harness.data.augment.protocol import Augment
from harness.data.checks import Checked, Memory, OnBad, apply_policy, check_split, refuse_bad_settings
from harness.data.dataset import DetectionDataset, columns
from harness.data.fingerprint import fingerprint
from harness.data.images import FileImages
from harness.data.records import AnnotationProblem, DataError, Parsed

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Splits:
    """The data of a run."""

    train: DetectionDataset
    val: DetectionDataset
    classes: tuple[str, ...]
    fingerprint: str  # of classes, annotations and split; paths do not enter
    problems: tuple[AnnotationProblem, ...] = field(repr=False)  # with the policy "drop": what was left out or cut
    augment: Augment | None = None  # of training images only; None leaves them as they are


def split_by_ratio(items: Sequence[Item], val_ratio: float, seed: int) -> tuple[list[Item], list[Item]]:
    """(train, val), each in the given order; which item goes where depends on their number, the ratio and the seed.

    Both parts get at least one item if there are two or more.

    Raises:
        ValueError: a ratio that is not above 0 and below 1.
    """
    limits.require(0 < val_ratio < 1, "val_ratio", val_ratio, "above 0 and below 1, or null")
    count = min(max(round(val_ratio * len(items)), 1), len(items) - 1)
    chosen = set(random.Random(seed).sample(range(len(items)), max(count, 0)))
    train = [item for position, item in enumerate(items) if position not in chosen]
    return train, [item for position, item in enumerate(items) if position in chosen]


def build_splits(
    train: Parsed,
    val: Parsed,
    classes: Sequence[str],
    *,
    category_ids: Sequence[int | str] | None = None,
    on_bad: OnBad,
    cache_bytes: int,
    augment: Augment | None,
) -> Splits:
    """Check both splits, apply the policy, and build their data sets.

    Args:
        train: the training split as parsed.
        val: the validation split.
        classes: names in the order of their labels.
        category_ids: the annotation file's own ids of the classes.
        on_bad: the policy.
        cache_bytes: bound of the decoded images that both splits together keep in memory.
        augment: of the training images.

    Raises:
        ValueError: no policy, or a negative size.
        DataError: problems under the policy ``error``, or a split without images.
    """
    refuse_bad_settings(on_bad, cache_bytes)
    if not classes:
        raise DataError("classes: none given and none found in the annotations")
    if twice := [name for position, name in enumerate(classes) if name in classes[:position]]:
        raise DataError(f"classes: {twice[0]!r} is listed twice; each class stands there once")
    for parsed in (train, val):
        if not parsed.images and not parsed.problems:
            raise DataError(f"{parsed.name}: the split is empty")
    leaks = _leaks(train, val)
    memory = Memory(cache_bytes)
    train = replace(train, images=tuple(i for i in train.images if i.path not in leaks))
    checked = [check_split(train, classes, memory), check_split(val, classes, memory)]
    problems = (*leaks.values(), *checked[0].problems, *checked[1].problems)
    apply_policy(problems, on_bad)
    for split in checked:
        if not split.images:
            raise DataError(f"{split.name}: no image is left: {problems[0]}")
    sets = [_dataset(split, classes, category_ids) for split in checked]
    return Splits(sets[0], sets[1], tuple(classes), fingerprint(sets), problems, augment)


def _dataset(split: Checked, classes: Sequence[str], category_ids: Sequence[int | str] | None) -> DetectionDataset:
    images = FileImages([image.path for image in split.images], split.decoded)
    return DetectionDataset(columns(split.images, classes), images, classes, category_ids)


def _leaks(train: Parsed, val: Parsed) -> dict[Path, AnnotationProblem]:
    """Training images that are validation images too, by path. The very same split twice is meant so: overfitting on
    purpose is a way to find bugs."""
    held_out = {image.path for image in val.images}
    shared = [image for image in train.images if image.path in held_out]
    if len(shared) == len(train.images) == len(val.images):
        return {}
    what = f"image is in {train.name} and in {val.name}"
    return {image.path: AnnotationProblem(image.file, None, what, outcome="left out of training") for image in shared}
