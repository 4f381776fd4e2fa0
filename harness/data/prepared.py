"""Checked data kept as one file of columns that all jobs on the same data share.

Checking COCO's training set takes minutes; of a prepared file, only the annotation files are hashed and the image
files asked for their size and time of change. The name of the file is a hash of the annotation files' bytes, of all
settings that the check depends on and of the code that makes it, so an edited annotation or another version of the
check is another file; an image that was changed since the check makes it be done again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.data import columns_file
from harness.data.checked import CheckedData, CheckedSplit, check_data
from harness.data.dataset import Annotations, Federated
from harness.data.options import Loading, cache_folder
from harness.data.outlines import Outlines
from harness.data.probing import stamps
from harness.data.records import AnnotationProblem, ParsedData

_log = logging.getLogger(__name__)
WORTH_PREPARING = 1000  # images; fewer are checked again sooner than a user would notice
_COLUMNS = ("offsets", "boxes", "labels", "ignore", "difficult", "areas", "sizes", "keypoints", "digests")
_TEXTS = ("ids", "source_ids", "files")


@cache
def code_digest(folder: Path = Path(__file__).parent) -> str:
    """Hash of the modules that parse, check and keep data: those of ``folder`` and of its ``sources``.

    What an earlier version of them has accepted, this one may refuse; nobody has to remember to say so.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted([*folder.glob("*.py"), *folder.glob("sources/*.py")]):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Identity:
    """What the checked data depend on, apart from the image files."""

    source: str  # voc, coco, yolo, ...
    root: Path  # paths of images below it are kept relative to it, so that a moved folder keeps its prepared file
    files: tuple[Path, ...]  # the annotation files
    settings: Mapping[str, Any]  # everything else, as JSON has it
    num_images: int | None = None  # where it is known without reading the annotations

    def key(self, loading: Loading) -> str:
        """Hash of the annotation files' bytes, and of all settings and code that the result depends on."""
        digest = hashlib.blake2b(digest_size=16)
        checked = [code_digest(), self.source, loading.check, loading.orientation, loading.cache_bytes]
        digest.update(json.dumps([*checked, self.settings], sort_keys=True, default=str).encode())
        for file in self.files:
            try:
                content = file.read_bytes() if file.is_file() else b""
            except OSError:
                content = b""  # the check says what is wrong with it
            digest.update(f"{len(content)}:".encode())
            digest.update(content)
        return digest.hexdigest()


def checked_once(identity: Identity, read: Callable[[], ParsedData], loading: Loading) -> CheckedData:
    """The checked data out of their prepared file; where there is none, or it is stale, they are read and checked.

    Jobs that start at once wait for the first of them. Where the cache cannot be written, every job checks.

    Args:
        identity: what the data depend on.
        read: parses the annotation files.
        loading: the settings of the check.

    Raises:
        DataError: as ``read`` and :func:`~harness.data.checked.check_data` do.
    """
    if identity.num_images is not None and identity.num_images < WORTH_PREPARING:
        return check_data(read(), loading)
    path = cache_folder(loading.cache_dir) / f"{identity.source}-{identity.key(loading)}.columns"
    if (found := _load(path, identity.root)) is not None:
        return found
    with _one_at_a_time(path) as writable:
        if writable and (found := _load(path, identity.root)) is not None:
            return found  # another job has just written it
        data = check_data(read(), loading)
        if writable and len(data.train.paths) + len(data.val.paths) >= WORTH_PREPARING:
            _save(path, data, identity.root)
        return data


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[bool]:
    """Holds the lock beside ``path``, waiting for it; yields whether the folder can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w")
    except OSError as error:
        _log.warning("cache_dir: %s cannot be written (%s): every job checks its data", path.parent, error.strerror)
        yield False
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            _log.info("no file locks in %s: jobs that start at once may each check the data", path.parent)
        yield True
        path.with_suffix(".lock").unlink(missing_ok=True)


def _save(path: Path, data: CheckedData, root: Path) -> None:
    arrays: dict[str, Any] = {}
    beside: dict[str, Any] = {
        field.name: getattr(data, field.name) for field in fields(data) if field.name not in ("train", "val", "decoded")
    }
    beside["problems"] = [asdict(problem) for problem in data.problems]
    for part in ("train", "val"):
        split: CheckedSplit = getattr(data, part)
        notes = split.annotations
        for name in _COLUMNS:
            if (column := getattr(notes, name)) is not None:
                arrays[f"{part}.{name}"] = column
        arrays[f"{part}.stamps"] = split.stamps
        if notes.outlines is not None:
            arrays |= {f"{part}.outlines": notes.outlines.data, f"{part}.outline_offsets": notes.outlines.offsets}
        if notes.federated is not None:
            names = [field.name for field in fields(Federated)][1:]
            arrays |= {f"{part}.{name}": getattr(notes.federated, name) for name in names}
            beside["frequencies"] = notes.federated.frequencies
        texts = {name: getattr(notes, name) for name in _TEXTS} | {"paths": [_relative(p, root) for p in split.paths]}
        arrays[f"{part}.texts"] = np.frombuffer(json.dumps(texts).encode(), np.uint8)
        beside[f"{part}.name"] = split.name
    try:
        columns_file.write(path, arrays, beside)
    except OSError as error:
        _log.warning("cache_dir: %s cannot be written (%s): every job checks its data", path, error.strerror)


def _relative(path: str, root: Path) -> str:
    start = f"{root}{os.sep}"
    return path.removeprefix(start) if path.startswith(start) else os.path.abspath(path)


def _load(path: Path, root: Path) -> CheckedData | None:
    """The prepared data, or None where there are none, they are damaged, or an image has changed since."""
    try:
        arrays, beside = columns_file.read(path)
    except FileNotFoundError:
        return None
    except (OSError, columns_file.DamagedFile) as error:
        _log.warning("%s: the data are checked again", error)
        return None
    train, val = (_split(part, arrays, beside, root) for part in ("train", "val"))
    for split in (train, val):
        changed = (stamps(split.paths) != split.stamps).any(1)
        if changed.any():
            first = split.paths[int(changed.argmax())]
            _log.warning("%s and %d more images have changed: checked again", first, int(changed.sum()) - 1)
            return None
    category_ids = beside["category_ids"]
    return CheckedData(
        train,
        val,
        classes=tuple(beside["classes"]),
        category_ids=None if category_ids is None else tuple(category_ids),
        keypoint_names=tuple(beside["keypoint_names"]),
        problems=tuple(AnnotationProblem(**problem) for problem in beside["problems"]),
        notes=tuple(beside["notes"]),
        fingerprint=beside["fingerprint"],
    )


def _split(part: str, arrays: Mapping[str, Any], beside: Mapping[str, Any], root: Path) -> CheckedSplit:
    own = {name.removeprefix(f"{part}."): array for name, array in arrays.items() if name.startswith(f"{part}.")}
    texts = json.loads(own["texts"].tobytes())
    federated = None
    if "frequencies" in beside:
        names = [field.name for field in fields(Federated)][1:]
        federated = Federated(tuple(beside["frequencies"]), *(own[name] for name in names))
    stored: dict[str, Any] = {name: own.get(name) for name in _COLUMNS}
    stored |= {name: tuple(texts[name]) for name in _TEXTS}
    annotations = Annotations(
        **stored,
        outlines=Outlines(own["outlines"], own["outline_offsets"]) if "outlines" in own else None,
        federated=federated,
    )
    paths = tuple(_under(root, texts["paths"]))
    return CheckedSplit(beside[f"{part}.name"], annotations, paths, own["stamps"])


def _under(root: Path, paths: Iterable[str]) -> Iterator[str]:
    start = f"{root}{os.sep}"
    return (path if os.path.isabs(path) else start + path for path in paths)
