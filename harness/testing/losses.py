"""The contracts of a classification loss and of a regression loss."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.core.structures import Activation, ClassCounts, Need
from harness.losses.interface import ClassificationLoss, RegressionLoss, Space
from harness.testing.contract import broken_as, demand, demand_object, left_alone

COLUMNS, BINS = 5, 8
SHAPES = ((7,), (2, 7), (3, 2, 7), (0,), (2, 0), (1,))
DTYPES = (torch.float32, torch.float64, torch.bfloat16)

Inputs = tuple[Tensor, Tensor, dict[str, Tensor]]  # prediction, target, further arguments by name
Draw = Callable[..., Inputs]


def check_classification_loss(loss: ClassificationLoss, *, columns: int = COLUMNS) -> None:
    """Runs the contract of a classification loss (:class:`~harness.losses.interface.ClassificationLoss`).

    A value for each slot in float32 at least, of any float type and any leading dimensions, also without slots; value
    and gradient finite, also of huge logits, and not silent about a logit that is no number. A slot of weight 0 costs
    nothing, has no gradient, and does not exist for the others. Inputs stay as they were. State changes in training
    mode only. The activation gives probabilities. It compiles without a graph break. The loss is told the class counts
    of a made-up training set with a long tail, and is given a quality and a box loss for each slot where it needs them.

    Args:
        loss: the loss; it is copied, so that its state stays as it was.
        columns: of the logits, for which it is prepared.

    Raises:
        ContractError: a promise is broken.
    """
    demand_object(loss, ClassificationLoss, "a classification loss is a subclass of harness.losses.ClassificationLoss")
    prepared = copy.deepcopy(loss)
    prepared.prepare(columns + loss.extra_columns)
    prepared.set_class_counts(_long_tail(columns + loss.extra_columns))

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Inputs:
        generator = torch.Generator().manual_seed(0)
        logits = (3 * torch.randn(*shape, columns + loss.extra_columns, generator=generator)).to(dtype)
        # Column `columns` means "none" with sigmoid; the background of a softmax is a column.
        high = columns + 1 if loss.activation is Activation.SIGMOID else columns
        target = torch.randint(high, shape, generator=generator)
        extra = {
            name: torch.rand(shape, generator=generator)
            for need, name in ((Need.QUALITY, "quality"), (Need.BOX_LOSSES, "box_loss"))
            if need in loss.needs
        }
        return logits, target, extra

    _values(prepared, draw)
    _weights(prepared, draw)
    _pure(prepared, draw)
    _compiles(prepared, draw)
    for scale in (1e4, -1e4):
        logits, target, extra = draw(40)
        with broken_as(f"with logits of {scale:g}"):
            _finite(_value_and_gradient(copy.deepcopy(prepared), logits.sign() * scale, target, **extra))
    for bad in (torch.nan, torch.inf):
        logits, target, extra = draw(12)
        logits[0], target[0] = bad, 0
        value = copy.deepcopy(prepared).eval()(logits, target, **extra)
        demand(not value.sum().isfinite(), f"a logit of {bad} shows in the value")
    logits, _, _ = draw(2, 9)
    scores = prepared.activation_of(logits)
    demand(((scores >= 0) & (scores <= 1)).all(), "activation_of gives probabilities")
    if loss.activation is Activation.SOFTMAX:
        demand(torch.allclose(scores.sum(-1), torch.ones(2, 9)), "the probabilities of a softmax add up to 1")


def check_regression_loss(loss: RegressionLoss) -> None:
    """Runs the contract of a regression loss (:class:`~harness.losses.interface.RegressionLoss`).

    As for a classification loss; and value and gradient are finite for boxes that are empty, inverted, far or equal.

    Args:
        loss: the loss; it is copied, so that its state stays as it was.

    Raises:
        ContractError: a promise is broken.
    """
    demand_object(loss, RegressionLoss, "a regression loss is a subclass of harness.losses.RegressionLoss")

    def surroundings(*shape: int) -> dict[str, Tensor]:
        sizes = torch.tensor([120.0, 160.0]).expand(*shape, 2)
        return {"image_size": sizes} if Need.IMAGE_SIZE in loss.needs else {}

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Inputs:
        generator = torch.Generator().manual_seed(0)

        def uniform(columns: int) -> Tensor:
            return torch.rand(*shape, columns, generator=generator)

        if loss.space is Space.DISTRIBUTION:
            return (uniform(4 * BINS) * 6 - 3).to(dtype), (uniform(4) * (BINS - 1)).to(dtype), surroundings(*shape)
        if loss.space is Space.DELTAS:
            return (uniform(4) * 4 - 2).to(dtype), (uniform(4) * 4 - 2).to(dtype), surroundings(*shape)
        near, sides = 40 * uniform(2), 4 + 40 * uniform(2)
        target = torch.cat((near, near + sides), -1)
        return (target + 2 * uniform(4)).to(dtype), target.to(dtype), surroundings(*shape)

    prepared = copy.deepcopy(loss)
    _values(prepared, draw)
    _weights(prepared, draw)
    _pure(prepared, draw)
    _compiles(prepared, draw)
    if loss.space is Space.DISTRIBUTION:
        logits, target, _ = draw(49)
        with broken_as("with huge logits and targets outside the bins"):
            _finite(_value_and_gradient(copy.deepcopy(prepared), 1e4 * logits.sign(), 2 * target - BINS / 2))
    else:
        extreme = torch.tensor(
            [
                [10.0, 20, 30, 60],
                [0, 0, 0, 0],
                [10, 20, 10, 60],  # no width
                [30, 60, 10, 20],  # inverted
                [10010, 10020, 10030, 10060],
                [-1e4, -1e4, 1e4, 1e4],
                [30, 20, 50, 60],  # touches the first
            ]
        )
        first, second = extreme.repeat_interleave(len(extreme), 0), extreme.repeat(len(extreme), 1)
        with broken_as("with boxes that are empty, inverted, far or equal"):
            _finite(_value_and_gradient(copy.deepcopy(prepared), first, second, **surroundings(len(first))))


def _long_tail(columns: int) -> ClassCounts:
    """Of a training set of 1,000 images: frequent, common and rare classes in turn."""
    images = torch.tensor([200, 3, 60, 1, 12, 150, 7])[torch.arange(columns) % 7]
    return ClassCounts(images, 2 * images, num_images=1000)


def _value_and_gradient(loss: nn.Module, prediction: Tensor, *inputs: Tensor, **options: Tensor) -> tuple[Tensor, Any]:
    prediction = prediction.clone().requires_grad_()
    value = loss(prediction, *inputs, **options)
    (gradient,) = torch.autograd.grad(value.sum(), prediction)
    return value.detach(), gradient


def _finite(found: tuple[Tensor, Tensor]) -> None:
    demand(found[0].isfinite().all(), "the value is finite")
    demand(found[1].isfinite().all(), "the gradient is finite")


def _values(loss: nn.Module, draw: Draw) -> None:
    for shape in SHAPES:
        for dtype in DTYPES:
            prediction, target, extra = draw(*shape, dtype=dtype)
            with broken_as(f"with slots of shape {shape} in {dtype}"):
                own = copy.deepcopy(loss)
                value, gradient = _value_and_gradient(own, prediction, target, weight=torch.ones(shape), **extra)
                demand(value.shape == shape, f"there is one value for each slot, not {tuple(value.shape)}")
                wide = torch.float64 if dtype is torch.float64 else torch.float32
                demand(value.dtype == wide, f"the value is in {wide}, not {value.dtype}")
                demand(gradient.dtype == dtype, "the gradient has the type of the prediction")
                demand(value.numel() < 2 or bool(gradient.any()), "there is a gradient where there are several slots")
                _finite((value, gradient))


def _weights(loss: nn.Module, draw: Draw) -> None:
    prediction, target, extra = draw(12)
    weight = torch.tensor([1.0, 0.0, 0.5] * 4)
    used = weight > 0
    value, gradient = _value_and_gradient(copy.deepcopy(loss), prediction, target, weight=weight, **extra)
    nothing = (value[~used] == 0).all() and (gradient[~used] == 0).all()
    demand(nothing, "a slot of weight 0 costs nothing and has no gradient")
    fewer = {key: part[used] for key, part in extra.items()}
    alone, alone_gradient = _value_and_gradient(
        copy.deepcopy(loss), prediction[used], target[used], weight=weight[used], **fewer
    )
    same = torch.allclose(value[used], alone, rtol=1e-4, atol=1e-6)
    same = same and torch.allclose(gradient[used], alone_gradient, rtol=1e-4, atol=1e-6)
    demand(same, "a slot of weight 0 does not exist for the other slots")


def _pure(loss: nn.Module, draw: Draw) -> None:
    prediction, target, extra = draw(2, 6)
    weight = torch.rand(2, 6, generator=torch.Generator().manual_seed(1))
    own = copy.deepcopy(loss).eval()
    state = {key: buffer.clone() for key, buffer in own.state_dict().items()}
    with left_alone(prediction, target, weight, *extra.values()):
        _value_and_gradient(own, prediction, target, weight=weight, **extra)
    same = all(torch.equal(buffer, state[key]) for key, buffer in own.state_dict().items())
    demand(same, "its state changes in training mode only")


def _compiles(loss: nn.Module, draw: Draw) -> None:
    eager, traced = copy.deepcopy(loss), copy.deepcopy(loss)
    torch.compiler.reset()
    compiled: Any = torch.compile(traced, fullgraph=True, backend="eager")
    prediction, target, extra = draw(2, 9)
    weight = torch.rand(2, 9, generator=torch.Generator().manual_seed(1))
    expected = _value_and_gradient(eager, prediction, target, weight=weight, **extra)
    with broken_as("compiled (fullgraph)"):
        found = _value_and_gradient(compiled, prediction, target, weight=weight, **extra)
        same = all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(found, expected, strict=True))
        demand(same, "it gives the same as uncompiled")
