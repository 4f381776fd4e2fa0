"""Similarities of boxes as Gaussians: the center is the mean, half the sides are the standard deviations.

Unlike the IoU they tell how near a small object is that a candidate does not touch. Every similarity is ``(*, G, N)``
for objects ``(*, G, 4)`` and candidates ``(*, N, 4)``, px, without gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import Similarity
from harness.core.boxes import centers

EPS = 1e-6  # px, added to every side, and px^2, to the squared distance of the centers, as in the references


def wasserstein(objects: Tensor, candidates: Tensor) -> Tensor:
    """The squared 2-Wasserstein distance, px^2 (Wang et al. 2021, "A normalized Gaussian Wasserstein distance for tiny
    object detection", eq. 6)."""
    x, y, width, height = _center_form(candidates, -3)
    object_x, object_y, object_width, object_height = _center_form(objects, -2)
    distance = (object_width - width).square_().add_((object_height - height).square_()).div_(4)
    center = (object_x - x).square_().add_((object_y - y).square_()).add_(EPS)
    return distance.add_(center)


def divergence(objects: Tensor, candidates: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of the candidate from the object, >= 0 (Xu et al. 2022, "RFLA: Gaussian receptive
    field based label assignment for tiny object detection", eq. 7). Not symmetric: the object's sides divide."""
    x, y, width, height = _center_form(candidates, -3)
    object_x, object_y, object_width, object_height = _center_form(objects, -2)
    terms = [
        ((object_x - x) / object_width).square_().mul_(4),
        ((object_y - y) / object_height).square_().mul_(4),
    ]
    for side, object_side in ((width, object_width), (height, object_height)):
        ratio = (side / object_side).square_()
        terms += [ratio, ratio.log().neg_()]
    total = terms[0]
    for term in terms[1:]:
        total = total.add_(term)
    return total.sub_(2).div_(2)


def normalized_wasserstein(objects: Tensor, candidates: Tensor, constant: float) -> Tensor:
    """NWD, ``exp(-W / constant)`` in (0, 1] (Wang et al. 2021, eq. 7); ``constant`` in px."""
    return wasserstein(objects, candidates).sqrt_().div_(-constant).exp_()


# RFLA's metrics, by the names of its reference.
SIMILARITIES: dict[str, Similarity] = {
    "kl": lambda objects, candidates: 1 / (1 + divergence(objects, candidates)),
    "exp_kl": lambda objects, candidates: torch.exp(-divergence(objects, candidates) / 10),
    "kl_10": lambda objects, candidates: 1 / (10 + divergence(objects, candidates)),
    "wd": lambda objects, candidates: 1 / (1 + wasserstein(objects, candidates)),
}


def _center_form(boxes: Tensor, new_axis: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Center and sides of ``(*, M, 4)`` boxes, each ``(*, M)`` with the axis of the other boxes added."""
    x, y = centers(boxes).unsqueeze(new_axis).unbind(-1)
    width, height = (boxes[..., 2:] - boxes[..., :2] + EPS).unsqueeze(new_axis).unbind(-1)
    return x, y, width, height
