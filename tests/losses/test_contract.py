"""What every loss of ``conf/loss`` owes to the criterion."""

from __future__ import annotations

import inspect
import pickle
import re
from copy import deepcopy

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor

import harness.losses.classification as classification
import harness.losses.regression as regression
from harness.core.structures import Activation, Need
from harness.losses.interface import ClassificationLoss, RegressionLoss, Space
from harness.testing import check_classification_loss, check_regression_loss
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
def test_a_classification_loss_keeps_the_contract(name: str) -> None:
    check_classification_loss(instantiate(node("classification", name)), columns=COLUMNS)


@each_classification
def test_double_agrees_with_single(name: str) -> None:
    single, double = classify(name), classify(name)
    logits, target, extra = logits_and_targets(single, 2, 9)
    value, gradient = value_and_gradient(single, logits, target, **extra)
    precise, precise_gradient = value_and_gradient(double, logits.double(), target, **extra)
    torch.testing.assert_close(value, precise.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, precise_gradient.float(), rtol=1e-4, atol=1e-5)


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


def test_quality_is_asked_for() -> None:
    with pytest.raises(ValueError, match="VarifocalLoss needs quality"):
        classification.VarifocalLoss()(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64))


# --- regression


@each_regression
def test_a_regression_loss_keeps_the_contract(name: str) -> None:
    check_regression_loss(regress(name))


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
