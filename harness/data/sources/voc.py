"""PASCAL VOC folders: Annotations/*.xml, JPEGImages/, ImageSets/Main/*.txt."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from harness.data.augment.protocol import Augment
from harness.data.checks import OnBad
from harness.data.records import AnnotationProblem, Box, DataError, ImageRecord, ObjectRecord, Parsed
from harness.data.splits import Splits, build_splits, split_by_ratio

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def voc(
    root: str,
    train_split: str | None = "train",
    val_split: str | None = "val",
    val_ratio: float | None = None,
    split_seed: int = 0,
    classes: Sequence[str] | None = None,
    one_based: bool = True,
    ignore_difficult: bool = True,
    on_bad: OnBad = "error",
    cache_bytes: int = 512 * 2**20,
    augment: Augment | None = None,
) -> Splits:
    """A data set in the layout of PASCAL VOC (Everingham et al., IJCV 2010).

    Args:
        root: folder with Annotations/ and JPEGImages/; an image is the file of the annotation's stem, whatever the case
            of its suffix.
        train_split: name of a list in ImageSets/Main; with ``val_ratio`` also ``None``, all annotations.
        val_split: name of another one.
        val_ratio: above 0 and below 1: ``val_split`` is not read; that share of the training images is held out.
        split_seed: with which they are drawn.
        classes: names in the order of their labels; ``None`` takes those found in both splits, sorted.
        one_based: coordinates count pixels from 1 and include the last one, as VOC's do: (xmin - 1, ymin - 1, xmax,
            ymax).
        ignore_difficult: objects flagged difficult are treated as crowd regions; else they are ordinary objects.
        on_bad: ``error`` refuses a data set with problems, ``drop`` goes on without the bad objects and images.
        cache_bytes: bound of the decoded images kept in memory.
        augment: of the training images.

    Raises:
        ValueError: a value out of its range.
        DataError: what is missing, empty, or, under the policy ``error``, wrong.
    """
    folder = _Folder(Path(root).expanduser(), one_based, ignore_difficult)
    if val_ratio is not None:
        names = folder.annotated() if train_split is None else folder.listed(train_split)
        train_names, val_names = split_by_ratio(names, val_ratio, split_seed)
        val_split = f"{val_ratio:g} of {train_split or 'all annotations'}"
    elif train_split is None or val_split is None:
        raise DataError("train_split and val_split: both are needed where val_ratio is not given")
    else:
        train_names, val_names = folder.listed(train_split), folder.listed(val_split)
    train, val = folder.parse(train_split or "all annotations", train_names), folder.parse(val_split, val_names)
    if classes is None:
        classes = sorted({entry.name for part in (train, val) for image in part.images for entry in image.objects})
    return build_splits(
        train, val, [str(name) for name in classes], on_bad=on_bad, cache_bytes=cache_bytes, augment=augment
    )


class _Unusable(Exception):
    """An annotation or object that cannot be read; the message says why."""


class _Folder:
    def __init__(self, root: Path, one_based: bool, ignore_difficult: bool) -> None:
        for needed in (root, root / "Annotations", root / "JPEGImages"):
            if not needed.is_dir():
                raise DataError(f"root: {needed} is not a folder; valid: one with Annotations/ and JPEGImages/")
        self.root, self.one_based, self.ignore_difficult = root, one_based, ignore_difficult
        files = sorted((root / "JPEGImages").iterdir())
        # Of several images with one stem, the first suffix in IMAGE_SUFFIXES wins: VOC's own come first.
        ranked = [(IMAGE_SUFFIXES.index(f.suffix.lower()), f) for f in files if f.suffix.lower() in IMAGE_SUFFIXES]
        self.images = {file.stem: file for _, file in sorted(ranked, reverse=True)}

    def annotated(self) -> list[str]:
        """Stems of all annotation files, sorted."""
        names = sorted(file.stem for file in (self.root / "Annotations").iterdir() if file.suffix.lower() == ".xml")
        if not names:
            raise DataError(f"root: {self.root / 'Annotations'} holds no .xml file")
        return names

    def listed(self, split: str) -> list[str]:
        """Stems listed in ImageSets/Main/<split>.txt; a second column, as in VOC's lists by class, is not read."""
        lists = self.root / "ImageSets" / "Main"
        path = lists / f"{split}.txt"
        if not path.is_file():
            found = ", ".join(sorted(file.stem for file in lists.glob("*.txt"))) or "none, use val_ratio"
            raise DataError(f"split {split!r} is not in {lists}; valid: {found}")
        names = [line.split()[0] for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        if not names:
            raise DataError(f"split {split!r} is empty: {path}")
        return names

    def parse(self, split: str, names: Sequence[str]) -> Parsed:
        """Read the annotations of a split; what cannot be read becomes a problem."""
        images: list[ImageRecord] = []
        problems: list[AnnotationProblem] = []
        for position, name in enumerate(names):
            try:
                image, found = self._image(position, name)
            except _Unusable as error:
                problems.append(AnnotationProblem(f"{name}.xml", None, str(error)))
                continue
            images.append(image)
            problems += found
        return Parsed(f"split {split!r}", tuple(images), tuple(problems))

    def _image(self, position: int, name: str) -> tuple[ImageRecord, list[AnnotationProblem]]:
        root = _read_xml(self.root / "Annotations" / f"{name}.xml")
        path = self.images.get(name, self.root / "JPEGImages" / f"{name}.jpg")
        objects: list[ObjectRecord] = []
        problems: list[AnnotationProblem] = []
        for index, node in enumerate(root.findall("object")):
            try:
                objects.append(self._object(index, node))
            except _Unusable as error:
                problems.append(AnnotationProblem(f"{name}.xml", index, str(error)))
        try:
            width, height = (int(float(root.findtext(f"size/{side}", "0"))) for side in ("width", "height"))
        except (ValueError, OverflowError):
            raise _Unusable("size is not a number") from None
        record = ImageRecord(position, name, path.name, path, f"{name}.xml", width, height, tuple(objects))
        return record, problems

    def _object(self, index: int, node: ElementTree.Element) -> ObjectRecord:
        name = (node.findtext("name") or "").strip()
        if not name:
            raise _Unusable("object has no name")
        try:
            corners = [float(node.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax")]
        except ValueError:
            raise _Unusable("bndbox lacks a number; valid: xmin, ymin, xmax, ymax") from None
        difficult = self.ignore_difficult and node.findtext("difficult", "0").strip() not in ("0", "")
        return ObjectRecord(index, self._box(*corners), tuple(corners), name, difficult=difficult)

    def _box(self, xmin: float, ymin: float, xmax: float, ymax: float) -> Box:
        if not self.one_based:
            return Box(xmin, ymin, xmax, ymax)
        # Equal corners are a click, not an object one pixel wide: they stay equal, to be found by the check.
        return Box(xmin - 1, ymin - 1, xmax if xmax > xmin else xmax - 1, ymax if ymax > ymin else ymax - 1)


def _read_xml(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise _Unusable("annotation is missing") from None
    except (ElementTree.ParseError, UnicodeDecodeError, LookupError, OSError) as error:
        raise _Unusable(f"broken XML ({error})") from None
