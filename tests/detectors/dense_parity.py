"""What torchvision's own loss and an equipped twin's are compared on, and how."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from harness.detectors.equip import equip

Target = dict[str, Tensor]
LOSS = 1e-6  # relative
# Relative to a parameter's largest gradient. In float32 the rounding of two orders of summation, amplified where a
# parameter's gradient is the small difference of large ones, is what remains; in doubles nothing does.
GRADIENT = {torch.float32: 1e-4, torch.float64: 1e-6}

SCENES = ("ordinary", "one without an object", "all without an object", "crowded", "one-pixel boxes")


def images(height: int = 96, width: int = 128, count: int = 2, seed: int = 0) -> list[Tensor]:
    """Images of slightly different sizes, so that a batch is padded."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, height, width - 16 * i, generator=generator) for i in range(count)]


def scene(kind: str, classes: int = 5, height: int = 96, width: int = 112, seed: int = 1) -> list[Target]:
    """The targets of two images; labels count from 1."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "one without an object":
        return [
            _objects(0, 0, 0, generator, classes, height, width),
            _objects(4, 8, 60, generator, classes, height, width),
        ]
    if kind == "all without an object":
        return [_objects(0, 0, 0, generator, classes, height, width) for _ in range(2)]
    count, low, high = {"ordinary": (4, 10, 80), "crowded": (60, 12, 40), "one-pixel boxes": (6, 1, 1)}[kind]
    return [_objects(count - i, low, high, generator, classes, height, width) for i in range(2)]


def _objects(
    count: int, low: float, high: float, generator: torch.Generator, classes: int, height: int, width: int
) -> Target:
    size = low + (high - low) * torch.rand(count, 2, generator=generator)
    corner = torch.rand(count, 2, generator=generator) * (torch.tensor([width, height]) - size).clamp(min=0)
    labels = torch.randint(1, classes + 1, (count,), generator=generator)
    return {"boxes": torch.cat((corner, corner + size), 1), "labels": labels}


def losses_and_gradients(
    model: nn.Module, batch: list[Tensor], targets: list[Target], seed: int = 2
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One training step without the step."""
    model.train()
    model.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    losses = model(batch, targets)
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: loss.detach() for name, loss in losses.items()}, gradients


def assert_same_training(host: nn.Module, twin: nn.Module, batch: list[Tensor], targets: list[Target]) -> None:
    """The twin's named losses and all gradients are the host's."""
    expected, expected_gradients = losses_and_gradients(host, batch, targets)
    losses, gradients = losses_and_gradients(twin, batch, targets)
    assert list(losses) == list(expected)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=LOSS, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")
    bound, noise = GRADIENT[batch[0].dtype], torch.finfo(batch[0].dtype).eps
    largest = max(float(gradient.abs().max()) for gradient in expected_gradients.values())
    # A parameter without a gradient and one with a gradient of zero learn the same.
    for name in expected_gradients.keys() | gradients.keys():
        zero = torch.zeros(())
        first, second = expected_gradients.get(name, zero), gradients.get(name, zero)
        difference, size = (first - second).abs().max(), first.abs().max()
        assert difference <= bound * size + noise * largest, f"{name}: {difference / size}"


def assert_same_training_in_doubles(host: nn.Module, batch: list[Tensor], targets: list[Target]) -> None:
    """The same in double precision, where rounding hides nothing: gradients to 1e-6, too."""
    double = copy.deepcopy(host).double()
    targets = [{**target, "boxes": target["boxes"].double()} for target in targets]
    assert_same_training(double, equip(double), [image.double() for image in batch], targets)


def assert_twin_is_the_host(host: nn.Module, batch: list[Tensor]) -> None:
    """Same tensors, same keys, loadable both ways, detections equal to the bit, host unchanged."""
    before = type(host), dict(host._modules)
    twin = equip(host)
    assert type(host) is before[0]
    assert host._modules == before[1]
    assert isinstance(twin, type(host))
    assert list(twin.state_dict()) == list(host.state_dict())
    assert all(a is b for a, b in zip(twin.parameters(), host.parameters(), strict=True))
    host.load_state_dict(twin.state_dict(), strict=True)
    twin.load_state_dict(host.state_dict(), strict=True)
    host.eval()
    twin.eval()
    with torch.no_grad():
        expected, found = host(batch), twin(batch)
    assert sum(len(image["boxes"]) for image in expected) > 0, "nothing was detected, so nothing was compared"
    for a, b in zip(expected, found, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
