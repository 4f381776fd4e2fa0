"""From parsed files to the two data sets of a run."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from harness.core import limits
from harness.data.augment.protocol import Augment
from harness.data.checked import decode_kept
from harness.data.checks import OnBad, apply_policy
from harness.data.dataset import BOXES, KEYPOINTS, MASKS, Annotations, DetectionDataset
from harness.data.images import BadImage
from harness.data.options import Loading
from harness.data.prepared import Identity, checked_once
from harness.data.records import AnnotationProblem, DataError, ParsedData

_log = logging.getLogger(__name__)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Splits:
    """The data of a run."""

    train: DetectionDataset
    val: DetectionDataset
    classes: tuple[str, ...]
    fingerprint: str  # of classes, annotations, split and image files; paths do not enter
    problems: tuple[AnnotationProblem, ...] = field(repr=False)  # with the policy "drop": what was left out or cut
    augment: Augment | None = None  # of training images only; None leaves them as they are
    notes: tuple[str, ...] = ()  # what was found or assumed, one line each
    on_bad: OnBad = "error"

    def yielding(self, parts: Collection[str], num_keypoints: int | None = None) -> Splits:
        """The same data whose targets hold ``parts`` (masks, keypoints) as well; with the policy ``drop``, objects
        without a mask are left out.

        Args:
            parts: what the detector trains on.
            num_keypoints: of an object, as the detector has them.

        Raises:
            DataError: the annotations have none of a part, or another number of keypoints, or some objects lack a mask
                and none was to be left out.
        """
        wanted = set(parts) - {BOXES}
        if not wanted:
            return self
        train, val = (
            split.with_parts(_complete(split.annotations, wanted, name, drop=self.on_bad == "drop"), wanted)
            for name, split in (("training", self.train), ("validation", self.val))
        )
        points = train.annotations.keypoints
        there = None if points is None or num_keypoints is None else points.shape[1]
        if KEYPOINTS in wanted and there != num_keypoints:
            raise DataError(f"detector.num_keypoints={num_keypoints} must be {there}, the keypoints of the data")
        return replace(self, train=train, val=val)


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


def build_splits(identity: Identity, read: Callable[[], ParsedData], loading: Loading) -> Splits:
    """Check both splits, once for all jobs, apply the policy, and build their data sets.

    Args:
        identity: what the data depend on, apart from the image files.
        read: parses the annotation files.
        loading: the settings.

    Raises:
        DataError: problems under the policy ``error``, no classes, a split without images, or an image that passed
            an earlier check, or none, and cannot be decoded now.
    """
    data = checked_once(identity, read, loading)
    apply_policy(data.problems, loading.on_bad)
    for note in data.notes:
        _log.warning("data: %s", note)
    try:
        kept = decode_kept(data, loading)
    except BadImage as error:
        raise DataError(str(error)) from error
    train, val = data.datasets(loading.orientation, kept)
    return Splits(
        train, val, data.classes, data.fingerprint, data.problems, loading.augment, data.notes, loading.on_bad
    )


def _complete(annotations: Annotations, wanted: Collection[str], name: str, *, drop: bool) -> Annotations:
    """The annotations, if every object that counts has the wanted parts."""
    if KEYPOINTS in wanted and annotations.keypoints is None:
        raise DataError(f"the {name} images have no keypoints, which the detector needs; valid: a data set with them")
    if MASKS not in wanted:
        return annotations
    if annotations.outlines is None:
        raise DataError(f"the {name} images have no masks, which the detector needs; valid: a data set with them")
    lacking = ~annotations.outlines.present & ~annotations.ignore
    if not lacking.any():
        return annotations
    count = f"{int(lacking.sum())} of {len(lacking)} objects of the {name} images have no mask"
    if not drop:
        raise DataError(f"{count}, which the detector needs; data.on_bad=drop leaves them out")
    _log.warning("data: %s and are left out", count)
    return annotations.without(lacking)
