"""Losses whose value depends on the whole batch are the same on one process and on two with half of the batch each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.core.noise import image_noise
from harness.core.processes import process_count, process_rank
from harness.core.structures import ClassCounts, SamplingResult
from harness.losses.balance import Balance
from harness.losses.classification.acsl import ACSLLoss
from harness.losses.classification.alrp import ALRPLoss
from harness.losses.classification.ap_loss import APLoss
from harness.losses.classification.eqlv2 import EQLv2Loss
from harness.losses.classification.federated import FederatedLoss
from harness.losses.classification.ghm_c import GHMCLoss
from harness.losses.classification.rank_sort import RankSortLoss
from harness.losses.classification.seesaw import SeesawLoss
from harness.losses.classification.topk_cross_entropy import TopKCrossEntropyLoss
from harness.losses.interface import ClassificationLoss
from harness.losses.pair import Loss
from harness.losses.reduction import Counts, Normalizer
from harness.losses.regression.ghm_r import GHMRLoss
from harness.losses.regression.wiou import WIoULoss
from tests.processes import together

IMAGES, SLOTS, COLUMNS = 4, 13, 5
LOSSES: dict[str, Callable[[], ClassificationLoss]] = {
    "acsl": ACSLLoss,
    "alrp": ALRPLoss,
    "ap": APLoss,
    "eqlv2": EQLv2Loss,
    "federated": lambda: FederatedLoss(num_classes=2),
    "ghm": lambda: GHMCLoss(momentum=0.5),
    "rank_sort": RankSortLoss,
    "seesaw": lambda: SeesawLoss(objectness=False),
    "topk": lambda: TopKCrossEntropyLoss(fraction=0.4),
}


def part(values: Tensor) -> Tensor:
    """This process's rows of a whole batch."""
    return values.chunk(process_count())[process_rank()]


def computed() -> dict[str, list[Tensor]]:
    """By name: the values and the gradients of this process, and the states afterwards."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(5)
    found = {}
    for name, make in LOSSES.items():
        torch.manual_seed(5)
        loss = make().train()
        loss.prepare(COLUMNS)
        counts = torch.arange(1, COLUMNS + 1) * 30
        loss.set_class_counts(ClassCounts(images=counts, objects=counts, num_images=500))
        found[name] = class_loss_twice(loss)
    found |= {"ghm_r": box_loss_twice(GHMRLoss(momentum=0.5)), "wiou": box_loss_twice(WIoULoss())}
    balance = Balance().train()
    for _ in range(2):
        own, wanted = part(torch.rand(IMAGES)).mean(), part(torch.rand(IMAGES)).mean()
        terms = {"classification": own, "regression": wanted}
        balance(terms, {"classification": wanted, "regression": own})
    found["balance"] = [balance.factors.double()]
    return found


def class_loss_twice(loss: ClassificationLoss) -> list[Tensor]:
    pair, found = Loss(loss, WIoULoss(1), Normalizer.POSITIVES, batch_factor=True), []
    for _ in range(2):
        logits = part(torch.randn(IMAGES, SLOTS, COLUMNS)).requires_grad_()
        target = part(torch.randint(0, COLUMNS, (IMAGES, SLOTS)))
        weight = part((torch.rand(IMAGES, SLOTS) > 0.2).double())
        quality = part(torch.rand(IMAGES, SLOTS) * 0.9 + 0.1)
        sample = SamplingResult(torch.zeros_like(target), target < 3, weight)
        values = loss(logits, target, weight=weight, quality=quality, box_loss=quality)
        total = pair.reduce_classification(values, Counts(sample))
        factor = loss.box_factor(logits, target, weight=weight)
        found += gathered(total, logits) + ([] if factor is None else [factor.detach()])
    return found + states(loss)


def box_loss_twice(loss: GHMRLoss | WIoULoss) -> list[Tensor]:
    found = []
    for _ in range(2):
        corner, side = torch.rand(IMAGES, SLOTS, 2) * 20, torch.rand(IMAGES, SLOTS, 2) * 20 + 1
        boxes = torch.cat((corner, corner + side), -1)
        shifted = part(boxes + torch.rand_like(boxes)).requires_grad_()
        weight = part((torch.rand(IMAGES, SLOTS) > 0.4).double())
        values = loss.train()(shifted, part(boxes), weight=weight)
        found += gathered(values.sum() * process_count(), shifted)
    return found + states(loss)


def gathered(total: Tensor, leaf: Tensor) -> list[Tensor]:
    """The part of the loss in the mean over the processes, and of its gradient."""
    (gradient,) = torch.autograd.grad(total, leaf)
    return [total.detach().reshape(1) / process_count(), gradient / process_count()]


def states(loss: torch.nn.Module) -> list[Tensor]:
    """Buffers, which are equal in all processes: each gives its share of the sum."""
    return [state.double().reshape(-1)[:1] for state in loss.state_dict().values() if state.numel()]


def test_losses_of_the_whole_batch_are_those_of_one_process() -> None:
    dtype = torch.get_default_dtype()
    try:
        alone = computed()
    finally:
        torch.set_default_dtype(dtype)
    halves = together(2, computed)
    for name, expected in alone.items():
        for place, value in enumerate(expected):
            parts = [half[name][place] for half in halves]
            if value.dim() == 1:  # totals are summed, states are equal
                is_state = name == "balance" or place >= len(expected) - state_count(name)
                found = parts[0] if is_state else torch.stack(parts).sum(0)
                assert not is_state or torch.equal(parts[0], parts[1]), name
            else:
                found = torch.cat(parts)
            torch.testing.assert_close(found, value, rtol=1e-6 if name == "balance" else 1e-10, atol=1e-12, msg=name)


def state_count(name: str) -> int:
    return {"eqlv2": 3, "seesaw": 1, "ghm": 1, "ghm_r": 1, "wiou": 1, "acsl": 1, "federated": 1}.get(name, 0)


def noise_of_two_stages() -> list[Tensor]:
    """Stages with other numbers of candidates in each process."""
    generator = torch.Generator().manual_seed(3)
    more = 7 * process_rank()
    return [image_noise((4 // process_count(), 20 + more), torch.device("cpu"), generator)[:, :20] for _ in range(2)]


def test_noise_is_a_function_of_the_place_in_the_whole_batch() -> None:
    alone, parts = noise_of_two_stages(), together(2, noise_of_two_stages)
    for stage in range(2):
        assert torch.equal(torch.cat([part[stage] for part in parts]), alone[stage])
    assert len(torch.cat(alone).unique()) > 150
    assert torch.cat(alone).min() >= 0
    assert torch.cat(alone).max() < 1
