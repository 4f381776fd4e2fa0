"""What every loss of ``conf/loss`` owes to the criterion."""

from __future__ import annotations

import inspect
import pickle
import re
from copy import deepcopy

import pytest
import torch
from torch import Tensor

import harness.losses.classification as classification
import harness.losses.regression as regression
from harness.core.structures import Activation, Need
from harness.losses.interface import ClassificationLoss, RegressionLoss, Space
from tests.losses.choices import CLASSIFICATION, CONF, REGRESSION, build, node

COLUMNS, BINS = 5, 8
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
each_classification = pytest.mark.parametrize("name", CLASSIFICATION)
each_regression = pytest.mark.parametrize("name", REGRESSION)


def logits_and_targets(
    loss: ClassificationLoss, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    columns = COLUMNS + loss.extra_columns
    logits = (3 * torch.randn(*shape, columns, generator=generator)).to(dtype)
    # Column COLUMNS means "none" with sigmoid; the background of a softmax is a column.
    high = COLUMNS + 1 if loss.activation is Activation.SIGMOID else COLUMNS
    target = torch.randint(high, shape, generator=generator)
    extra = {
        name: torch.rand(shape, generator=generator)
        for need, name in ((Need.QUALITY, "quality"), (Need.BOX_LOSSES, "box_loss"))
        if need in loss.needs
    }
    return logits, target, extra


def boxes(
    loss: RegressionLoss, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    if loss.space is Space.DISTRIBUTION:
        prediction = torch.randn(*shape, 4 * BINS, generator=generator)
        return prediction.to(dtype), (BINS - 1) * torch.rand(*shape, 4, generator=generator).to(dtype)
    if loss.space is Space.DELTAS:
        return tuple(torch.randn(*shape, 4, generator=generator).to(dtype) for _ in range(2))
    near, sides = 40 * torch.rand(*shape, 2, generator=generator), 4 + 40 * torch.rand(*shape, 2, generator=generator)
    target = torch.cat((near, near + sides), -1)
    return (target + 2 * torch.rand(*shape, 4, generator=generator)).to(dtype), target.to(dtype)


def surroundings(loss: RegressionLoss, prediction: Tensor) -> dict[str, Tensor]:
    """What a loss of boxes needs beside them, for every slot."""
    if Need.IMAGE_SIZE not in loss.needs:
        return {}
    return {"image_size": torch.tensor([128.0, 160.0]).expand(*prediction.shape[:-1], 2)}


def classify(name: str) -> ClassificationLoss:
    return build("classification", name, COLUMNS + node("classification", name).get("objectness", False))


def regress(name: str) -> RegressionLoss:
    return build("regression", name)


def value_and_gradient(loss, prediction: Tensor, *inputs: Tensor, **options: Tensor) -> tuple[Tensor, Tensor]:
    prediction = prediction.clone().requires_grad_()
    if isinstance(loss, RegressionLoss):
        options |= surroundings(loss, prediction)
    value = loss(prediction, *inputs, **options)
    (gradient,) = torch.autograd.grad(value.sum(), prediction)
    return value.detach(), gradient


# --- the choices


@pytest.mark.parametrize(("group", "module"), [("classification", classification), ("regression", regression)])
def test_every_loss_is_a_choice_with_all_its_parameters(group: str, module) -> None:
    chosen = {}
    for path in (CONF / "loss" / group).glob("*.yaml"):
        comment, *_ = path.read_text().splitlines()
        assert comment.startswith("# ")
        assert comment.endswith(".")
        options = dict(node(group, path.stem))
        name = options.pop("_target_").removeprefix(f"{module.__name__}.")
        chosen[name] = options
    assert sorted(chosen) == sorted(module.__all__)  # a choice may only be another's with other values
    for name, options in chosen.items():
        parameters = [p for p in inspect.signature(getattr(module, name).__init__).parameters if p != "self"]
        known = {"args", "kwargs", "columns"}  # of nn.Module where a loss has no parameters; told by the head
        assert sorted(options) == sorted(set(parameters) - known), name


@pytest.mark.parametrize("group", ["classification", "regression"])
def test_every_choice_states_its_published_weight(group: str) -> None:
    for path in (CONF / "loss" / group).glob("*.yaml"):
        line = path.read_text().splitlines()[1]
        assert line.startswith("# Published weight: "), path.stem
        stated = {stage: float(weight) for stage, weight in re.findall(r"\b(rpn|roi|dense) ([\d.]+)", line)}
        loss = classify(path.stem) if group == "classification" else regress(path.stem)
        assert stated == loss.published_weight, path.stem


# --- classification


@each_classification
@pytest.mark.parametrize("shape", [(7,), (2, 7), (3, 2, 7), (0,), (2, 0), (1,)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_value_a_slot_with_finite_gradient(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    loss = classify(name)
    logits, target, extra = logits_and_targets(loss, *shape, dtype=dtype)
    value, gradient = value_and_gradient(loss, logits, target, weight=torch.ones(shape), **extra)
    assert value.shape == shape
    assert value.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert gradient.shape == logits.shape
    assert gradient.dtype == dtype
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    if len(shape) == 2 and shape[1]:
        assert gradient.abs().sum() > 0


@each_classification
def test_double_agrees_with_single(name: str) -> None:
    single, double = classify(name), classify(name)
    logits, target, extra = logits_and_targets(single, 2, 9)
    value, gradient = value_and_gradient(single, logits, target, **extra)
    precise, precise_gradient = value_and_gradient(double, logits.double(), target, **extra)
    torch.testing.assert_close(value, precise.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, precise_gradient.float(), rtol=1e-4, atol=1e-5)


@each_classification
def test_a_slot_without_weight_does_not_exist(name: str) -> None:
    alone, beside = classify(name), classify(name)
    logits, target, extra = logits_and_targets(alone, 12)
    weight = torch.tensor([1.0, 0.0, 0.5] * 4)
    value, gradient = value_and_gradient(alone, logits, target, weight=weight, **extra)
    unused = weight == 0
    assert (value[unused] == 0).all()
    assert (gradient[unused] == 0).all()

    used = ~unused
    smaller = {key: part[used] for key, part in extra.items()}
    expected, expected_gradient = value_and_gradient(beside, logits[used], target[used], weight=weight[used], **smaller)
    torch.testing.assert_close(value[used], expected)
    torch.testing.assert_close(gradient[used], expected_gradient)
    for key, buffer in alone.state_dict().items():
        torch.testing.assert_close(buffer, beside.state_dict()[key])


@each_classification
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_huge_logits_stay_finite(name: str, scale: float) -> None:
    loss = classify(name)
    logits, target, extra = logits_and_targets(loss, 40)
    value, gradient = value_and_gradient(loss, logits.sign() * scale, target, **extra)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()


@each_classification
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_logit_that_is_no_number_is_not_silent(name: str, bad: float) -> None:
    loss = classify(name).eval()
    logits, target, extra = logits_and_targets(loss, 12)
    logits[0] = bad
    target[0] = 0
    value = loss(logits, target, **extra)
    assert not torch.isfinite(value.sum()), value


@each_classification
def test_inputs_are_left_alone(name: str) -> None:
    loss = classify(name)
    logits, target, extra = logits_and_targets(loss, 2, 6)
    weight = torch.rand(2, 6)
    before = [part.clone() for part in (logits, target, weight, *extra.values())]
    value_and_gradient(loss, logits, target, weight=weight, **extra)
    for part, copy in zip((logits, target, weight, *extra.values()), before, strict=True):
        assert torch.equal(part, copy)


@each_classification
def test_state_changes_in_training_mode_only(name: str) -> None:
    loss = classify(name).eval()
    if name == "ghm_c":
        loss = classification.GHMCLoss(momentum=0.7).eval()
    logits, target, extra = logits_and_targets(loss, 8)
    before = {key: buffer.clone() for key, buffer in loss.state_dict().items()}
    loss(logits, target, **extra)
    assert all(torch.equal(buffer, before[key]) for key, buffer in loss.state_dict().items())

    loss.train()
    loss(logits, target, **extra)
    after = loss.state_dict()
    assert bool(before) == (name in ("ghm_c", "eqlv2", "seesaw", "federated", "acsl"))
    assert all(not torch.equal(after[key], buffer) for key, buffer in before.items())

    restored = classification.GHMCLoss(momentum=0.7) if name == "ghm_c" else classify(name)
    restored.load_state_dict(after)
    first, second = restored.eval()(logits, target, **extra), loss.eval()(logits, target, **extra)
    assert torch.equal(first, second)


@each_classification
@pytest.mark.parametrize("training", [True, False])
def test_compiles_without_a_graph_break(name: str, training: bool) -> None:
    eager, traced = classify(name).train(training), classify(name).train(training)
    torch._dynamo.reset()
    compiled = torch.compile(traced, fullgraph=True, backend="eager")
    logits, target, extra = logits_and_targets(eager, 2, 9)
    weight = torch.rand(2, 9)
    value, gradient = value_and_gradient(eager, logits, target, weight=weight, **extra)
    compiled_value, compiled_gradient = value_and_gradient(compiled, logits, target, weight=weight, **extra)
    torch.testing.assert_close(compiled_value, value)
    torch.testing.assert_close(compiled_gradient, gradient)


@each_classification
def test_activation_gives_probabilities(name: str) -> None:
    loss = classify(name)
    logits, _, _ = logits_and_targets(loss, 2, 9)
    scores = loss.activation_of(logits)
    assert scores.shape[:-1] == (2, 9)
    assert ((scores >= 0) & (scores <= 1)).all()
    if loss.activation is Activation.SOFTMAX:
        torch.testing.assert_close(scores.sum(-1), torch.ones(2, 9))


def test_quality_is_asked_for() -> None:
    with pytest.raises(ValueError, match="VarifocalLoss needs quality"):
        classification.VarifocalLoss()(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64))


# --- regression


@each_regression
@pytest.mark.parametrize("shape", [(7,), (2, 7), (3, 2, 7), (0,), (2, 0), (1,)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_value_a_box_with_finite_gradient(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    loss = regress(name)
    prediction, target = boxes(loss, *shape, dtype=dtype)
    value, gradient = value_and_gradient(loss, prediction, target, weight=torch.ones(shape))
    assert value.shape == shape
    assert value.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert gradient.shape == prediction.shape
    assert gradient.dtype == dtype
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    if len(shape) == 2 and shape[1]:
        assert gradient.abs().sum() > 0


@each_regression
def test_a_box_without_weight_does_not_exist(name: str) -> None:
    alone, beside = regress(name), regress(name)
    prediction, target = boxes(alone, 12)
    weight = torch.tensor([1.0, 0.0, 0.5] * 4)
    value, gradient = value_and_gradient(alone, prediction, target, weight=weight)
    unused = weight == 0
    assert (value[unused] == 0).all()
    assert (gradient[unused] == 0).all()
    expected, expected_gradient = value_and_gradient(
        beside, prediction[~unused], target[~unused], weight=weight[~unused]
    )
    torch.testing.assert_close(value[~unused], expected)
    torch.testing.assert_close(gradient[~unused], expected_gradient)


def extreme_boxes() -> list[Tensor]:
    ordinary = torch.tensor([10.0, 20.0, 30.0, 60.0])
    return [
        ordinary,
        torch.zeros(4),
        torch.tensor([10.0, 20.0, 10.0, 60.0]),  # no width
        torch.tensor([30.0, 60.0, 10.0, 20.0]),  # inverted
        ordinary + 1e4,
        torch.tensor([-1e4, -1e4, 1e4, 1e4]),
        torch.tensor([30.0, 20.0, 50.0, 60.0]),  # touches the first
    ]


@each_regression
def test_extreme_pairs_stay_finite(name: str) -> None:
    loss = regress(name)
    if loss.space is Space.DISTRIBUTION:
        generator = torch.Generator().manual_seed(0)
        prediction = 1e4 * torch.randn(49, 4 * BINS, generator=generator).sign()
        target = torch.linspace(-2, BINS + 2, 49 * 4).view(49, 4)
    else:
        extreme = torch.stack(extreme_boxes())
        prediction, target = extreme.repeat_interleave(len(extreme), 0), extreme.repeat(len(extreme), 1)
    value, gradient = value_and_gradient(loss, prediction, target)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()


@each_regression
def test_a_perfect_box_costs_nothing(name: str) -> None:
    loss = regress(name)
    _, target = boxes(loss, 20)
    if loss.space is Space.DISTRIBUTION:
        whole = target.round()
        prediction = 50 * torch.nn.functional.one_hot(whole.long(), BINS).float().flatten(-2)
        value, gradient = value_and_gradient(loss, prediction, whole)
    else:
        value, gradient = value_and_gradient(loss, target, target)
    torch.testing.assert_close(value, torch.zeros_like(value), rtol=0, atol=1e-5)
    assert torch.isfinite(gradient).all()


@each_regression
def test_regression_inputs_are_left_alone(name: str) -> None:
    loss = regress(name)
    prediction, target = boxes(loss, 2, 6)
    before = prediction.clone(), target.clone()
    value_and_gradient(loss, prediction, target, weight=torch.ones(2, 6))
    assert torch.equal(prediction, before[0])
    assert torch.equal(target, before[1])


@pytest.mark.parametrize("make", [lambda: regression.GHMRLoss(momentum=0.7), regression.WIoULoss])
def test_regression_state_changes_in_training_mode_only(make) -> None:
    loss = make().eval()
    prediction, target = boxes(loss, 8)
    (before,) = (buffer.clone() for buffer in loss.state_dict().values())
    loss(prediction, target)
    (unchanged,) = loss.state_dict().values()
    assert torch.equal(unchanged, before)
    loss.train()(prediction, target)
    (changed,) = loss.state_dict().values()
    assert not torch.equal(changed, before)


def test_the_image_size_is_asked_for() -> None:
    with pytest.raises(ValueError, match="MPDIoULoss needs image_size"):
        regression.MPDIoULoss()(torch.ones(1, 4), torch.ones(1, 4))
    with pytest.raises(ValueError, match="MPDIoULoss needs image_size"):
        regression.InnerIoULoss(regression.MPDIoULoss()).elementwise(torch.ones(1, 4), torch.ones(1, 4))


def test_a_wrapper_of_a_loss_of_deltas_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^base='L1Loss' must be a loss of decoded boxes"):
        regression.FocalerIoULoss(regression.L1Loss())


@each_regression
def test_regression_compiles_without_a_graph_break(name: str) -> None:
    eager, traced = regress(name), regress(name)
    torch._dynamo.reset()
    compiled = torch.compile(traced, fullgraph=True, backend="eager")
    prediction, target = boxes(eager, 2, 9)
    given = {"weight": torch.rand(2, 9), **surroundings(eager, prediction)}
    value, gradient = value_and_gradient(eager, prediction, target, **given)
    compiled_value, compiled_gradient = value_and_gradient(compiled, prediction, target, **given)
    torch.testing.assert_close(compiled_value, value)
    torch.testing.assert_close(compiled_gradient, gradient)


@pytest.mark.parametrize("group", ["classification", "regression"])
def test_every_loss_can_be_copied_and_pickled(group: str) -> None:
    for name in CLASSIFICATION if group == "classification" else REGRESSION:
        loss = classify(name) if group == "classification" else regress(name)
        for twin in (deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            assert type(twin) is type(loss)
            assert twin.published_weight == loss.published_weight


# --- a device that must not be waited for


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("group", "name"), [("classification", n) for n in CLASSIFICATION] + [("regression", n) for n in REGRESSION]
)
def test_never_waits_for_the_device(group: str, name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    loss = (classify(name) if group == "classification" else regress(name)).cuda()
    first, second, *rest = logits_and_targets(loss, 2, 9) if group == "classification" else boxes(loss, 2, 9)
    inputs = first.cuda().requires_grad_(), second.cuda()
    extra = {key: part.cuda() for key, part in (rest[0] if rest else {}).items()}
    weight = torch.ones(2, 9, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    if isinstance(loss, RegressionLoss):
        extra = {key: part.cuda() for key, part in surroundings(loss, first).items()}
    try:
        loss(*inputs, weight=weight, **extra).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(inputs[0].grad).all()
