"""Where images and annotations come from: one module per format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Source = TypeVar("Source", bound=Callable[..., Any])


def yields(*extra_targets: str) -> Callable[[Source], Source]:
    """Marks a data source whose targets hold more than boxes and labels: ``masks``, ``keypoints``."""

    def mark(source: Source) -> Source:
        source.extra_targets = frozenset(extra_targets)  # type: ignore[attr-defined]
        return source

    return mark


def extra_targets_of(source: Callable[..., Any]) -> frozenset[str]:
    """What the targets of a source hold beside boxes and labels."""
    return frozenset(getattr(source, "extra_targets", ()))
