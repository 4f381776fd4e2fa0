"""The embedded data: drawn scenes, the same on every machine, kept on disk after the first time."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import secrets
import shutil
import time
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from harness.core import limits
from harness.data.augment.protocol import Augment
from harness.data.dataset import KEYPOINTS, MASKS, Annotations, DetectionDataset
from harness.data.drawing import figures, scenes
from harness.data.fingerprint import fingerprint
from harness.data.images import ArrayImages
from harness.data.options import cache_folder
from harness.data.outlines import Outlines
from harness.data.records import DataError
from harness.data.sources import yields
from harness.data.splits import Splits
from harness.runs.integrity import DamagedFileError, check_zip, file_digest, seal_zip
from harness.runs.records import flush_folder

_log = logging.getLogger(__name__)
_FORMAT = 3  # of the files in the cache
_ABANDONED = 86400.0  # seconds after which a half-built cache cannot be anyone's work in progress


@yields(MASKS, KEYPOINTS)
def shapes(
    image_size: int = 128,
    num_train: int = 2000,
    num_val: int = 200,
    objects: Sequence[int] = (2, 7),
    lookalikes: Sequence[int] = (0, 3),
    size: Sequence[float] = (8, 26),
    crowding: float = 0.3,
    imbalance: float = 1.0,
    label_noise: float = 0.0,
    draw_seed: int = 0,
    cache_dir: str | None = None,
    augment: Augment | None = None,
) -> Splits:
    """Scenes of six classes of figures among look-alikes (see scenes.py), 4 ms each to draw at 128 px.

    Masks are whole figures, also where others are painted over them; keypoints are their extreme points and centers.

    Args:
        image_size: side in px, >= 32.
        num_train: training images, >= 1.
        num_val: validation images, >= 1.
        objects: fewest and most per image.
        lookalikes: fewest and most per image.
        size: range of radii in px, from 2 to half the image's side.
        crowding: probability that a figure stands against the one before.
        imbalance: 0 all classes equally often, 1 long tail (.30 .22 .18 .13 .10 .07), more is steeper.
        label_noise: share of the training labels that are drawn at random, in [0, 1].
        draw_seed: another one, other scenes.
        cache_dir: folder for the drawn scenes; ``None`` takes $HARNESS_CACHE or $XDG_CACHE_HOME/harness or
            ~/.cache/harness.
        augment: of the training images.

    Raises:
        ValueError: a value out of its range.
        DataError: a cache that cannot be written or read.
    """
    recipe = scenes.SceneRecipe(
        image_size=limits.count("image_size", image_size, 32),
        objects=_fewest_and_most("objects", objects),
        lookalikes=_fewest_and_most("lookalikes", lookalikes),
        size=limits.interval("size", size, 2, image_size / 2),
        crowding=float(limits.between("crowding", crowding, 0, 1)),
        imbalance=float(limits.at_least("imbalance", imbalance, 0)),
    )
    limits.between("label_noise", label_noise, 0, 1)
    limits.count("num_train", num_train, 1)
    limits.count("num_val", num_val, 1)
    cache = cache_folder(cache_dir)
    train = _split(cache, "train", num_train, recipe, draw_seed)
    val = _split(cache, "val", num_val, recipe, draw_seed)
    if label_noise:
        noisy = replace(train.annotations, labels=_noisy(train.annotations.labels, label_noise, draw_seed))
        train = DetectionDataset(noisy, train.images, train.classes, keypoint_names=figures.KEYPOINTS)
    return Splits(train, val, figures.CLASSES, fingerprint([train, val]), (), augment)


def _split(cache: Path, split: str, count: int, recipe: scenes.SceneRecipe, seed: int) -> DetectionDataset:
    key = json.dumps([scenes.VERSION, _FORMAT, split, count, asdict(recipe), seed], sort_keys=True)
    folder = cache / f"shapes-{split}-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"
    if not folder.is_dir():
        _draw_into(folder, split, count, recipe, seed)
    try:
        check_zip(folder / "objects.npz")
        with np.load(folder / "objects.npz") as stored:
            offsets, boxes, labels = stored["offsets"], stored["boxes"], stored["labels"]
            outlines, keypoints = Outlines(stored["outlines"], stored["outline_offsets"]), stored["keypoints"]
            expected = str(stored["images_checksum"])
        if file_digest(folder / "images.npy") != expected:
            raise DamagedFileError("images.npy does not match its checksum")
        images = ArrayImages(folder / "images.npy")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cache_dir: {folder} is damaged ({error}); delete it, and it is drawn again") from None
    annotations = _annotations(offsets, boxes, labels, split, recipe.image_size)
    annotations = replace(annotations, outlines=outlines, keypoints=keypoints)
    return DetectionDataset(annotations, images, figures.CLASSES, keypoint_names=figures.KEYPOINTS)


def _annotations(offsets: np.ndarray, boxes: np.ndarray, labels: np.ndarray, split: str, size: int) -> Annotations:
    count = len(offsets) - 1
    boxes = boxes.astype(np.float64)
    none = np.zeros(len(labels), dtype=bool)
    return Annotations(
        offsets=offsets,
        boxes=boxes,
        labels=labels,
        ignore=none,
        difficult=none,
        areas=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        ids=tuple(range(count)),
        source_ids=tuple(range(count)),
        files=tuple(f"{split}/{index}" for index in range(count)),
        sizes=np.full((count, 2), size, dtype=np.int64),
    )


def _draw_into(folder: Path, split: str, count: int, recipe: scenes.SceneRecipe, seed: int) -> None:
    """Draw a split into a folder that appears whole or not at all. Of two processes at once, one's work is kept."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        work = folder.parent / f".drawing-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
        work.mkdir()
    except OSError as error:
        raise DataError(
            f"cache_dir: {folder.parent} cannot be written ({error.strerror or error}); valid: a folder that can"
        ) from None
    _log.info("drawing %d %s scenes, kept in %s", count, split, folder)
    try:
        _draw(work, split, count, recipe, seed)
        os.replace(work, folder)
        flush_folder(folder.parent)
    except OSError as error:
        if not folder.is_dir():  # else another process was faster, with the very same scenes
            raise DataError(
                f"cache_dir: {folder} cannot be written ({error.strerror or error}); valid: a folder with room"
            ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _draw(work: Path, split: str, count: int, recipe: scenes.SceneRecipe, seed: int) -> None:
    side = recipe.image_size
    # Written as a stream: a mapped file that outgrows a full disk kills the process instead of raising.
    boxes, labels, offsets = [], [], [0]
    outlines: list[bytes] = []
    keypoints = []
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, side, side)}
    with (work / "images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for index in range(count):
            stream = np.random.default_rng([seed, ("train", "val").index(split), index])
            scene = scenes.draw_scene(stream, recipe)
            file.write(scene.image.tobytes())
            boxes.append(scene.boxes)
            labels.append(scene.labels)
            outlines += scene.outlines
            keypoints.append(scene.keypoints)
            offsets.append(offsets[-1] + len(scene.labels))
        file.flush()
        os.fsync(file.fileno())
    with (work / "objects.npz").open("w+b") as file:
        np.savez(
            file,
            offsets=np.array(offsets, dtype=np.int64), boxes=np.concatenate(boxes), labels=np.concatenate(labels),
            outlines=Outlines.of(outlines).data, outline_offsets=Outlines.of(outlines).offsets,
            keypoints=np.concatenate(keypoints), images_checksum=np.array(file_digest(work / "images.npy")),
        )  # fmt: skip
        seal_zip(file)
        file.flush()
        os.fsync(file.fileno())
    flush_folder(work)


def _sweep(cache: Path) -> None:
    """Remove what killed processes left half drawn."""
    for left in cache.glob(".drawing-*"):
        try:
            abandoned = _owner_is_gone(left) or time.time() - left.stat().st_mtime > _ABANDONED
        except FileNotFoundError:  # its owner has just renamed or removed it
            continue
        if abandoned:
            shutil.rmtree(left, ignore_errors=True)


def _owner_is_gone(left: Path) -> bool:
    """Whether the process of this machine that was drawing into the folder has ended."""
    parts = left.name.split("-")
    if len(parts) != 4 or parts[1] != _host() or os.name != "posix":
        return False
    try:
        os.kill(int(parts[2]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it lives, and belongs to somebody else
        return False
    return False


def _host() -> str:
    return hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()


def _noisy(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Labels of which each is, with probability ``share``, replaced by one drawn at random (perhaps the same)."""
    stream = np.random.default_rng([seed, 2])
    redrawn = stream.integers(1, len(figures.CLASSES) + 1, len(labels))
    return np.where(stream.random(len(labels)) < share, redrawn, labels)


def _fewest_and_most(name: str, value: Sequence[int]) -> tuple[int, int]:
    whole = len(value) == 2 and 0 <= value[0] <= value[1] and all(int(number) == number for number in value)
    limits.require(whole, name, value, "[fewest, most], whole numbers of at least 0")
    return int(value[0]), int(value[1])
