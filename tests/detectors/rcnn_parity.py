"""Scenes for the two-stage detectors, and torchvision's step over the very candidates that ours has sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.criterion.stage import Selection

Target = dict[str, Tensor]
Losses = dict[str, Tensor]


def target(boxes: Sequence[Sequence[float]], size: int, num_classes: int, keypoints: int) -> Target:
    """Boxes with labels 1, 2, ..., filled rectangles as masks, and keypoints on the diagonal."""
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    rows = torch.arange(size).float() + 0.5
    inside_x = (rows >= tensor[:, :1]) & (rows <= tensor[:, 2:3])
    inside_y = (rows >= tensor[:, 1:2]) & (rows <= tensor[:, 3:4])
    share = torch.linspace(0.1, 0.9, keypoints)
    points = tensor[:, None, :2] + (tensor[:, None, 2:] - tensor[:, None, :2]) * share[None, :, None]
    return {
        "boxes": tensor,
        "labels": torch.arange(len(tensor)) % (num_classes - 1) + 1,
        "masks": (inside_y[:, :, None] & inside_x[:, None, :]).to(torch.uint8),
        "keypoints": torch.cat((points, torch.ones_like(points[..., :1])), -1),
    }


def scenes(size: int, num_classes: int, keypoints: int = 17) -> dict[str, tuple[list[Tensor], list[Target]]]:
    """Named batches of two images: ordinary, without objects, crowded, one-pixel boxes."""
    generator = torch.Generator().manual_seed(3)
    images = [torch.rand(3, size, size, generator=generator) for _ in range(2)]
    some = [[4.0, 6.0, size * 0.45, size * 0.5], [size * 0.5, size * 0.3, size - 3.0, size * 0.9]]
    corners = torch.rand(40, 2, generator=generator) * size * 0.6
    sides = torch.rand(40, 2, generator=generator) * size * 0.35 + 3
    crowded = torch.cat((corners, corners + sides), 1).tolist()
    pixels = [[10.0, 10.0, 11.0, 11.0], [30.5, 20.25, 31.5, 21.25]]

    def batch(*boxes: Sequence[Sequence[float]]) -> tuple[list[Tensor], list[Target]]:
        return images, [target(image, size, num_classes, keypoints) for image in boxes]

    return {
        "ordinary": batch(some, some[:1]),
        "one image without objects": batch([], some),
        "no objects": batch([], []),
        "crowded": batch(crowded, crowded[:7]),
        "one-pixel boxes": batch(pixels, some + pixels[:1]),
    }


class Recorder:
    """An observer that keeps the selections by stage."""

    def __init__(self) -> None:
        self.selections: dict[str, Selection] = {}

    def __call__(self, stage: str, selection: Selection) -> None:
        self.selections[stage] = selection


class Replay:
    """In the place of torchvision's sampler: takes exactly what ``selection`` took."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        sample, valid = self.selection.sample, self.selection.candidates.valid
        positives, negatives = [], []
        for image, label in enumerate(labels):
            assert len(label) == int(valid[image].sum())
            marks = []
            for chosen in (sample.positive[image], sample.negative[image]):
                mask = torch.zeros(valid.shape[1], dtype=torch.uint8)
                mask[sample.index[image][chosen]] = 1
                marks.append(mask[valid[image]])
            positives.append(marks[0])
            negatives.append(marks[1])
        return positives, negatives


def step(model: nn.Module, images: list[Tensor], targets: list[Target]) -> tuple[Losses, dict[str, Tensor]]:
    """Losses and gradients of one training step."""
    model.zero_grad(set_to_none=True)
    losses = model(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: loss.detach() for name, loss in losses.items()}, gradients


def replayed(model: Any, recorder: Recorder, run: Callable[[], Any]) -> Any:
    """``run()`` while the torchvision ``model`` samples what ``recorder`` saw."""
    parts = {"rpn": model.rpn, "roi": model.roi_heads}
    samplers = {stage: part.fg_bg_sampler for stage, part in parts.items()}
    try:
        for stage, part in parts.items():
            part.fg_bg_sampler = Replay(recorder.selections[stage])
        return run()
    finally:
        for stage, part in parts.items():
            part.fg_bg_sampler = samplers[stage]


def assert_same(
    ours: tuple[Losses, dict[str, Tensor]], theirs: tuple[Losses, dict[str, Tensor]], gradient_tolerance: float
) -> None:
    """Losses within 1e-6 relative; each gradient within ``gradient_tolerance`` of its largest entry's size."""
    assert ours[0].keys() == theirs[0].keys()
    for name, loss in theirs[0].items():
        torch.testing.assert_close(ours[0][name], loss, rtol=1e-6, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")
    for name in ours[1].keys() | theirs[1].keys():
        zero = torch.zeros(())
        own, host = ours[1].get(name, zero), theirs[1].get(name, zero)
        difference, scale = float((own - host).abs().max()), float(host.abs().max())
        assert difference <= gradient_tolerance * scale + 1e-8, f"{name}: {difference} of {scale}"
