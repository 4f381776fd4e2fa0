"""Figures and pictures of a report as Weights & Biases shows them: plotly figures, tables of images with boxes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

KINDS = {"found": 1, "false": 2, "missed": 3, "object": 4, "ignored": 5}  # of a box; W&B gives each id a color


class Plotted(Protocol):
    """A figure of a report."""

    @property
    def key(self) -> str:
        """Its unique name, with slashes between its parts."""

    @property
    def plot(self) -> Any:
        """The plotly figure."""


class Pictured(Protocol):
    """Rows of pictures with boxes."""

    @property
    def key(self) -> str:
        """Its unique name."""

    @property
    def rows(self) -> Sequence[tuple[str, Sequence[Any]]]:
        """What a row shows, and its pictures (jpeg, width, height, title, boxes)."""


def report_values(figures: Sequence[Plotted], galleries: Sequence[Pictured]) -> Iterator[tuple[str, Any]]:
    """Key and value of everything to log. A gallery is a table, one row of it a row: pairs stay side by side."""
    import wandb

    for figure in figures:
        yield f"figures/{figure.key}", wandb.Plotly(figure.plot)
    for gallery in galleries:
        most = max((len(pictures) for _, pictures in gallery.rows), default=0)
        table = wandb.Table(columns=["shown", *(f"picture {i + 1}" for i in range(most))])
        for told, pictures in gallery.rows:
            images = [_image(picture) for picture in pictures]
            table.add_data(told, *images, *[None] * (most - len(images)))
        yield f"pictures/{gallery.key}", table


def _image(picture: Any) -> Any:
    import wandb
    from PIL import Image

    names = {number: kind for kind, number in KINDS.items()}
    boxes = [
        {
            "position": {"minX": box.x, "minY": box.y, "maxX": box.x + box.width, "maxY": box.y + box.height},
            "domain": "pixel",
            "class_id": KINDS[box.kind],
            "box_caption": f"{box.kind}: {box.text}",
        }
        for box in picture.boxes
    ]
    layers = {"predictions": {"box_data": boxes, "class_labels": names}} if boxes else None
    return wandb.Image(Image.open(io.BytesIO(picture.jpeg)), caption=picture.title, boxes=layers)
