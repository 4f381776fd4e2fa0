import logging
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.drawing import scenes
from harness.data.images import ArrayImages
from harness.data.records import DataError
from harness.data.sources import shapes
from harness.data.splits import Splits

SMALL = {"image_size": 64, "num_train": 6, "num_val": 3, "size": (5, 12)}


def same(first: Splits, second: Splits) -> bool:
    return first.fingerprint == second.fingerprint and all(
        torch.equal(a.images[i], b.images[i])
        for a, b in ((first.train, second.train), (first.val, second.val))
        for i in range(len(a))
    )


def test_splits_in_torchvisions_format(scenes30: Splits) -> None:
    assert (len(scenes30.train), len(scenes30.val)) == (30, 8)
    assert scenes30.classes == ("disc", "square", "triangle", "plus", "star", "ring")
    image, target = scenes30.train[3]
    assert (image.dtype, tuple(image.shape)) == (torch.uint8, (3, 96, 96))
    assert {key: value.dtype for key, value in target.items()} == {
        "boxes": torch.float32,
        "labels": torch.int64,
        "image_id": torch.int64,
        "iscrowd": torch.int64,
        "area": torch.float32,
    }
    assert int(target["image_id"]) == 3
    sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
    torch.testing.assert_close(target["area"], sides.prod(dim=1))


def test_drawn_once_then_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shapes.shapes(**SMALL, cache_dir=str(tmp_path))
    monkeypatch.setattr(scenes, "draw_scene", None)
    assert same(first, shapes.shapes(**SMALL, cache_dir=str(tmp_path)))


def test_the_same_scenes_in_any_cache(tmp_path: Path) -> None:
    assert same(
        shapes.shapes(**SMALL, cache_dir=str(tmp_path / "a")), shapes.shapes(**SMALL, cache_dir=str(tmp_path / "b"))
    )


def test_more_images_begin_with_the_same_ones(tmp_path: Path) -> None:
    few = shapes.shapes(**SMALL, cache_dir=str(tmp_path))
    more = shapes.shapes(**{**SMALL, "num_train": 9}, cache_dir=str(tmp_path))
    assert all(torch.equal(few.train.images[i], more.train.images[i]) for i in range(6))
    assert not torch.equal(few.train.images[0], few.val.images[0])
    assert few.fingerprint != more.fingerprint


@pytest.mark.parametrize(
    "knob",
    [{"draw_seed": 1}, {"objects": (1, 1)}, {"lookalikes": (3, 3)}, {"crowding": 1.0}, {"size": (9, 12)},
     {"image_size": 80}, {"imbalance": 0.0}, {"label_noise": 1.0}],
    ids=str,
)  # fmt: skip
def test_every_knob_makes_other_data(scene_cache: str, knob: dict) -> None:
    base = shapes.shapes(**SMALL, cache_dir=scene_cache)
    assert shapes.shapes(**{**SMALL, **knob}, cache_dir=scene_cache).fingerprint != base.fingerprint


def test_label_noise_is_in_the_training_labels_only(scene_cache: str) -> None:
    sizes = {"image_size": 64, "num_train": 150, "num_val": 3, "size": (5, 12), "cache_dir": scene_cache}
    clean, noisy = shapes.shapes(**sizes), shapes.shapes(**sizes, label_noise=0.4)
    changed = clean.train.annotations.labels != noisy.train.annotations.labels
    # A label that is drawn at random stays what it was one time in six.
    assert changed.mean() == pytest.approx(0.4 * 5 / 6, abs=0.07)
    np.testing.assert_array_equal(clean.val.annotations.labels, noisy.val.annotations.labels)
    np.testing.assert_array_equal(clean.train.annotations.boxes, noisy.train.annotations.boxes)


def _build(cache: str, barrier, queue) -> None:
    barrier.wait()
    queue.put(shapes.shapes(**SMALL, cache_dir=cache).fingerprint)


def test_two_processes_may_draw_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_build, args=(str(tmp_path), barrier, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert queue.get(timeout=60) == queue.get(timeout=60)
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert len(list(tmp_path.iterdir())) == 2  # train and val; nothing half done


def test_the_slower_of_two_keeps_the_others_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = shapes._draw

    def overtaken(work: Path, *rest: object) -> None:
        draw(work, *rest)
        monkeypatch.setattr(shapes, "_draw", draw)
        shapes.shapes(**SMALL, cache_dir=str(tmp_path))

    monkeypatch.setattr(shapes, "_draw", overtaken)
    shapes.shapes(**SMALL, cache_dir=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "killed"])
def test_an_interrupted_drawing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    draw_scene = scenes.draw_scene
    drawn = []

    def fail(*args: object) -> scenes.Scene:
        drawn.append(1)
        if len(drawn) == 4:
            raise error
        return draw_scene(*args)

    monkeypatch.setattr(scenes, "draw_scene", fail)
    with pytest.raises(DataError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        shapes.shapes(**SMALL, cache_dir=str(tmp_path))
    if isinstance(error, OSError):
        assert "No space left" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cache_dir: .*file.* cannot be written"):
        shapes.shapes(**SMALL, cache_dir=str(tmp_path / "file"))


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    shapes.shapes(**SMALL, cache_dir=str(tmp_path))
    images = next(tmp_path.glob("shapes-train-*/images.npy"))
    images.write_bytes(images.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"shapes-train-\w+ is damaged .*delete it"):
        shapes.shapes(**SMALL, cache_dir=str(tmp_path))


def test_old_half_drawn_folders_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".drawing-1-aa").mkdir()
    shapes._sweep(tmp_path)
    assert list(tmp_path.iterdir())  # perhaps at work
    monkeypatch.setattr(shapes, "_ABANDONED", -1.0)
    shapes._sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert shapes.cache_folder("/given") == Path("/given")
    assert shapes.cache_folder(None) == tmp_path / "own"
    monkeypatch.delenv("HARNESS_CACHE")
    assert shapes.cache_folder(None) == tmp_path / "xdg" / "harness"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert shapes.cache_folder(None) == Path.home() / ".cache" / "harness"


def test_drawing_is_announced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="harness.data.sources.shapes"):
        shapes.shapes(**SMALL, cache_dir=str(tmp_path))
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "drawing 6 train scenes",
        "drawing 3 val scenes",
    ]


def test_pickled_images_are_mapped_again(scenes30: Splits) -> None:
    images = scenes30.train.images
    assert isinstance(images, ArrayImages)
    data = pickle.dumps(images)
    assert len(data) < 1000
    assert torch.equal(pickle.loads(data)[5], images[5])
    images[5].fill_(0)
    assert images[5].any()  # what is handed out is the caller's own


@pytest.mark.parametrize(
    ("knob", "message"),
    [
        ({"image_size": 8}, "image_size=8 must be a whole number of at least 32"),
        ({"num_train": 0}, "num_train=0 must be a whole number of at least 1"),
        ({"objects": (5, 2)}, "objects=(5, 2) must be [fewest, most]"),
        ({"lookalikes": (-1, 2)}, "lookalikes=(-1, 2) must be [fewest, most]"),
        ({"size": (1, 4)}, "size=(1, 4) must be"),
        ({"size": (8, 40)}, "size=(8, 40) must be [smallest, largest] between 2 and 32"),
        ({"crowding": 1.5}, "crowding=1.5 must be between 0 and 1"),
        ({"label_noise": float("nan")}, "label_noise=nan must be between 0 and 1"),
        ({"imbalance": -1}, "imbalance=-1 must be at least 0"),
    ],
)
def test_bad_knobs_are_refused_in_one_line(knob: dict, message: str, scene_cache: str) -> None:
    with pytest.raises(ValueError) as caught:
        shapes.shapes(**{**SMALL, **knob}, cache_dir=scene_cache)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
