"""LVIS: COCO's images with a thousand classes in a long tail, annotated federatedly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.data.augment.protocol import Augment
from harness.data.checks import OnBad
from harness.data.dataset import MASKS
from harness.data.images import Orientation
from harness.data.options import Loading
from harness.data.prepared import Identity
from harness.data.probing import Check
from harness.data.records import DataError, ParsedData
from harness.data.sources import found_by, yields
from harness.data.sources.coco import check_folder, folder_of_data, read_coco
from harness.data.sources.coco_layouts import CocoPaths, json_files
from harness.data.splits import Splits, build_splits
from harness.data.values import class_names


def _look(
    root: str,
    train_annotations: str = "lvis_v1_train.json",
    val_annotations: str = "lvis_v1_val.json",
    images: str = ".",
    val_ratio: float | None = None,
) -> None:
    base = folder_of_data(root)
    _check_files(base, [train_annotations] if val_ratio is not None else [train_annotations, val_annotations])
    check_folder("images", base / images)


def _check_files(base: Path, names: Sequence[str]) -> None:
    for name in names:
        if not (base / name).is_file():
            raise DataError(f"{base / name} is missing; there: {', '.join(json_files(base)) or 'no .json file'}")


@found_by(_look)
@yields(MASKS)
def lvis(
    root: str,
    train_annotations: str = "lvis_v1_train.json",
    val_annotations: str = "lvis_v1_val.json",
    images: str = ".",
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
    """A data set in the format of LVIS (Gupta, Dollar and Girshick, CVPR 2019), v0.5 or v1.

    Its files are COCO's with ``frequency`` (r, c, f: rare, common, frequent) of each category and, for each image,
    ``neg_category_ids`` (looked for and absent) and ``not_exhaustive_category_ids`` (some objects may lack an
    annotation). All other classes are unknown in an image, so evaluation counts detections of them in neither way.

    Args:
        root: folder that the other paths start from.
        train_annotations: JSON file of the training split.
        val_annotations: JSON file of the validation split.
        images: folder with train2017/ and val2017/, of which LVIS uses both in both splits.
        val_ratio: above 0 and below 1: ``val_annotations`` is not read; that share of the training images is held out.
        split_seed: with which they are drawn.
        classes: names in the order of their labels, objects of others are left out; ``None`` takes all categories.
        allow_outside: ``file_name`` may leave ``root``.
        on_bad: ``error`` refuses a data set with problems, ``drop`` goes on without the bad objects and images.
        check: ``full``, ``headers`` or ``none``, see :func:`harness.data.probing.probe`.
        orientation: ``stored`` or ``exif``, see :class:`harness.data.options.Loading`.
        cache_bytes: bound of the decoded images kept in memory.
        cache_dir: folder for prepared annotations, see :func:`harness.data.options.cache_folder`.
        augment: of the training images.

    Raises:
        ValueError: a value out of its range.
        DataError: what is missing, empty, or, under the policy ``error``, wrong; a file without frequencies.
    """
    loading = Loading(on_bad, check, orientation, cache_bytes, cache_dir, augment)
    chosen = class_names(classes)
    base = folder_of_data(root)
    files = [train_annotations] if val_ratio is not None else [train_annotations, val_annotations]
    _check_files(base, files)
    paths = [CocoPaths(base / name, base / images) for name in files]
    val = None if val_ratio is not None else paths[1]

    def read() -> ParsedData:
        parsed = read_coco(base, paths[0], val, val_ratio, split_seed, chosen, allow_outside=allow_outside)
        if "" in parsed.frequencies or not parsed.frequencies:
            raise DataError(f"{base / train_annotations}: a category lacks its frequency (r, c or f); valid: LVIS")
        return parsed

    settings = {"lvis": [images, val_ratio, split_seed, chosen, allow_outside]}
    return build_splits(Identity("lvis", base, tuple(path.annotations for path in paths), settings), read, loading)
