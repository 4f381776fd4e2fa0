"""Data whose annotations and images have been checked, in columns: what training needs, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from harness.core import limits
from harness.core.output import printable
from harness.data.checks import Checked, check_split
from harness.data.columns import columns
from harness.data.dataset import Annotations, DetectionDataset
from harness.data.fingerprint import fingerprint
from harness.data.images import BadImage, FileImages, Orientation, read_image
from harness.data.options import Loading
from harness.data.outlines import VALID_SEGMENTATION
from harness.data.probing import Probe, in_threads, probe, probe_all
from harness.data.records import AnnotationProblem, DataError, ImageRecord, Parsed, ParsedData, list_problems

# Decoded images are kept where this share of all fits into memory; fewer would cost memory and save nothing.
WORTH_KEEPING = 0.1
MAX_NAMED = 5  # classes that a line names


@dataclass(frozen=True, slots=True, eq=False)
class CheckedSplit:
    """One split: annotations, and where the images are."""

    name: str
    annotations: Annotations
    paths: tuple[str, ...]  # N
    stamps: npt.NDArray[np.int64]  # (N, 2) size and time of the last change of each image when it was checked


@dataclass(frozen=True, slots=True, eq=False)
class CheckedData:
    """Both splits and what was found."""

    train: CheckedSplit
    val: CheckedSplit
    classes: tuple[str, ...]
    category_ids: tuple[int | str, ...] | None
    keypoint_names: tuple[str, ...]
    problems: tuple[AnnotationProblem, ...]
    notes: tuple[str, ...]
    fingerprint: str
    decoded: Mapping[str, Tensor] = field(default_factory=dict)  # by path, images that the check has just decoded

    def datasets(
        self, orientation: Orientation, kept: tuple[dict[int, Tensor], dict[int, Tensor]] | None = None
    ) -> tuple[DetectionDataset, DetectionDataset]:
        """The data sets of training and validation; ``kept`` are their decoded images by position."""
        kept = ({}, {}) if kept is None else kept
        train, val = (
            DetectionDataset(
                split.annotations,
                FileImages(split.paths, decoded, orientation),
                self.classes,
                self.category_ids,
                keypoint_names=self.keypoint_names,
            )
            for split, decoded in zip((self.train, self.val), kept, strict=True)
        )
        return train, val


def check_data(parsed: ParsedData, loading: Loading) -> CheckedData:
    """Check both splits. Problems are collected, not raised.

    Raises:
        DataError: there are no classes, or a split has no image (left); the message ends with the problems met.
    """
    met = (*parsed.train.problems, *parsed.val.problems)
    if not parsed.classes:
        raise DataError(f"classes: none given and none found in the annotations{_because(met)}")
    for name in (*parsed.classes, *parsed.keypoint_names):
        _writable(name)
    for part in (parsed.train, parsed.val):
        if not part.images and not part.problems:
            raise DataError(f"{part.name}: the split is empty")
    leaks = _leaks(parsed.train, parsed.val)
    train = replace(parsed.train, images=tuple(i for i in parsed.train.images if i.path not in leaks))
    probes, decoded = _look((*train.images, *parsed.val.images), loading)
    checked = [
        check_split(train, parsed.classes, probes[: len(train.images)], loading.orientation),
        check_split(parsed.val, parsed.classes, probes[len(train.images) :], loading.orientation),
    ]
    problems = (*leaks.values(), *checked[0].problems, *checked[1].problems)
    for split in checked:
        if not split.images:
            raise DataError(f"{split.name}: no image is left{_because(problems)}")
        if split.left_out and not any(image.objects for image in split.images):
            raise DataError(
                f"{split.name}: none of its {split.left_out.total()} objects is of a class that {parsed.listed_by} "
                f"lists: they are of {_counted(split.left_out)}; the classes: "
                f"{printable(', '.join(parsed.classes[:MAX_NAMED]))}"
            )
    splits = [_in_columns(split, parsed) for split in checked]
    data = CheckedData(
        splits[0],
        splits[1],
        classes=parsed.classes,
        category_ids=parsed.category_ids,
        keypoint_names=parsed.keypoint_names,
        problems=problems,
        notes=(*parsed.notes, *_notes(checked, splits, parsed, loading.orientation)),
        fingerprint="",
        decoded=decoded,
    )
    return replace(data, fingerprint=fingerprint(data.datasets(loading.orientation)))


def decode_kept(data: CheckedData, loading: Loading) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """The decoded images that memory has room for, by position: of training first, then of validation.

    Raises:
        BadImage: one of them cannot be decoded, although it passed the check.
    """
    splits = (data.train, data.val)
    sizes = [3 * split.annotations.sizes.prod(1) for split in splits]
    room = np.cumsum(np.concatenate(sizes)) <= loading.cache_bytes
    if room.mean() < WORTH_KEEPING:
        return {}, {}
    counts = [int(room[: len(sizes[0])].sum()), int(room[len(sizes[0]) :].sum())]
    train, val = (
        dict(enumerate(_images(data, split.paths[:count], loading.orientation)))
        for split, count in zip(splits, counts, strict=True)
    )
    return train, val


def _images(data: CheckedData, paths: Sequence[str], orientation: Orientation) -> list[Tensor]:
    """The decoded images, read where the check has not done so."""
    images = FileImages(paths, orientation=orientation)

    def image(position: int) -> Tensor:
        found = data.decoded.get(paths[position])
        return images[position] if found is None else found

    return list(in_threads(image, range(len(paths)), "reading images"))


def _look(images: Sequence[ImageRecord], loading: Loading) -> tuple[list[Probe], dict[str, Tensor]]:
    """A probe of every image, and by path those that memory has room for, decoded."""
    probes = probe_all([str(image.path) for image in images], loading.check)
    for position, (image, found) in enumerate(zip(images, probes, strict=True)):
        if loading.check == "none" and not found.fault and not (image.width and image.height):
            probes[position] = probe(str(image.path), "headers")  # its size stands nowhere else
    room = loading.cache_bytes
    fitting = []
    for position, found in enumerate(probes):
        room -= 3 * found.width * found.height
        if room < 0:
            break
        if not found.fault and found.width:
            fitting.append(position)
    if len(fitting) < WORTH_KEEPING * len(probes):
        return probes, {}

    def decoded(position: int) -> Tensor | str:
        try:
            return read_image(images[position].path, loading.orientation)
        except BadImage as error:
            return str(error)

    kept: dict[str, Tensor] = {}
    for position, pixels in zip(fitting, in_threads(decoded, fitting, "reading images"), strict=True):
        if isinstance(pixels, str):
            probes[position] = replace(probes[position], fault=pixels)
        else:
            kept[str(images[position].path)] = pixels
    return probes, kept


def _in_columns(split: Checked, parsed: ParsedData) -> CheckedSplit:
    return CheckedSplit(
        name=split.name,
        annotations=columns(split.images, parsed.classes, split.probes, parsed.frequencies),
        paths=tuple(str(image.path) for image in split.images),
        stamps=np.array([found.stamp for found in split.probes], dtype=np.int64).reshape(-1, 2),
    )


def _writable(name: str) -> None:
    """Raises DataError for a class or keypoint whose name no file could hold."""
    try:
        limits.unicode_text("name", name)
    except ValueError as error:
        raise DataError(f"classes: {error}") from None


def _because(problems: Sequence[AnnotationProblem]) -> str:
    return f": {list_problems(problems)}" if problems else ""


def _counted(objects: Counter[str]) -> str:
    """``cat (3), dog (1)``, the most frequent classes first."""
    more = f" and {len(objects) - MAX_NAMED} more" if len(objects) > MAX_NAMED else ""
    return printable(", ".join(f"{name} ({count})" for name, count in objects.most_common(MAX_NAMED))) + more


def _leaks(train: Parsed, val: Parsed) -> dict[Path, AnnotationProblem]:
    """Training images that are validation images too, by path. The very same split twice is meant so: overfitting on
    purpose is a way to find bugs."""
    held_out = {image.path for image in val.images}
    shared = [image for image in train.images if image.path in held_out]
    if len(shared) == len(train.images) == len(val.images):
        return {}
    what = f"image is in {train.name} and in {val.name}"
    return {image.path: AnnotationProblem(image.file, None, what, outcome="left out of training") for image in shared}


def _notes(
    checked: Sequence[Checked], splits: Sequence[CheckedSplit], parsed: ParsedData, orientation: Orientation
) -> list[str]:
    """What a user should know and need not change, one line each."""
    notes = []
    left_out: Counter[str] = sum((split.left_out for split in checked), Counter())
    if left_out:
        said = f"left out, as {parsed.listed_by} does not list them"
        notes.append(f"{said}: {left_out.total()} objects of {_counted(left_out)}")
    for split in splits:
        counted = split.annotations.labels[~split.annotations.ignore]
        absent = [name for label, name in enumerate(parsed.classes, start=1) if not (counted == label).any()]
        if absent:
            more = f" and {len(absent) - MAX_NAMED} more" if len(absent) > MAX_NAMED else ""
            notes.append(f"{split.name}: no object of {', '.join(absent[:MAX_NAMED])}{more}")
    if bad_masks := [said for split in checked for said in split.bad_masks]:
        more = f" and {len(bad_masks) - 1} more" if len(bad_masks) > 1 else ""
        notes.append(f"mask left out, box kept: {bad_masks[0]} (valid: {VALID_SEGMENTATION}){more}")
    if rotated := sum(split.rotated for split in checked):
        other = "data.orientation=exif turns them" if orientation == "stored" else "data.orientation=stored does not"
        how = "read as stored" if orientation == "stored" else "turned"
        notes.append(f"{rotated} images carry an EXIF rotation and are {how}; {other}")
    return [printable(note) for note in notes]
