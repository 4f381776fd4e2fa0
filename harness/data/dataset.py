"""The data set that training and evaluation read: images with torchvision's detection targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from harness.data.images import Images
from harness.data.records import ImageRecord

Target = dict[str, Tensor]
DatasetItem = tuple[Tensor, Target]

NO_BOXES: npt.NDArray[np.float64] = np.empty((0, 4))


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """All objects of a split in columns, those of image i in rows offsets[i]:offsets[i + 1].

    Columns rather than objects: a hundred thousand images stay a few megabytes that loader workers share untouched.
    """

    offsets: npt.NDArray[np.int64]  # (N + 1,)
    boxes: npt.NDArray[np.float64]  # (T, 4) xyxy px, as annotated
    labels: npt.NDArray[np.int64]  # (T,) 1..K
    ignore: npt.NDArray[np.bool_]  # (T,) crowd or difficult: never objects, see GroundTruth
    difficult: npt.NDArray[np.bool_]  # (T,)
    areas: npt.NDArray[np.float64]  # (T,) px^2
    ids: tuple[int, ...]  # of the N images, as all that follows
    source_ids: tuple[int | str, ...]
    files: tuple[str, ...]
    sizes: npt.NDArray[np.int64]  # (N, 2) width, height

    def rows(self, index: int) -> slice:
        """The rows of image ``index``."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))


def columns(images: Sequence[ImageRecord], classes: Sequence[str]) -> Annotations:
    """Checked records as columns; ``classes`` gives the order of the labels, the first one is 1."""
    label = {name: number for number, name in enumerate(classes, start=1)}
    objects = [entry for image in images for entry in image.objects]
    boxes = np.array([entry.box for entry in objects], dtype=np.float64).reshape(-1, 4)
    box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    own_areas = np.array([np.nan if entry.area is None else entry.area for entry in objects], dtype=np.float64)
    return Annotations(
        offsets=np.cumsum([0] + [len(image.objects) for image in images], dtype=np.int64),
        boxes=boxes,
        labels=np.array([label[entry.name] for entry in objects], dtype=np.int64),
        ignore=np.array([entry.crowd or entry.difficult for entry in objects], dtype=bool),
        difficult=np.array([entry.difficult for entry in objects], dtype=bool),
        areas=np.where(np.isnan(own_areas), box_areas, own_areas),
        ids=tuple(image.id for image in images),
        source_ids=tuple(image.source_id for image in images),
        files=tuple(image.file for image in images),
        sizes=np.array([(image.width, image.height) for image in images], dtype=np.int64).reshape(-1, 2),
    )


class DetectionDataset(Dataset[DatasetItem]):
    """Images with targets in torchvision's detection format.

    ``dataset[i]`` is (image, target): image uint8 (3, H, W); target holds boxes (n, 4) float32 xyxy px inside the
    image, none of them degenerate; labels (n,) int64 in 1..K (0 is background); image_id (), int64; iscrowd (n,) int64,
    1 for crowd regions and difficult objects, which are never objects (background unless the assigner ignores them, see
    :class:`~harness.core.structures.GroundTruth`); area (n,) float32 px^2. Tensors belong to the
    caller.

    Args:
        annotations: the objects.
        images: as many images, in the same order.
        classes: the K class names.
        category_ids: the annotation file's own id of each class; 1..K by default.
        background: by image id, boxes (m, 4) float64 xyxy px that are known to hold no object. They stand behind the
            objects, with label 0, so that whatever moves the objects moves them.

    Raises:
        ValueError: not as many images as annotated ones.
    """

    def __init__(
        self,
        annotations: Annotations,
        images: Images,
        classes: Sequence[str],
        category_ids: Sequence[int | str] | None = None,
        background: Mapping[int, npt.NDArray[np.float64]] | None = None,
    ) -> None:
        if len(images) != len(annotations.ids):
            raise ValueError(f"images: {len(images)} given for {len(annotations.ids)} annotated images")
        self.annotations = annotations
        self.images = images
        self.classes = tuple(classes)
        self.category_ids = tuple(range(1, len(self.classes) + 1)) if category_ids is None else tuple(category_ids)
        self.background = dict(background or {})

    def __len__(self) -> int:
        return len(self.annotations.ids)

    def __getitem__(self, index: int) -> DatasetItem:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of a data set of {len(self)} images")
        return self.images[index], self.target(index)

    def target(self, index: int) -> Target:
        """The target of image ``index`` without reading the image."""
        notes = self.annotations
        rows = notes.rows(index)
        extra = self.background.get(notes.ids[index], NO_BOXES)
        boxes = np.concatenate((notes.boxes[rows], extra))
        areas = np.concatenate((notes.areas[rows], (extra[:, 2:] - extra[:, :2]).prod(1)))
        behind = (0, len(extra))
        return {
            "boxes": torch.from_numpy(fit_boxes(boxes, *notes.sizes[index])),
            "labels": torch.from_numpy(np.pad(notes.labels[rows], behind)),
            "image_id": torch.tensor(notes.ids[index]),
            "iscrowd": torch.from_numpy(np.pad(notes.ignore[rows].astype(np.int64), behind)),
            "area": torch.from_numpy(areas.astype(np.float32)),
        }

    def with_background(self, background: Mapping[int, npt.NDArray[np.float64]]) -> DetectionDataset:
        """The same images with these background boxes, instead of those that it had."""
        return DetectionDataset(self.annotations, self.images, self.classes, self.category_ids, background)


def fit_boxes(boxes: npt.NDArray[np.float64], width: int, height: int) -> npt.NDArray[np.float32]:
    """Boxes (n, 4) cut at the image's edges, in the precision that training sees."""
    return boxes.clip(0, np.array([width, height, width, height])).astype(np.float32)
