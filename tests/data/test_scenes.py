from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from harness.data.drawing import scenes
from harness.data.drawing.figures import CLASSES
from harness.data.drawing.scenes import Scene, SceneRecipe, draw_scene

RECIPE = SceneRecipe(image_size=96, objects=(2, 7), lookalikes=(0, 3), size=(8, 22), crowding=0.3, imbalance=1.0)


def draw(count: int, recipe: SceneRecipe = RECIPE) -> list[Scene]:
    return [draw_scene(np.random.default_rng([0, index]), recipe) for index in range(count)]


def test_a_scene_depends_on_its_generator_alone() -> None:
    for first, second in zip(draw(3), draw(3), strict=True):
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.boxes, second.boxes)
    assert not np.array_equal(draw(2)[0].image, draw(2)[1].image)


def test_scenes_are_well_formed() -> None:
    for scene in draw(40):
        assert scene.image.shape == (3, 96, 96)
        assert scene.image.dtype == np.uint8
        assert scene.boxes.dtype == np.float32
        assert scene.labels.dtype == np.int64
        assert len(scene.boxes) == len(scene.labels) <= 7
        assert ((scene.labels >= 1) & (scene.labels <= len(CLASSES))).all()
        assert ((scene.boxes >= 0) & (scene.boxes <= 96)).all()
        assert (scene.boxes[:, 2:] - scene.boxes[:, :2] > 3).all()


def test_the_box_is_where_the_figure_is() -> None:
    """Against the same scene without its figure: all random numbers before the figure's own are equal."""
    recipe = replace(RECIPE, objects=(1, 1), lookalikes=(0, 0), size=(14, 14))
    agreeing = 0
    for index in range(30):
        scene = draw_scene(np.random.default_rng(index), recipe)
        x1, y1, x2, y2 = scene.boxes[0].round().astype(int)
        ring = np.ones((96, 96), dtype=bool)
        ring[max(y1 - 4, 0) : y2 + 4, max(x1 - 4, 0) : x2 + 4] = False
        middle = scene.image[:, y1:y2, x1:x2].reshape(3, -1).astype(float)
        around = scene.image[:, ring].astype(float)
        agreeing += np.linalg.norm(middle.mean(axis=1) - around.mean(axis=1)) > 20
    assert agreeing >= 27


def test_hidden_figures_carry_no_box(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = [
        scenes._Figure("square", 48, 48, 10, 0.0),
        scenes._Figure("star", 20, 20, 10, 0.0),
        scenes._Figure("disc", 48, 48, 20, 0.0),
    ]
    monkeypatch.setattr(scenes, "_place", lambda rng, recipe: layout)
    scene = draw_scene(np.random.default_rng(0), RECIPE)
    assert [CLASSES[label - 1] for label in scene.labels] == ["star", "disc"]
    np.testing.assert_allclose(scene.boxes[1], [29, 29, 67, 67], atol=1e-4)


def test_boxes_are_amodal_and_cut_at_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = [scenes._Figure("disc", 40, 5, 20, 0.0), scenes._Figure("bar", 40, 12, 10, 0.0)]
    monkeypatch.setattr(scenes, "_place", lambda rng, recipe: layout)
    scene = draw_scene(np.random.default_rng(0), RECIPE)
    np.testing.assert_allclose(scene.boxes, [[21, 0, 59, 24]], atol=1e-4)


@pytest.mark.parametrize("imbalance", [0.0, 1.0, 2.0])
def test_classes_come_in_their_shares(imbalance: float) -> None:
    recipe = replace(RECIPE, imbalance=imbalance)
    rng = np.random.default_rng(1)
    names = [f.name for _ in range(800) for f in scenes._place(rng, recipe) if f.name in CLASSES]
    found = np.array([names.count(name) for name in CLASSES]) / len(names)
    np.testing.assert_allclose(found, recipe.class_shares(), atol=0.03)
    assert recipe.class_shares()[0] == pytest.approx({0.0: 1 / 6, 1.0: 0.30, 2.0: 0.09 / 0.2026}[imbalance], abs=1e-3)


def test_figures_stand_out_from_what_they_are_painted_on() -> None:
    rng = np.random.default_rng(0)
    for under in rng.uniform(0, 1, (300, 3)).astype(np.float32):
        assert np.linalg.norm(scenes._color(rng, under) - under) >= scenes.MIN_CONTRAST


def test_counts_sizes_and_crowding_follow_the_recipe() -> None:
    rng = np.random.default_rng(0)
    recipe = replace(RECIPE, objects=(3, 4), lookalikes=(1, 1), size=(5, 9))
    layouts = [scenes._place(rng, recipe) for _ in range(300)]
    assert {len(layout) for layout in layouts} == {4, 5}
    radii = [figure.radius for layout in layouts for figure in layout]
    assert min(radii) >= 5
    assert max(radii) <= 9
    assert float(np.median(radii)) == pytest.approx(np.sqrt(45), rel=0.04)  # log-uniform: the geometric mean

    def touching(crowding: float) -> float:
        close = total = 0
        for _ in range(200):
            layout = scenes._place(rng, replace(recipe, crowding=crowding))
            for a, b in pairwise(layout):
                close += np.hypot(a.x - b.x, a.y - b.y) <= 1.1 * (a.radius + b.radius)
                total += 1
        return close / total

    assert touching(1.0) > 0.9
    assert touching(0.0) < 0.2
