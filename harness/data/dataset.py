"""The data set that training and evaluation read: images with torchvision's detection targets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from harness.data.images import Images
from harness.data.outlines import Outlines

Target = dict[str, Tensor]
DatasetItem = tuple[Tensor, Target]

NO_BOXES: npt.NDArray[np.float64] = np.empty((0, 4))
# What a target may hold. A source is marked with what it can give beside boxes (`harness.data.sources.yields`).
BOXES, MASKS, KEYPOINTS = "boxes", "masks", "keypoints"


@dataclass(frozen=True, slots=True, eq=False)
class Federated:
    """What LVIS knows about classes that were looked for in an image (Gupta et al., CVPR 2019, section 2).

    Labels of image i are ``negative[offsets[i]:offsets[i + 1]]``, and likewise for ``not_exhaustive``.
    """

    frequencies: tuple[str, ...]  # r, c or f (rare, common, frequent) of each of the K classes
    negative: npt.NDArray[np.int64]  # labels of classes that are absent from the image
    negative_offsets: npt.NDArray[np.int64]  # (N + 1,)
    not_exhaustive: npt.NDArray[np.int64]  # labels of classes of which objects may lack an annotation
    not_exhaustive_offsets: npt.NDArray[np.int64]  # (N + 1,)


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
    outlines: Outlines | None = None  # of the T objects
    keypoints: npt.NDArray[np.float64] | None = None  # (T, P, 3) x px, y px, visibility (0 none, 1 hidden, 2 visible)
    digests: npt.NDArray[np.uint8] | None = None  # (N, 16) of the image files
    federated: Federated | None = None

    def rows(self, index: int) -> slice:
        """The rows of image ``index``."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def without(self, left_out: npt.NDArray[np.bool_]) -> Annotations:
        """The same images without the objects in ``left_out`` (T,)."""
        keep = ~left_out
        kept_before = np.concatenate(([0], np.cumsum(keep)))
        return replace(
            self,
            offsets=kept_before[self.offsets],
            boxes=self.boxes[keep],
            labels=self.labels[keep],
            ignore=self.ignore[keep],
            difficult=self.difficult[keep],
            areas=self.areas[keep],
            outlines=None if self.outlines is None else self.outlines.chosen(keep),
            keypoints=None if self.keypoints is None else self.keypoints[keep],
        )


class DetectionDataset(Dataset[DatasetItem]):
    """Images with targets in torchvision's detection format.

    ``dataset[i]`` is (image, target): image uint8 (3, H, W); target holds boxes (n, 4) float32 xyxy px inside the
    image, none of them degenerate; labels (n,) int64 in 1..K (0 is background); image_id (), int64; iscrowd (n,) int64,
    1 for crowd regions and difficult objects, which are never objects (background unless the assigner ignores them, see
    :class:`~harness.core.structures.GroundTruth`); area (n,) float32 px^2. Where they are asked for, masks (n, H, W)
    uint8 and keypoints (n, P, 3) float32 (x px, y px, visibility 0 to 2). Tensors belong to the caller.

    Args:
        annotations: the objects.
        images: as many images, in the same order.
        classes: the K class names.
        category_ids: the annotation file's own id of each class; 1..K by default.
        background: by image id, boxes (m, 4) float64 xyxy px that are known to hold no object. They stand behind the
            objects, with label 0, so that whatever moves the objects moves them.
        hard: by image id, which of its objects a detector missed, their places; the targets then have ``hard (n,)``
            int64, 1 for these. ``None``: no such key.
        parts: which of masks and keypoints the targets hold beside the boxes.
        keypoint_names: of the P keypoints.

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
        parts: Collection[str] = (BOXES,),
        keypoint_names: Sequence[str] = (),
        hard: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        if len(images) != len(annotations.ids):
            raise ValueError(f"images: {len(images)} given for {len(annotations.ids)} annotated images")
        self.annotations = annotations
        self.images = images
        self.classes = tuple(classes)
        self.category_ids = tuple(range(1, len(self.classes) + 1)) if category_ids is None else tuple(category_ids)
        self.background = dict(background or {})
        self.hard = None if hard is None else dict(hard)
        self.parts = frozenset(parts) | {BOXES}
        self.keypoint_names = tuple(keypoint_names)

    @property
    def keypoint_mirror(self) -> tuple[int, ...]:
        """Position of each keypoint's twin under a left-right flip: where one name says left, the other says right."""
        twins = [_mirrored(name) for name in self.keypoint_names]
        position = {name: index for index, name in enumerate(self.keypoint_names)}
        return tuple(position.get(twin, index) for index, twin in enumerate(twins))

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
        target = {
            "boxes": torch.from_numpy(fit_boxes(boxes, *notes.sizes[index])),
            "labels": torch.from_numpy(np.pad(notes.labels[rows], behind)),
            "image_id": torch.tensor(notes.ids[index]),
            "iscrowd": torch.from_numpy(np.pad(notes.ignore[rows].astype(np.int64), behind)),
            "area": torch.from_numpy(areas.astype(np.float32)),
        }
        if self.hard is not None:
            target["hard"] = torch.zeros_like(target["iscrowd"])
            target["hard"][list(self.hard.get(notes.ids[index], ()))] = 1
        if MASKS in self.parts:
            assert notes.outlines is not None  # Splits.yielding refuses data without them
            width, height = notes.sizes[index].tolist()
            masks = notes.outlines.masks(rows, height, width)
            target["masks"] = torch.from_numpy(np.pad(masks, (behind, (0, 0), (0, 0))))
        if KEYPOINTS in self.parts:
            assert notes.keypoints is not None
            keypoints = notes.keypoints[rows].astype(np.float32)
            target["keypoints"] = torch.from_numpy(np.pad(keypoints, (behind, (0, 0), (0, 0))))
        return target

    def with_mined(
        self,
        background: Mapping[int, npt.NDArray[np.float64]],
        hard: Mapping[int, Sequence[int]] | None = None,
    ) -> DetectionDataset:
        """The same images with these background boxes and hard objects, instead of those that it had."""
        return self._like(self.annotations, background, self.parts, hard)

    def with_parts(self, annotations: Annotations, parts: Collection[str]) -> DetectionDataset:
        """The same images whose targets hold ``parts`` of ``annotations``."""
        return self._like(annotations, self.background, parts, self.hard)

    def _like(
        self,
        annotations: Annotations,
        background: Mapping[int, npt.NDArray[np.float64]],
        parts: Collection[str],
        hard: Mapping[int, Sequence[int]] | None,
    ) -> DetectionDataset:
        return DetectionDataset(
            annotations, self.images, self.classes, self.category_ids, background, parts, self.keypoint_names, hard
        )


def fit_boxes(boxes: npt.NDArray[np.float64], width: int, height: int) -> npt.NDArray[np.float32]:
    """Boxes (n, 4) cut at the image's edges, in the precision that training sees."""
    return boxes.clip(0, np.array([width, height, width, height])).astype(np.float32)


def _mirrored(name: str) -> str:
    swapped = name.replace("left", "\0").replace("right", "left")
    return swapped.replace("\0", "right")
