"""Validation images of a run, from the data that its configuration names. torch is imported when one is wanted."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from harness.report.parts import Box, Picture
from harness.report.reading import UnreadableError
from harness.runs.schema import folder

_WIDEST = 520  # px of a picture on the page
_QUALITY = 82


@dataclass
class Images:
    """The validation split of one run; pictures are made of its images."""

    dataset: Any  # harness.data.dataset.DetectionDataset
    _decoded: dict[int | str, Any] = field(default_factory=dict)

    def picture(
        self, image_id: int | str, title: str, boxes: Sequence[Box], region: Sequence[float] | None = None
    ) -> Picture:
        """An image, or the region (x1, y1, x2, y2) px of it, with boxes that are given in pixels of the whole image."""
        image = self._image(image_id)
        left, top, right, bottom = _inside(region or (0, 0, image.width, image.height), image.width, image.height)
        part = image.crop((left, top, right, bottom))
        scale = min(1.0, _WIDEST / max(part.width, 1))
        if scale < 1:
            part = part.resize((max(1, round(part.width * scale)), max(1, round(part.height * scale))))
        packed = io.BytesIO()
        part.save(packed, "JPEG", quality=_QUALITY)
        moved = tuple(
            Box(
                (box.x - left) * scale, (box.y - top) * scale, box.width * scale, box.height * scale, box.kind, box.text
            )
            for box in boxes
        )
        return Picture(packed.getvalue(), part.width, part.height, title, moved)

    def _image(self, image_id: int | str) -> Any:
        from PIL import Image

        if image_id not in self._decoded:
            index = self.dataset.annotations.ids.index(image_id)
            self._decoded[image_id] = Image.fromarray(self.dataset.images[index].permute(1, 2, 0).contiguous().numpy())
        return self._decoded[image_id]


def _inside(region: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """A region in whole pixels, moved into the image where it reaches beyond, and cut only where it is larger."""
    left, top, right, bottom = (round(value) for value in region)
    across, down = right - left, bottom - top
    left, top = max(0, min(left, width - across)), max(0, min(top, height - down))
    return left, top, min(left + across, width), min(top + down, height)


def images_of(run: Path, fingerprint: str) -> Images:
    """The validation images of a run.

    Raises:
        UnreadableError: the data cannot be built, or are not those that the run was trained on; in one line.
    """
    from omegaconf import OmegaConf

    from harness.experiment.pieces import build

    try:
        # The data alone: a run whose sampler is a user's own class has pictures, too.
        node = OmegaConf.load(run / "config.yaml").data
        _refuse_foreign_code(node)
        if "on_bad" in node:
            node.on_bad = "drop"  # what is wrong with the data did not stop the run
        splits = build(node, "data")
    except UnreadableError:
        raise
    except Exception as error:  # whatever a data source raises, the report goes on without pictures
        raise UnreadableError(f"the data cannot be read ({' '.join(str(error).split())[:200]})") from None
    if splits.fingerprint != fingerprint:
        raise UnreadableError("the data have changed since the runs")
    return Images(splits.val)


def _refuse_foreign_code(node: Any, key: str = "data") -> None:
    """A report reads folders of strangers: their configuration must not name code to run."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and target not in _known_targets():
            raise UnreadableError(f"{key}._target_={target} is none of the harness's data sources")
        for name, inner in node.items():
            _refuse_foreign_code(inner, f"{key}.{name}")
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for i, inner in enumerate(node):
            _refuse_foreign_code(inner, f"{key}[{i}]")


@cache
def _known_targets() -> frozenset[str]:
    """The classes and functions that the options of ``conf/data`` and ``conf/augment`` name."""
    files = [path for group in ("data", "augment") for path in (folder("conf") / group).rglob("*.yaml")]
    return frozenset(
        target for path in files for target in re.findall(r"_target_:\s*([\w.]+)", path.read_text(encoding="utf-8"))
    )
