"""Surfaces of the embedded scenes: backgrounds, clutter strokes and the fill of a figure.

Images are float32 (H, W, 3) in 0..1. Every function draws its randomness from the generator it is given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
BACKGROUNDS = ("stripes", "checks", "noise", "gradient")
FILLS = ("plain", "stripes", "dots", "gradient", "grain")


def pixel_grid(y1: int, y2: int, x1: int, x2: int) -> tuple[Array, Array]:
    """Coordinates of the pixel centers of rows y1..y2 and columns x1..x2 (both exclusive): x (1, W), y (H, 1)."""
    x = np.arange(x1, x2, dtype=np.float32) + np.float32(0.5)
    y = np.arange(y1, y2, dtype=np.float32) + np.float32(0.5)
    return x[None, :], y[:, None]


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Array:
    """Noise in -1..1 that varies over size / cells pixels: a coarse grid, interpolated bilinearly. (size, size)."""
    coarse = rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32)
    at = np.linspace(0, cells, size, endpoint=False, dtype=np.float32)
    low = at.astype(np.int64)
    share = at - low
    rows = coarse[low] * (1 - share[:, None]) + coarse[low + 1] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, low + 1] * share


def _bands(position: Array, period: float) -> Array:
    """Soft-edged stripes in -1..1: a sine, steepened and cut off."""
    return np.clip(3 * np.sin(position * np.float32(2 * np.pi / period)), -1, 1)


def _pattern(rng: np.random.Generator, kind: str, size: int) -> Array:
    """A pattern in -1..1 over the whole image. (size, size)."""
    if kind == "noise":
        return smooth_noise(rng, size, int(rng.integers(5, 25)))
    x, y = pixel_grid(0, size, 0, size)
    angle, offset = rng.uniform(0, np.pi), rng.uniform(0, 64)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = x * cos + y * sin + np.float32(offset), y * cos - x * sin
    if kind == "gradient":
        return (2 * (along - along.min()) / np.ptp(along) - 1).astype(np.float32)
    period = rng.uniform(9, 40)
    stripes = _bands(along, period)
    return stripes if kind == "stripes" else stripes * _bands(across, period)


def background(rng: np.random.Generator, size: int) -> Array:
    """One of the BACKGROUNDS between two colors, with a second, weaker unevenness over it. (size, size, 3)."""
    base = rng.uniform(0.15, 0.85, 3)
    swing = rng.uniform(-1, 1, 3)
    swing *= rng.uniform(0.03, 0.17) / max(np.abs(swing).max(), 1e-6)
    pattern = _pattern(rng, str(rng.choice(BACKGROUNDS)), size)
    shade = smooth_noise(rng, size, 3) * np.float32(rng.uniform(0, 0.08))
    return base.astype(np.float32) + pattern[..., None] * swing.astype(np.float32) + shade[..., None]


def add_stroke(rng: np.random.Generator, image: Array) -> None:
    """Draw one straight or bent stroke, 1-3 px wide, of any color, into the image (in place)."""
    size = image.shape[0]
    start, angle = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi)
    length, width = rng.uniform(0.08, 0.35) * size, rng.uniform(0.5, 1.5)
    end = start + length * np.array([np.cos(angle), np.sin(angle)])
    bend = rng.uniform(-0.2, 0.2) * length
    low = np.floor(np.minimum(start, end) - abs(bend) - 3).astype(int).clip(0, size - 1)
    high = np.ceil(np.maximum(start, end) + abs(bend) + 3).astype(int).clip(1, size)
    window = image[low[1] : high[1], low[0] : high[0]]
    x, y = pixel_grid(low[1], high[1], low[0], high[0])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = (x - np.float32(start[0])) * cos + (y - np.float32(start[1])) * sin
    across = (y - np.float32(start[1])) * cos - (x - np.float32(start[0])) * sin
    across = across - np.float32(bend) * np.sin(np.pi * np.clip(along / np.float32(length), 0, 1))
    outside = np.maximum(np.abs(across) - np.float32(width), np.abs(along - length / 2) - length / 2)
    cover = np.clip(0.5 - outside, 0, 1)[..., None].astype(np.float32)
    color = rng.uniform(0, 1, 3).astype(np.float32)
    window += cover * (color - window)


def fill(rng: np.random.Generator, color: Array, x: Array, y: Array, radius: float) -> Array:
    """The surface of a figure: ``color`` (3,) with one of the FILLS; x, y (H, W) in px from its center. (H, W, 3)."""
    kind = str(rng.choice(FILLS, p=[0.35, 0.2, 0.15, 0.15, 0.15]))
    # Detail finer than 4 px would be lost in small figures and their pixel noise.
    period = max(4.0, radius * rng.uniform(0.35, 0.8))
    strength = rng.uniform(0.07, 0.2)
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = x * cos + y * sin, y * cos - x * sin
    if kind == "plain":
        return np.broadcast_to(color, (*x.shape, 3))
    if kind == "stripes":
        pattern = _bands(along, period)
    elif kind == "dots":
        pattern = np.clip(4 * np.cos(along * (2 * np.pi / period)) * np.cos(across * (2 * np.pi / period)) - 1, -1, 1)
    elif kind == "gradient":
        pattern = along / radius
    else:
        pattern = rng.uniform(-1, 1, x.shape)
    return color + (pattern * strength).astype(np.float32)[..., None]
