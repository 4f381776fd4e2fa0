"""Images travel to loading processes of any start method without a file descriptor each."""

from __future__ import annotations

import pickle

import torch

from harness.data.images import FileImages


def test_kept_images_travel_as_one_tensor() -> None:
    kept = {3: torch.randint(256, (3, 4, 5)).byte(), 0: torch.randint(256, (3, 2, 2)).byte()}
    images = FileImages(["a", "b", "c", "d"], kept, "exif")
    state = images.__getstate__()
    assert sum(isinstance(value, torch.Tensor) for value in state.values()) == 1
    again = pickle.loads(pickle.dumps(images))
    assert (again.paths, again.orientation, set(again.kept)) == (images.paths, "exif", {0, 3})
    assert all(torch.equal(again[index], image) for index, image in kept.items())
    assert pickle.loads(pickle.dumps(FileImages(["a"]))).kept == {}
