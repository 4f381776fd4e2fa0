"""One embedded scene: figures of six classes among look-alikes and clutter, with the boxes of those that can be seen.

Hard on purpose (long-tailed classes, look-alikes without a label, overlaps, textures, weak contrast) so that methods
differ, and fair: a figure always differs in color from what it is painted on, and one that is more than 65 % hidden
carries no box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.data.drawing import figures, textures
from harness.data.outlines import encode_mask

# Raise it when a change of the drawing code changes any scene: cached scenes of other versions are then not used.
VERSION = 2
CLASS_WEIGHTS = (0.30, 0.22, 0.18, 0.13, 0.10, 0.07)
MAX_HIDDEN = 0.65
MIN_CONTRAST = 0.28  # Euclidean distance in RGB (0..1) between a figure and the mean of what lies under it


@dataclass(frozen=True, slots=True)
class SceneRecipe:
    """What a scene may hold. Ranges are inclusive."""

    image_size: int  # side, px
    objects: tuple[int, int]
    lookalikes: tuple[int, int]
    size: tuple[float, float]  # radii in px, drawn log-uniformly
    crowding: float  # probability that a figure is placed against the one before
    imbalance: float  # the power to which CLASS_WEIGHTS are raised; 0: every class equally often

    def class_shares(self) -> npt.NDArray[np.float64]:
        """Probability of each class, in the order of figures.CLASSES."""
        weights = np.array(CLASS_WEIGHTS) ** self.imbalance
        return weights / weights.sum()


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawn image and the objects in it."""

    image: npt.NDArray[np.uint8]  # (3, H, W)
    boxes: npt.NDArray[np.float32]  # (n, 4) xyxy px, amodal but cut at the image's edge
    labels: npt.NDArray[np.int64]  # (n,) 1..K
    outlines: tuple[bytes, ...]  # n masks, run-length encoded: whole figures, cut at the image's edge
    keypoints: npt.NDArray[np.float64]  # (n, 5, 3) x px, y px, visibility; see figures.KEYPOINTS


@dataclass(frozen=True, slots=True)
class _Figure:
    name: str
    x: float
    y: float
    radius: float
    angle: float


def draw_scene(rng: np.random.Generator, recipe: SceneRecipe) -> Scene:
    """Draw one scene; all randomness comes from ``rng``."""
    size = recipe.image_size
    image = textures.background(rng, size)
    for _ in range(rng.integers(2, 7)):
        textures.add_stroke(rng, image)
    layout = _place(rng, recipe)
    top = np.full((size, size), -1, dtype=np.int16)  # which figure shows at a pixel
    areas = [_paint(rng, image, top, index, figure) for index, figure in enumerate(layout)]
    if rng.uniform() < 0.4:
        textures.add_stroke(rng, image)
    seen = np.bincount(top[top >= 0].ravel(), minlength=len(layout))
    boxes, labels, outlines, keypoints = [], [], [], []
    for figure, area, visible in zip(layout, areas, seen, strict=True):
        if figure.name in figures.CLASSES and visible >= (1 - MAX_HIDDEN) * area:
            boxes.append(_box(figure, size))
            labels.append(figures.CLASSES.index(figure.name) + 1)
            place = (figure.name, figure.x, figure.y, figure.radius, figure.angle, size)
            outlines.append(encode_mask(figures.mask(*place)))
            keypoints.append(figures.keypoints(*place))
    return Scene(
        _develop(rng, image),
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        tuple(outlines),
        np.array(keypoints).reshape(-1, len(figures.KEYPOINTS), 3),
    )


def _place(rng: np.random.Generator, recipe: SceneRecipe) -> list[_Figure]:
    """Choose what stands where, in painting order."""
    low, high = recipe.objects
    names = [str(n) for n in rng.choice(figures.CLASSES, rng.integers(low, high + 1), p=recipe.class_shares())]
    low, high = recipe.lookalikes
    names += [str(n) for n in rng.choice(figures.LOOKALIKES, rng.integers(low, high + 1))]
    rng.shuffle(names)
    placed: list[_Figure] = []
    for name in names:
        radius = float(np.exp(rng.uniform(*np.log(recipe.size))))
        beside = placed[-1] if placed and rng.uniform() < recipe.crowding else None
        x, y = _position(rng, recipe.image_size, radius, beside, placed)
        # Up to a full turn for all: a square at any angle is still a square.
        placed.append(_Figure(name, x, y, radius, float(rng.uniform(0, 2 * np.pi))))
    return placed


def _position(
    rng: np.random.Generator, size: int, radius: float, beside: _Figure | None, placed: list[_Figure]
) -> tuple[float, float]:
    """A center for the next figure: against ``beside``, or else the freest of a few tries."""
    margin = min(0.7 * radius, size / 2)
    best, best_gap = (size / 2, size / 2), -np.inf
    for _ in range(4):
        if beside is None:
            x, y = rng.uniform(margin, size - margin, 2)
            gap = min((np.hypot(x - p.x, y - p.y) - radius - p.radius for p in placed), default=0.0)
        else:
            turn, reach = rng.uniform(0, 2 * np.pi), (radius + beside.radius) * rng.uniform(0.7, 1.1)
            x, y = beside.x + reach * np.cos(turn), beside.y + reach * np.sin(turn)
            # Prefer a center inside the image; among those the first one.
            gap = 0.0 if margin <= min(x, y) and max(x, y) <= size - margin else -1.0
        if gap > best_gap:
            best, best_gap = (float(x), float(y)), float(gap)
        if gap >= 0:
            break
    return float(np.clip(best[0], margin, size - margin)), float(np.clip(best[1], margin, size - margin))


def _paint(
    rng: np.random.Generator,
    image: npt.NDArray[np.float32],
    top: npt.NDArray[np.int16],
    index: int,
    figure: _Figure,
) -> int:
    """Paint a figure into ``image`` and ``top`` (in place); returns its full area in px, outside the image included."""
    size = image.shape[0]
    reach = figure.radius * figures.MAX_RADIUS + 1
    left, right = int(np.floor(figure.x - reach)), int(np.ceil(figure.x + reach))
    upper, lower = int(np.floor(figure.y - reach)), int(np.ceil(figure.y + reach))
    x, y = np.broadcast_arrays(*textures.pixel_grid(upper, lower, left, right))
    x, y = x - np.float32(figure.x), y - np.float32(figure.y)
    cos, sin = np.float32(np.cos(figure.angle)), np.float32(np.sin(figure.angle))
    scale = np.float32(1 / figure.radius)
    distance = figures.signed_distance(figure.name, (x * cos + y * sin) * scale, (y * cos - x * sin) * scale)
    distance = distance * np.float32(figure.radius)
    inside = distance < 0

    rows = slice(max(-upper, 0), min(lower, size) - upper)
    columns = slice(max(-left, 0), min(right, size) - left)
    target = (slice(max(upper, 0), min(lower, size)), slice(max(left, 0), min(right, size)))
    under = image[target]
    shown = inside[rows, columns]
    color = _color(rng, under[shown].mean(axis=0) if shown.any() else under.mean(axis=(0, 1)))
    surface = textures.fill(rng, color, x, y, figure.radius)[rows, columns]
    if rng.uniform() < 0.25:  # a darker or lighter rim
        rim = np.clip(distance[rows, columns] + 2, 0, 1)[..., None]
        surface = surface + rim * np.float32(rng.choice([-0.18, 0.18]))
    cover = np.clip(0.5 - distance[rows, columns], 0, 1)[..., None]
    under += cover * (surface - under)
    top[target][shown] = index
    return int(inside.sum())


def _color(rng: np.random.Generator, under: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A random color that stands out from ``under`` (3,); the most different of twelve if none does enough."""
    candidates = rng.uniform(0.05, 0.95, (12, 3)).astype(np.float32)
    contrast = np.linalg.norm(candidates - under, axis=1)
    enough = np.flatnonzero(contrast >= MIN_CONTRAST)
    return candidates[enough[0] if enough.size else contrast.argmax()]


def _box(figure: _Figure, size: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = figures.extent(figure.name, figure.angle)
    return (
        max(figure.x + x1 * figure.radius, 0.0),
        max(figure.y + y1 * figure.radius, 0.0),
        min(figure.x + x2 * figure.radius, float(size)),
        min(figure.y + y2 * figure.radius, float(size)),
    )


def _develop(rng: np.random.Generator, image: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Exposure, contrast and sensor noise; (H, W, 3) float to (3, H, W) uint8."""
    image = (image - 0.5) * np.float32(rng.uniform(0.8, 1.1)) + np.float32(0.5 + rng.uniform(-0.06, 0.06))
    image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0.01, 0.05))
    return np.ascontiguousarray((image.clip(0, 1) * 255 + 0.5).astype(np.uint8).transpose(2, 0, 1))
