"""The settings that all sources of files share: what is checked, how images are read, what is kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from harness.core import limits
from harness.data.augment.protocol import Augment
from harness.data.checks import OnBad
from harness.data.images import Orientation
from harness.data.probing import Check


@dataclass(frozen=True, slots=True)
class Loading:
    """How a data set is checked and read.

    Attributes:
        on_bad: ``error`` refuses data with problems, ``drop`` goes on without the bad objects and images.
        check: how images are looked at before training, see :func:`harness.data.probing.probe`.
        orientation: ``stored`` reads the pixels as they lie in the file, which annotations of most tools refer to;
            ``exif`` turns images as their EXIF tag says.
        cache_bytes: bound of the decoded images kept in memory.
        cache_dir: folder for prepared annotations; None: see :func:`cache_folder`.
        augment: of the training images.

    Raises:
        ValueError: a value out of its range.
    """

    on_bad: OnBad = "error"
    check: Check = "full"
    orientation: Orientation = "stored"
    cache_bytes: int = 512 * 2**20
    cache_dir: str | None = None
    augment: Augment | None = None

    def __post_init__(self) -> None:
        limits.one_of("on_bad", self.on_bad, get_args(OnBad))
        limits.one_of("check", self.check, get_args(Check))
        limits.one_of("orientation", self.orientation, get_args(Orientation))
        limits.at_least("cache_bytes", self.cache_bytes, 0)


def cache_folder(cache_dir: str | None) -> Path:
    """Where drawn scenes and prepared annotations are kept: ``cache_dir``, or $HARNESS_CACHE, or
    $XDG_CACHE_HOME/harness, or ~/.cache/harness."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    own = os.environ.get("HARNESS_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"
