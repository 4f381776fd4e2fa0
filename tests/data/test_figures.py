import math

import numpy as np
import pytest

from harness.data.drawing import figures


def naive_distance(vertices: np.ndarray, x: float, y: float) -> float:
    nearest, inside = math.inf, False
    for k in range(len(vertices)):
        (ax, ay), (bx, by) = vertices[k].tolist(), vertices[(k + 1) % len(vertices)].tolist()
        length2 = (bx - ax) ** 2 + (by - ay) ** 2
        t = min(1.0, max(0.0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length2))
        nearest = min(nearest, math.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay)))
        if (ay <= y) != (by <= y) and x < ax + (y - ay) / (by - ay) * (bx - ax):
            inside = not inside
    return -nearest if inside else nearest


@pytest.mark.parametrize("name", sorted(figures.POLYGONS))
def test_polygon_distance_equals_the_naive_one(name: str) -> None:
    vertices = figures.POLYGONS[name]
    points = np.random.default_rng(0).uniform(-1.4, 1.4, (150, 2)).astype(np.float32)
    got = figures.polygon_distance(vertices, points[:, 0], points[:, 1])
    expected = [naive_distance(vertices, float(x), float(y)) for x, y in points]
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("name", figures.CLASSES)
@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0, 5.5])
def test_extent_is_that_of_the_filled_figure(name: str, angle: float) -> None:
    step = 0.005
    x, y = np.meshgrid(*[np.arange(-1.3, 1.3, step, dtype=np.float32)] * 2)
    cos, sin = math.cos(angle), math.sin(angle)
    inside = figures.signed_distance(name, x * cos + y * sin, y * cos - x * sin) < 0
    drawn = [x[inside].min(), y[inside].min(), x[inside].max(), y[inside].max()]
    np.testing.assert_allclose(figures.extent(name, angle), drawn, atol=6 * step)
    assert max(np.abs(figures.extent(name, angle))) <= figures.MAX_RADIUS + 1e-6


@pytest.mark.parametrize("name", [*figures.CLASSES, *figures.LOOKALIKES])
def test_every_figure_is_a_solid_of_similar_size(name: str) -> None:
    x, y = np.meshgrid(*[np.linspace(-1.3, 1.3, 261, dtype=np.float32)] * 2)
    area = float((figures.signed_distance(name, x, y) < 0).mean()) * 2.6**2
    assert 0.9 < area < 3.2
    assert not (figures.signed_distance(name, x, y) < 0)[np.hypot(x, y) > figures.MAX_RADIUS].any()


def test_classes_and_lookalikes_are_apart() -> None:
    assert not set(figures.CLASSES) & set(figures.LOOKALIKES)
    assert {*figures.CLASSES, *figures.LOOKALIKES} == {*figures.POLYGONS, *figures.ROUND}
