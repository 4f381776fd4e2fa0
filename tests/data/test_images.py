"""Every damaged, replaced or turned image is noticed before training, and named if it is damaged later."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness.data.images import BadImage, read_image
from harness.data.loading import train_loader
from harness.data.probing import probe
from harness.data.records import DataError
from harness.data.sources.voc import voc
from tests.data.conftest import WriteVoc, voc_object, write_image

CAT = voc_object("cat", 11, 6, 30, 25)


def picture(kind: str, size: tuple[int, int] = (60, 40)) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["png", "bmp", "webp", "jpeg"])
@pytest.mark.parametrize("cache_bytes", [0, 10**8])
def test_a_damaged_image_never_reaches_training(write_voc: WriteVoc, kind: str, cache_bytes: int) -> None:
    root = write_voc(dict.fromkeys("abc", CAT), {"train": ["a", "b"], "val": ["c"]})
    (root / "JPEGImages" / "b.jpg").unlink()
    data = bytearray(picture(kind))
    if kind == "png":  # whole at both ends
        data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    else:
        data = data[: len(data) // 2]
    (root / "JPEGImages" / f"b.{kind}").write_bytes(data)
    with pytest.raises(DataError, match=rf"b\.{kind}: image is truncated or corrupt"):
        voc(str(root), cache_bytes=cache_bytes)
    assert len(voc(str(root), cache_bytes=cache_bytes, on_bad="drop").train) == 1


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "RGBA"])
def test_pixels_of_every_mode_are_planes_of_their_own(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image"
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, format="jpeg" if mode in ("L", "CMYK") else "png")
    found = read_image(path)
    with Image.open(path) as image:
        expected = np.array([[image.convert("RGB").getpixel((x, y)) for x in range(7)] for y in range(5)])
    assert torch.equal(found, torch.tensor(expected, dtype=torch.uint8).permute(2, 0, 1))
    assert found.is_contiguous()
    found += 1  # the caller's own memory: NumPy would warn of an array that must not be written


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_is_damaged_later_is_named(write_voc: WriteVoc, num_workers: int) -> None:
    root = write_voc(dict.fromkeys("ab", CAT), {"train": ["a"], "val": ["b"]})
    splits = voc(str(root), cache_bytes=0)
    (root / "JPEGImages" / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(BadImage) as caught:
        list(train_loader(splits, batch_size=1, seed=0, iterations=1, num_workers=num_workers))
    message = str(caught.value)
    assert message == f"{root / 'JPEGImages' / 'a.jpg'}: not an image that can be read"


def test_images_replaced_in_place_are_other_data(write_voc: WriteVoc) -> None:
    root = write_voc(dict.fromkeys("ab", CAT), {"train": ["a"], "val": ["b"]})
    prints = {check: voc(str(root), check=check).fingerprint for check in ("full", "headers", "none")}  # type: ignore[arg-type]
    write_image(root / "JPEGImages" / "a.jpg", 60, 40, seed=9)
    for check, before in prints.items():
        assert voc(str(root), check=check).fingerprint != before  # type: ignore[arg-type]


def test_what_the_digest_covers(tmp_path: Path) -> None:
    data = bytearray(picture("bmp", (200, 100)))
    paths = [tmp_path / name for name in ("a.bmp", "b.bmp")]
    paths[0].write_bytes(data)
    data[len(data) // 2] ^= 1  # in the middle
    paths[1].write_bytes(data)
    assert probe(str(paths[0]), "full").digest != probe(str(paths[1]), "full").digest
    assert probe(str(paths[0]), "headers").digest == probe(str(paths[1]), "headers").digest
    opened = probe(str(paths[0]), "none")
    assert (opened.width, opened.digest) == (0, probe(str(paths[1]), "none").digest)


def test_without_a_look_the_size_is_read_where_it_is_not_written(write_voc: WriteVoc) -> None:
    root = write_voc(dict.fromkeys("ab", CAT), {"train": ["a"], "val": ["b"]})
    (root / "Annotations" / "a.xml").write_text(f"<annotation>{CAT}</annotation>")
    assert voc(str(root), check="none").train.annotations.sizes.tolist() == [[60, 40]]


def test_a_sliver_is_refused_by_name(write_voc: WriteVoc) -> None:
    root = write_voc(dict.fromkeys("ab", CAT), {"train": ["a"], "val": ["b"]})
    (root / "Annotations" / "a.xml").write_text("<annotation/>")
    Image.new("RGB", (1, 4000)).save(root / "JPEGImages" / "a.jpg")
    with pytest.raises(DataError, match=r"a.jpg: image of 1 x 4000 px: .* \(valid: sides of at most 256 to 1\)"):
        voc(str(root))


def turned(path: Path, tag: int) -> None:
    pixels = torch.arange(24, dtype=torch.uint8).reshape(4, 6).numpy() * 10
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(pixels).convert("RGB").save(path, quality=100, exif=exif)


@pytest.mark.parametrize("tag", range(1, 9))
def test_orientation(tmp_path: Path, tag: int) -> None:
    path = tmp_path / "a.jpg"
    turned(path, tag)
    stored, upright = read_image(path), read_image(path, "exif")
    assert stored.shape == (3, 4, 6)
    assert upright.shape == ((3, 6, 4) if tag >= 5 else (3, 4, 6))
    found = probe(str(path), "headers")
    assert (found.orientation, found.upright_size()) == (tag, (upright.shape[2], upright.shape[1]))
    if tag == 6:  # a camera that was held upright: the first column is what stands at the top
        assert torch.equal(upright, stored.rot90(-1, (1, 2)))


@pytest.mark.parametrize(
    ("size", "fits"), [((6, 4), "stored"), ((4, 6), "exif")], ids=["sizes as stored", "sizes as shown"]
)
def test_annotated_sizes_say_which_orientation_is_meant(write_voc: WriteVoc, size: Any, fits: str) -> None:
    root = write_voc(dict.fromkeys("ab", ""), {"train": ["a"], "val": ["b"]})
    for name in "ab":
        turned(root / "JPEGImages" / f"{name}.jpg", 6)
        xml = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>{voc_object('cat', 1, 1, 3, 3)}"
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{xml}</annotation>")
    splits = voc(str(root), orientation=fits)  # type: ignore[arg-type]
    assert splits.train[0][0].shape[1:] == size[::-1]
    assert "2 images carry an EXIF rotation" in splits.notes[0]
    other = "exif" if fits == "stored" else "stored"
    with pytest.raises(DataError, match=rf"it fits .*: data.orientation={fits}"):
        voc(str(root), orientation=other)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["JPEGImages/a.jpg", "Annotations/a.xml"])
def test_a_pipe_is_not_waited_for(write_voc: WriteVoc, place: str) -> None:
    root = write_voc(dict.fromkeys("ab", CAT), {"train": ["a"], "val": ["b"]})
    (root / place).unlink()
    os.mkfifo(root / place)
    with pytest.raises(DataError, match=r"a.jpg: not a file|a.xml: annotation is missing"):
        voc(str(root))
