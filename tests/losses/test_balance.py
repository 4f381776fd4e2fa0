"""loss.balance=equal: the two terms have the size of the detector's own over the first hundred iterations."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.criterion.stage import WarmUp
from harness.detectors import equip
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from harness.losses import GIoULoss, Loss, QualityFocalLoss, SmoothL1Loss
from harness.losses.balance import STEPS, Balance
from tests.detectors.dense_parity import images, losses_and_gradients, scene
from tests.losses.choices import CLASSIFICATION, build


def terms(classification: float, regression: float) -> dict[str, torch.Tensor]:
    return {"classification": torch.tensor(classification), "regression": torch.tensor(regression)}


def test_the_sums_of_the_first_hundred_agree_and_the_factor_stays() -> None:
    balance, generator = Balance().train(), torch.Generator().manual_seed(0)
    own, wanted = torch.zeros(2), torch.zeros(2)
    for _ in range(STEPS):
        a, b = torch.rand(2, generator=generator) + 0.5, 7 * torch.rand(2, generator=generator)
        balance(terms(*a.tolist()), terms(*b.tolist()))
        own, wanted = own + a, wanted + b
    torch.testing.assert_close(balance.factors * own, wanted, rtol=1e-5, atol=0)
    settled = balance.factors.clone()
    scaled = balance(terms(2.0, 3.0), terms(100.0, 100.0))
    assert torch.equal(balance.factors, settled)
    assert float(scaled["regression"]) == pytest.approx(3 * float(settled[1]))


def test_a_resumed_training_has_the_same_factors() -> None:
    balance = Balance().train()
    balance(terms(1.0, 2.0), terms(3.0, 4.0))
    resumed = Balance().train()
    resumed.load_state_dict(copy.deepcopy(balance.state_dict()))
    for other in (balance, resumed):
        other(terms(2.0, 2.0), terms(1.0, 9.0))
    assert torch.equal(balance.factors, resumed.factors)
    balance.eval()
    balance(terms(50.0, 50.0), terms(1.0, 1.0))
    assert torch.equal(balance.factors, resumed.factors), "only training counts"


def test_the_first_step_has_the_baselines_size() -> None:
    torch.manual_seed(0)
    model = tiny_retinanet(6, min_size=96)
    natural, _ = losses_and_gradients(equip(model), images(), scene("ordinary"))
    unbalanced = Loss(QualityFocalLoss(), GIoULoss(), "image_positives")
    balanced = Loss(QualityFocalLoss(), GIoULoss(), "image_positives", balance="equal")
    plain, _ = losses_and_gradients(equip(model, loss=unbalanced), images(), scene("ordinary"))
    assert float(plain["classification"]) < 0.5 * float(natural["classification"])
    twin = equip(model, loss=balanced)
    scaled, _ = losses_and_gradients(twin, images(), scene("ordinary"))
    for name, value in natural.items():
        torch.testing.assert_close(scaled[name], value, rtol=1e-5, atol=0)
    ratio = float(natural["classification"] / plain["classification"])
    assert twin.loss_factors()["dense"]["classification"] == pytest.approx(ratio, rel=1e-5)
    assert any(name.startswith("balance.") for name in twin.criteria_state_dict()["dense"])
    assert equip(model).loss_factors() == {}


def test_the_loss_after_a_warm_up_is_not_scaled_by_the_factors_of_the_warm_up() -> None:
    torch.manual_seed(0)
    model = tiny_retinanet(6, min_size=96)
    natural, _ = losses_and_gradients(equip(model), images(), scene("ordinary"))
    own = Loss(QualityFocalLoss(), GIoULoss(), "image_positives", balance="equal")
    strong = Loss(QualityFocalLoss(), GIoULoss(), "image_positives", 20.0, 30.0)
    twin = equip(model, loss=own, warmup=WarmUp(0.5, loss=strong))
    twin.set_accumulation(2)
    for progress in (0.0, 0.6):
        twin.set_progress(progress)
        scaled, _ = losses_and_gradients(twin, images(), scene("ordinary"))
        for name, value in natural.items():
            torch.testing.assert_close(scaled[name], value, rtol=1e-5, atol=0)
    factors = twin.loss_factors()
    assert set(factors) == {"dense", "dense_warmup"}
    assert factors["dense"]["classification"] == pytest.approx(20 * factors["dense_warmup"]["classification"])
    assert [balance.parts for balance in twin.criteria["dense"].balances.values()] == [2, 2]
    resumed = equip(model, loss=copy.deepcopy(own), warmup=WarmUp(0.5, loss=copy.deepcopy(strong)))
    resumed.load_criteria_state_dict(twin.criteria_state_dict())
    assert resumed.loss_factors() == factors


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_every_class_loss_of_an_roi_head_is_brought_to_the_size_of_its_cross_entropy(name: str) -> None:
    """Sigmoids train a head whose first column is then nobody's: for the cross entropy it is the background's, 0."""
    torch.manual_seed(0)
    model = tiny_rcnn(6, min_size=96)
    loss = build("classification", name, columns=6)
    twin = equip(model, loss=Loss(loss, SmoothL1Loss(), balance="equal"))
    seen = []
    twin.criteria["roi"].observers.append(lambda _, selection: seen.append(selection))
    outputs = []
    forward = twin.criteria["roi"].forward
    twin.criteria["roi"].forward = lambda given, selection: (outputs.append(given), forward(given, selection))[1]
    losses, _ = losses_and_gradients(twin, images(), scene("ordinary"))
    logits = outputs[0].logits.detach().clone()
    if twin.criteria["roi"].head.background is None:
        logits[..., 0] = 0.0
    positive = seen[0].sample.positive
    column = torch.where(positive, seen[0].targets.labels + 1, 0)
    weight = seen[0].sample.weight
    each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), column.flatten(), reduction="none")
    wanted = (each * weight.flatten()).sum() / weight.sum()
    found = losses["roi_classification"] if "roi_classification" in losses else losses["loss_classifier"]
    torch.testing.assert_close(found.detach(), wanted, rtol=1e-5, atol=0)


def test_the_baseline_is_computed_only_where_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and factors are those of a training that computed it in every step, resumed before or after its last."""
    monkeypatch.setattr("harness.losses.balance.STEPS", 2)
    torch.manual_seed(0)
    model = tiny_retinanet(6, min_size=96)

    def twin() -> torch.nn.Module:
        return equip(model, loss=Loss(QualityFocalLoss(), GIoULoss(), "image_positives", balance="equal")).train()

    def step(equipped: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {name: loss.detach() for name, loss in equipped(images(), scene("ordinary")).items()}

    always, other = twin(), twin()
    computed: list[int] = []
    always.criteria["dense"].balance._known_steps = -100
    other.criteria["dense"].baseline.classification.register_forward_hook(lambda *_: computed.append(number))
    for number in range(4):
        wanted = step(always)
        if number in (1, 3):  # continued before the last step that counts, and after it
            resumed = twin()
            resumed.load_criteria_state_dict(other.criteria_state_dict())
            torch.testing.assert_close(step(resumed), wanted, rtol=0, atol=0)
        torch.testing.assert_close(step(other), wanted, rtol=0, atol=0)
        assert other.loss_factors() == always.loss_factors()
    assert computed == [0, 1]
    assert not resumed.criteria["dense"].balance.compares


def test_a_baseline_that_is_infinite_after_the_hundred_changes_nothing() -> None:
    balance = Balance().train()
    balance(terms(1.0, 2.0), terms(3.0, 4.0))
    balance.steps.fill_(STEPS)
    settled = balance.factors.clone()
    balance(terms(1.0, 2.0), terms(float("inf"), float("nan")))
    assert torch.equal(balance.factors, settled)


def test_iterations_are_counted_where_a_batch_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.losses.balance.STEPS", 2)
    balance = Balance().train()
    balance.parts = 3
    compared = []
    for _ in range(8):
        compared.append(balance.compares)
        balance(terms(1.0, 2.0), terms(3.0, 4.0) if balance.compares else None)
    assert compared == [True] * 6 + [False] * 2
    assert int(balance.steps) == 6
