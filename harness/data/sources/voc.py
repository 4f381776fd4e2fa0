"""PASCAL VOC folders: Annotations/*.xml, JPEGImages/, ImageSets/Main/*.txt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.data.augment.protocol import Augment
from harness.data.checks import OnBad
from harness.data.folders import files_below
from harness.data.images import Orientation
from harness.data.options import Loading
from harness.data.prepared import Identity
from harness.data.probing import Check
from harness.data.records import AnnotationProblem, DataError, ImageRecord, Parsed, ParsedData
from harness.data.sources import found_by
from harness.data.sources.voc_layout import (
    IMAGE_SUFFIXES,
    annotation_files,
    listed_name,
    split_list,
    split_lists,
    stem_of,
    suffix_of,
)
from harness.data.sources.voc_xml import Unusable, read_voc_xml
from harness.data.splits import Splits, build_splits, split_by_ratio
from harness.data.values import BadValue, class_names, text_of


def _look(
    root: str, train_split: str | None = "train", val_split: str | None = "val", val_ratio: float | None = None
) -> None:
    folder = Path(root).expanduser()
    _check_folders(folder)
    for split in (train_split, val_split if val_ratio is None else None):
        if split is not None:
            _list_of(folder, split)


@found_by(_look)
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
    check: Check = "full",
    orientation: Orientation = "stored",
    cache_bytes: int = 512 * 2**20,
    cache_dir: str | None = None,
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
        classes: names in the order of their labels, objects of others are left out; ``None`` takes all, sorted.
        one_based: coordinates count pixels from 1 and include the last one, as VOC's do: (xmin - 1, ymin - 1, xmax,
            ymax).
        ignore_difficult: objects flagged difficult are treated as crowd regions; else they are ordinary objects.
        on_bad: ``error`` refuses a data set with problems, ``drop`` goes on without the bad objects and images.
        check: ``full``, ``headers`` or ``none``, see :func:`harness.data.probing.probe`.
        orientation: ``stored`` or ``exif``, see :class:`harness.data.options.Loading`.
        cache_bytes: bound of the decoded images kept in memory.
        cache_dir: folder for prepared annotations, see :func:`harness.data.options.cache_folder`.
        augment: of the training images.

    Raises:
        ValueError: a value out of its range.
        DataError: what is missing, empty, or, under the policy ``error``, wrong.
    """
    loading = Loading(on_bad, check, orientation, cache_bytes, cache_dir, augment)
    chosen = class_names(classes)
    folder = _Folder(Path(root).expanduser(), one_based, ignore_difficult)
    if val_ratio is not None:
        names = folder.annotated() if train_split is None else folder.listed(train_split)
        train_names, val_names = split_by_ratio(names, val_ratio, split_seed)
        val_split = f"{val_ratio:g} of {train_split or 'all annotations'}"
    elif train_split is None or val_split is None:
        raise DataError("train_split and val_split: both are needed where val_ratio is not given")
    else:
        train_names, val_names = folder.listed(train_split), folder.listed(val_split)
    train_split = train_split or "all annotations"

    def read() -> ParsedData:
        train, val = folder.parse(train_split, train_names), folder.parse(val_split, val_names)
        found = Counter(entry.name for part in (train, val) for image in part.images for entry in image.objects)
        if chosen is not None and found and not any(name in found for name in chosen):
            raise DataError(f"classes: no object of {', '.join(chosen)}; valid: {', '.join(sorted(found))}")
        return ParsedData(train, val, tuple(sorted(found) if chosen is None else chosen))

    settings = [train_split, train_names, val_split, val_names, chosen, one_based, ignore_difficult, folder.image_names]
    files = tuple(folder.annotation(name) for name in [*train_names, *val_names])
    identity = Identity("voc", folder.root, files, {"voc": settings}, num_images=len(files))
    return build_splits(identity, read, loading)


def _check_folders(root: Path) -> None:
    for needed in (root, root / "Annotations", root / "JPEGImages"):
        if not needed.is_dir():
            raise DataError(f"root: {needed} is not a folder; valid: one with Annotations/ and JPEGImages/")


def _list_of(root: Path, split: str) -> Path:
    """ImageSets/Main/<split>.txt, which must be there."""
    path = split_list(root, split)
    if path is None:
        found = ", ".join(split_lists(root))
        valid = found or "there is no list; data.train_split=null data.val_ratio=0.2 splits all annotations"
        raise DataError(f"split {split!r} is not in {root / 'ImageSets' / 'Main'}; valid: {valid}")
    return path


class _Folder:
    def __init__(self, root: Path, one_based: bool, ignore_difficult: bool) -> None:
        _check_folders(root)
        self.root, self.one_based, self.ignore_difficult = root, one_based, ignore_difficult
        files = files_below(str(root / "JPEGImages"))
        # Of several images with one stem, the first suffix in IMAGE_SUFFIXES wins: VOC's own come first.
        ranked = [(IMAGE_SUFFIXES.index(suffix), f) for f in files if (suffix := suffix_of(f)) in IMAGE_SUFFIXES]
        self.images = {stem_of(file): file for _, file in sorted(ranked, reverse=True)}
        self.image_names = files
        self.annotations = annotation_files(root)

    def annotation(self, name: str) -> Path:
        """The annotation file of an image."""
        return self.root / "Annotations" / self.annotation_name(name)

    def annotation_name(self, name: str) -> str:
        """The same below Annotations/."""
        return self.annotations.get(name, f"{name}.xml")

    def annotated(self) -> list[str]:
        """Stems of all annotation files, sorted."""
        if not self.annotations:
            raise DataError(f"root: {self.root / 'Annotations'} holds no .xml file")
        return list(self.annotations)

    def listed(self, split: str) -> list[str]:
        """Stems listed in ImageSets/Main/<split>.txt."""
        path = _list_of(self.root, split)
        try:
            lines = text_of(path.read_bytes()).splitlines()
        except BadValue as error:
            raise DataError(f"split {split!r}: {path} {error}") from None
        known = {*self.annotations, *self.images}
        names = [listed_name(line.strip(), known) for line in lines if line.strip()]
        if not names:
            raise DataError(f"split {split!r} is empty: {path}")
        return names

    def parse(self, split: str, names: Sequence[str]) -> Parsed:
        """Read the annotations of a split; what cannot be read becomes a problem."""
        images: list[ImageRecord] = []
        problems: list[AnnotationProblem] = []
        for position, name in enumerate(names):
            file = self.images.get(name, f"{name}.jpg")
            try:
                found = read_voc_xml(
                    self.annotation(name), one_based=self.one_based, ignore_difficult=self.ignore_difficult
                )
            except Unusable as error:
                problems.append(AnnotationProblem(self.annotation_name(name), None, str(error)))
                continue
            path = self.root / "JPEGImages" / file
            written = self.annotation_name(name)
            images.append(ImageRecord(position, name, file, path, written, found.width, found.height, found.objects))
            problems += found.problems
        return Parsed(f"split {split!r}", tuple(images), tuple(problems))
