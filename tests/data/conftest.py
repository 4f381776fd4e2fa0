"""Small data sets on disk, and the real one where it is at hand."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data.sources.shapes import shapes
from harness.data.splits import Splits

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def scene_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="session")
def scenes30(scene_cache: str) -> Splits:
    return shapes(image_size=96, num_train=30, num_val=8, size=(6, 20), cache_dir=scene_cache)


@pytest.fixture(scope="session")
def bccd() -> str:
    folder = Path(os.environ.get("HARNESS_BCCD") or REPOSITORY.parent / "shared" / "data" / "bccd")
    if not (folder / "Annotations").is_dir():
        pytest.skip(f"BCCD is not at {folder}; set HARNESS_BCCD")
    return str(folder)


def write_image(path: Path, width: int, height: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG" if path.suffix.lower() == ".png" else "JPEG")


def voc_object(name: str, *corners: float, extra: str = "<difficult>0</difficult>") -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{value:g}</{key}>" for key, value in zip(keys, corners, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


WriteVoc = Callable[..., Path]


@pytest.fixture
def write_voc(tmp_path: Path) -> WriteVoc:
    """write_voc({name: objects' XML}, {split: names}) makes a VOC folder of 60 x 40 px images."""

    def write(annotations: dict[str, str], lists: dict[str, list[str]], suffix: str = ".jpg") -> Path:
        root = tmp_path / "voc"
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for seed, (name, objects) in enumerate(annotations.items()):
            size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
            (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
            write_image(root / "JPEGImages" / f"{name}{suffix}", 60, 40, seed)
        for split, names in lists.items():
            (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        return root

    return write


WriteCoco = Callable[..., Path]


@pytest.fixture
def write_coco(tmp_path: Path) -> WriteCoco:
    """write_coco(train=..., val=...) writes COCO files; each is a dict whose images are given as {id: (w, h)}."""

    def write(**splits: dict[str, Any]) -> Path:
        root = tmp_path / "coco"
        for split, content in splits.items():
            images = []
            for seed, (key, (width, height)) in enumerate(content["images"].items()):
                file_name = f"{key}.jpg"
                write_image(root / split / file_name, width, height, seed)
                images.append({"id": key, "file_name": file_name, "width": width, "height": height})
            path = root / f"{split}.json"
            path.write_text(json.dumps({**content, "images": images}))
        return root

    return write


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared annotations of the tests' data stay out of the user's cache."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
