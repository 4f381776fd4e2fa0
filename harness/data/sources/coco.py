"""COCO files: one JSON of images, annotations and categories for each split, as COCO itself and annotation tools write
them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.data.augment.protocol import Augment
from harness.data.checks import OnBad
from harness.data.dataset import KEYPOINTS, MASKS
from harness.data.images import Orientation
from harness.data.options import Loading
from harness.data.prepared import Identity
from harness.data.probing import Check
from harness.data.records import DataError, Parsed, ParsedData
from harness.data.sources import found_by, yields
from harness.data.sources.coco_file import CocoFile, Id
from harness.data.sources.coco_layouts import CocoPaths, find, image_folder, json_files
from harness.data.splits import Splits, build_splits, split_by_ratio
from harness.data.values import class_names


def _look(
    root: str,
    train_annotations: str | None = None,
    train_images: str | None = None,
    val_annotations: str | None = None,
    val_images: str | None = None,
    val_ratio: float | None = None,
) -> None:
    base = folder_of_data(root)
    given = {"train": (train_annotations, train_images), "val": (val_annotations, val_images)}
    for split, (file, images) in given.items():
        if split == "train" or val_ratio is None:
            _annotation_file(base, split, file)
            if images is not None:
                check_folder(f"{split}_images", base / images)


def folder_of_data(root: str) -> Path:
    """The folder ``root``.

    Raises:
        DataError: it is not there.
    """
    base = Path(root).expanduser()
    check_folder("root", base)
    return base


def check_folder(key: str, path: Path) -> None:
    """Raises DataError for a path that is no folder."""
    if not path.is_dir():
        raise DataError(f"{key}: {path} is not a folder")


@found_by(_look)
@yields(MASKS, KEYPOINTS)
def coco(
    root: str,
    train_annotations: str | None = None,
    train_images: str | None = None,
    val_annotations: str | None = None,
    val_images: str | None = None,
    val_ratio: float | None = None,
    split_seed: int = 0,
    classes: Sequence[str] | None = None,
    allow_outside: bool = False,
    on_bad: OnBad = "error",
    check: Check = "full",
    orientation: Orientation = "stored",
    cache_bytes: int = 512 * 2**20,
    cache_dir: str | None = None,
    augment: Augment | None = None,
) -> Splits:
    """A data set in the format of COCO (Lin et al., ECCV 2014; cocodataset.org/#format-data), any ids.

    Image and category ids may be any distinct integers or strings, whole numbers in any writing; labels are 1..K and
    ``image_id`` is the file's own id if all are integers, else the position. Crowds are kept as regions to ignore,
    images without annotations as background. Targets can hold masks and keypoints where the file has them.

    Args:
        root: folder that the other paths start from.
        train_annotations: JSON file of the training split; ``None`` looks for it where COCO and the exports of
            Roboflow, CVAT, Label Studio and FiftyOne have it.
        train_images: folder that its images' ``file_name`` starts from; ``None`` looks for the images.
        val_annotations: JSON file of the validation split, or ``None``.
        val_images: folder of its images, or ``None``.
        val_ratio: above 0 and below 1: ``val_annotations`` is not read; that share of the training images is held out.
        split_seed: with which they are drawn.
        classes: names in the order of their labels, objects of others are left out; ``None`` takes all categories of
            the training file by ascending id.
        allow_outside: ``file_name`` may leave ``root``.
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
    base = folder_of_data(root)
    train = _paths(base, "train", train_annotations, train_images)
    val = None if val_ratio is not None else _paths(base, "val", val_annotations, val_images)

    def read() -> ParsedData:
        return read_coco(base, train, val, val_ratio, split_seed, chosen, allow_outside=allow_outside)

    files = [train.annotations] if val is None else [train.annotations, val.annotations]
    folders = [_below(base, paths.images) for paths in (train, val) if paths is not None]
    settings = {"coco": [folders, val_ratio, split_seed, chosen, allow_outside]}
    return build_splits(Identity("coco", base, tuple(files), settings), read, loading)


def read_coco(
    root: Path,
    train: CocoPaths,
    val: CocoPaths | None,
    val_ratio: float | None,
    split_seed: int,
    chosen: Sequence[str] | None,
    *,
    allow_outside: bool,
) -> ParsedData:
    """Both splits from two files, or from one of which a share of the images is held out.

    Raises:
        DataError: a file that cannot be used, or a chosen class that is no category.
    """
    file = CocoFile(train.annotations, train.images, root, allow_outside=allow_outside)
    parsed: tuple[Parsed, Parsed]
    if val is None:
        assert val_ratio is not None
        ids = sorted({key for key, _ in file.images}, key=lambda key: (str(type(key)), key))
        train_ids, val_ids = split_by_ratio(ids, val_ratio, split_seed)
        parsed = file.parse("train", set(train_ids)), file.parse("val", set(val_ids))
        used = file.used
        said = f"train and {val_ratio:g} of it for val: {_said(root, train)}"
    else:
        other = CocoFile(val.annotations, val.images, root, allow_outside=allow_outside)
        parsed = file.parse("train"), other.parse("val")
        used = file.used | {key for key, name in file.categories.items() if name in _names(other)}
        said = f"train: {_said(root, train)}; val: {_said(root, val)}"
    notes = [said]
    group = _group_without_objects(file, used)
    categories = {key: name for key, name in file.categories.items() if key != group}
    if group is not None:
        notes.append(f"category {file.categories[group]!r} groups the others and has no object: it is no class")
    names = list(categories.values()) if chosen is None else list(chosen)
    own_ids = {name: category_id for category_id, name in categories.items()}
    if unknown := [name for name in names if name not in own_ids]:
        raise DataError(f"classes: {unknown[0]!r} is not a category; valid: {', '.join(own_ids)}")
    category_ids = tuple(own_ids[name] for name in names)
    frequencies = tuple(file.frequencies.get(key, "") for key in category_ids) if file.frequencies else ()
    listed_by = train.annotations.name if chosen is None else "data.classes"
    return ParsedData(
        *parsed, tuple(names), category_ids, file.keypoint_names, frequencies, tuple(notes), listed_by=listed_by
    )


def _names(file: CocoFile) -> set[str]:
    """Names of the categories that have an annotation."""
    return {file.categories[key] for key in file.used if key in file.categories}


def _group_without_objects(file: CocoFile, used: set[Id]) -> Id | None:
    """The category that Roboflow adds for the project: without objects, and the supercategory of all others."""
    for key, name in file.categories.items():
        others = [group for other, group in file.supercategories.items() if other != key]
        if key not in used and others and all(group == name for group in others):
            return key
    return None


def _paths(root: Path, split: str, annotations: str | None, images: str | None) -> CocoPaths:
    path = _annotation_file(root, split, annotations)
    return CocoPaths(path, image_folder(root, path) if images is None else root / images)


def _annotation_file(root: Path, split: str, annotations: str | None) -> Path:
    """The JSON file of a split, given or found.

    Raises:
        DataError: it is not there.
    """
    path: Path | None
    if annotations is None:
        path = find(root, split)
        if path is None:
            there = ", ".join(json_files(root)) or "no .json file"
            more = ", or data.val_ratio=0.2" if split == "val" else ""
            raise DataError(
                f"{split}_annotations: no COCO file of the {split} split is in the usual places of {root}; there: "
                f"{there}; valid: data.{split}_annotations=FILE{more}"
            )
    else:
        path = root / annotations
        if not path.is_file():
            there = ", ".join(json_files(root)) or "no .json file"
            raise DataError(f"{split}_annotations: {path} is missing; there: {there}")
    return path


def _said(root: Path, paths: CocoPaths) -> str:
    return f"{_below(root, paths.annotations)}, images from {_below(root, paths.images)}"


def _below(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
