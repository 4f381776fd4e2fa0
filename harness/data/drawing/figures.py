"""The figures of the embedded scenes: six classes to find, and six without a label that resemble them.

Every figure is given for radius 1 around the origin, y pointing down. Radii differ a little so that the areas, and
with them the difficulty, are similar.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

CLASSES: Final = ("disc", "square", "triangle", "plus", "star", "ring")
LOOKALIKES: Final = ("hexagon", "pentagon", "half_disc", "broken_ring", "l_shape", "bar")

# Reaches over the outermost figure (star and triangle) and half a pixel of soft edge.
MAX_RADIUS: Final = 1.15


def _spokes(radii: tuple[float, ...]) -> Array:
    """Polygon with its vertices at equal angles and the given radii, the first one straight up."""
    angle = 2 * np.pi * np.arange(len(radii)) / len(radii) - np.pi / 2
    return (
        np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32) * np.array(radii, dtype=np.float32)[:, None]
    )


def _vertices(*points: tuple[float, float]) -> Array:
    return np.array(points, dtype=np.float32)


_ARM = 0.34
POLYGONS: Final[dict[str, Array]] = {
    "square": _spokes((1.1,) * 4),
    "triangle": _spokes((1.15,) * 3),
    "plus": _vertices(
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ),
    "star": _spokes((1.15, 0.5) * 5),
    "hexagon": _spokes((1.02,) * 6),
    "pentagon": _spokes((1.05,) * 5),
    "l_shape": _vertices((-0.72, -0.88), (-0.1, -0.88), (-0.1, 0.26), (0.72, 0.26), (0.72, 0.88), (-0.72, 0.88)),
    "bar": _vertices((-1.05, -0.38), (1.05, -0.38), (1.05, 0.38), (-1.05, 0.38)),
}  # fmt: skip

_DISC_RADIUS = 0.95
_RING_OUTER, _RING_INNER = 1.0, 0.55
_HALF_DISC_TOP = -0.25
_GAP = 0.62  # half the opening angle of the broken ring, in radians


def _ring(x: Array, y: Array) -> Array:
    middle, half_width = (_RING_OUTER + _RING_INNER) / 2, (_RING_OUTER - _RING_INNER) / 2
    return np.abs(np.hypot(x, y) - middle) - half_width


def _broken_ring(x: Array, y: Array) -> Array:
    # The gap is a wedge around +x; its signed distance is that of the nearer of its two sides.
    wedge = np.abs(y) * np.float32(np.cos(_GAP)) - x * np.float32(np.sin(_GAP))
    return np.maximum(_ring(x, y), -wedge)


ROUND: Final[dict[str, Callable[[Array, Array], Array]]] = {
    "disc": lambda x, y: np.hypot(x, y) - _DISC_RADIUS,
    "ring": _ring,
    "half_disc": lambda x, y: np.maximum(np.hypot(x, y) - 1.05, _HALF_DISC_TOP - y),
    "broken_ring": _broken_ring,
}


def polygon_distance(vertices: Array, x: Array, y: Array) -> Array:
    """Signed distance (negative inside) from points to a simple polygon; ``vertices`` (m, 2), x and y of any shape."""
    shape = x.shape
    x, y = x.reshape(1, -1), y.reshape(1, -1)
    ax, ay = vertices[:, :1], vertices[:, 1:]
    bx, by = np.roll(ax, -1, axis=0), np.roll(ay, -1, axis=0)
    ex, ey = bx - ax, by - ay
    px, py = x - ax, y - ay
    along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
    squared = ((px - along * ex) ** 2 + (py - along * ey) ** 2).min(axis=0)
    # Even-odd rule: an edge counts where it spans the point's height and lies to its right.
    spans = (ay <= y) != (by <= y)
    to_right = (ex * py - ey * px > 0) == (ey > 0)
    inside = (spans & to_right).sum(axis=0) % 2 == 1
    distance = np.sqrt(squared)
    return np.where(inside, -distance, distance).reshape(shape)


def signed_distance(name: str, x: Array, y: Array) -> Array:
    """Signed distance of points to the figure ``name`` of radius 1, negative inside; x and y of any (equal) shape."""
    return ROUND[name](x, y) if name in ROUND else polygon_distance(POLYGONS[name], x, y)


# Extreme points and center (Zhou et al., "Bottom-up Object Detection by Grouping Extreme and Center Points", 2019):
# any figure has them, whatever its symmetry.
KEYPOINTS: Final = ("leftmost", "topmost", "rightmost", "bottommost", "center")


def mask(name: str, x: float, y: float, radius: float, angle: float, size: int) -> npt.NDArray[np.bool_]:
    """(size, size) the pixels whose center lies inside the figure, whatever is painted over it."""
    center = np.arange(size, dtype=np.float32) + np.float32(0.5)
    dx, dy = np.broadcast_arrays((center - np.float32(x))[None, :], (center - np.float32(y))[:, None])
    cos, sin, scale = np.float32(np.cos(angle)), np.float32(np.sin(angle)), np.float32(1 / radius)
    inside: npt.NDArray[np.bool_] = (
        signed_distance(name, (dx * cos + dy * sin) * scale, (dy * cos - dx * sin) * scale) < 0
    )
    return inside


def keypoints(name: str, x: float, y: float, radius: float, angle: float, size: int) -> npt.NDArray[np.float64]:
    """(5, 3) x px, y px, visibility of the KEYPOINTS of one of the CLASSES: 2 inside the image, else (0, 0, 0)."""
    if name in ROUND:
        reach = extent(name, 0.0)[2]
        points = np.array([[-reach, 0], [0, -reach], [reach, 0], [0, reach], [0, 0]])
    else:
        cos, sin = np.cos(angle), np.sin(angle)
        corners = POLYGONS[name] @ np.array([[cos, sin], [-sin, cos]])
        chosen = [corners[:, 0].argmin(), corners[:, 1].argmin(), corners[:, 0].argmax(), corners[:, 1].argmax()]
        points = np.concatenate((corners[chosen], np.zeros((1, 2))))
    placed = points * radius + np.array([x, y])
    visible = ((placed >= 0) & (placed <= size)).all(1)
    return np.column_stack((placed, np.full(len(placed), 2.0))) * visible[:, None]


def extent(name: str, angle: float) -> tuple[float, float, float, float]:
    """Tight box (x1, y1, x2, y2) of one of the CLASSES with radius 1, rotated by ``angle`` radians."""
    if name == "disc":
        return -_DISC_RADIUS, -_DISC_RADIUS, _DISC_RADIUS, _DISC_RADIUS
    if name == "ring":
        return -_RING_OUTER, -_RING_OUTER, _RING_OUTER, _RING_OUTER
    cos, sin = np.cos(angle), np.sin(angle)
    corners = POLYGONS[name] @ np.array([[cos, sin], [-sin, cos]])
    (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
    return float(x1), float(y1), float(x2), float(y2)
