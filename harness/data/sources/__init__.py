"""Where images and annotations come from: one module per format."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Source = TypeVar("Source", bound=Callable[..., Any])


def yields(*extra_targets: str) -> Callable[[Source], Source]:
    """Marks a data source whose targets hold more than boxes and labels: ``masks``, ``keypoints``."""

    def mark(source: Source) -> Source:
        source.extra_targets = frozenset(extra_targets)  # type: ignore[attr-defined]
        return source

    return mark


def found_by(look: Callable[..., None]) -> Callable[[Source], Source]:
    """Marks a data source with a function that says whether its files are there, without reading annotations.

    ``look`` takes those of the source's arguments that it needs, by name, and raises DataError, as the source would.
    """

    def mark(source: Source) -> Source:
        source.look = look  # type: ignore[attr-defined]
        return source

    return mark


def look_for(source: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Asks a source whether the files that ``options`` name are there; one that is not marked is not asked.

    Raises:
        harness.data.records.DataError: one is not.
    """
    look = getattr(source, "look", None)
    if look is not None:
        wanted = inspect.signature(look).parameters
        look(**{name: value for name, value in options.items() if name in wanted})


def extra_targets_of(source: Callable[..., Any]) -> frozenset[str]:
    """What the targets of a source hold beside boxes and labels."""
    return frozenset(getattr(source, "extra_targets", ()))
