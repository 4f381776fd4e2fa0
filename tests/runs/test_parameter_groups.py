"""Decay and rate by the kind of parameter: who is in which group, what is refused, and what a checkpoint continues."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf, open_dict
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn_v2

from harness.app.composition import composed as command_line
from harness.app.run_end import Stopped
from harness.app.runner import check
from harness.detectors.zoo.yolox import yolox_tiny
from harness.experiment.experiment import Experiment
from harness.runs import schema
from harness.runs.identity import identity_of
from harness.training import checkpoint
from harness.training.optimizer import ParamwiseFactors, make_optimizer
from harness.training.schedule import lr_scheduler
from tests.runs.conftest import Composed, Trained, outcome

SOURCES = [str(schema.folder("conf"))]
NORMS = ("BatchNorm2d", "GroupNorm")


def network() -> nn.Module:
    """With norms, biases, a frozen part and a layer in two places."""
    shared = nn.Conv2d(2, 2, 1)
    frozen = nn.Linear(2, 2).requires_grad_(False)
    return nn.Sequential(shared, nn.BatchNorm2d(2), shared, nn.GroupNorm(1, 2), frozen, nn.MultiheadAttention(2, 1))


def sgd(groups: Iterable[Any]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.1, weight_decay=0.5)


def decay_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Name -> (rate, decay); fails where a trainable parameter is not in exactly one group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [
        (names[id(parameter)], (group["lr"], group["weight_decay"]))
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert sorted(name for name, _ in found) == sorted(n for n, p in model.named_parameters() if p.requires_grad)
    return dict(found)


def test_norms_and_biases_have_factors_of_their_own() -> None:
    model = network()
    optimizer = make_optimizer(sgd, ParamwiseFactors(norm_decay_mult=0, bias_decay_mult=0.5, bias_lr_mult=2), model)
    assert decay_of(model, optimizer) == {
        "0.weight": (0.1, 0.5),
        "0.bias": (0.2, 0.25),
        "1.weight": (0.1, 0.0),
        "1.bias": (0.1, 0.0),
        "3.weight": (0.1, 0.0),
        "3.bias": (0.1, 0.0),
        "5.in_proj_weight": (0.1, 0.5),
        "5.in_proj_bias": (0.2, 0.25),
        "5.out_proj.weight": (0.1, 0.5),
        "5.out_proj.bias": (0.2, 0.25),
    }
    assert len(optimizer.param_groups) == 3  # one for each pair of factors
    assert optimizer.param_groups[0]["lr"] == 0.1  # the rate that is logged


def test_without_factors_an_optimizer_gets_the_parameters_themselves() -> None:
    got: list[Any] = []

    def make(parameters: Iterable[Any]) -> torch.optim.Optimizer:
        got.extend(parameters)
        return sgd(got)

    model = network()
    make_optimizer(make, ParamwiseFactors(), model)
    assert [id(one) for one in got] == [id(one) for one in model.parameters() if one.requires_grad]


def test_the_schedule_scales_every_group() -> None:
    optimizer = make_optimizer(sgd, ParamwiseFactors(bias_lr_mult=2), network())
    schedule = lr_scheduler(optimizer, 10, schema.ScheduleConfig(kind="multistep", warmup_fraction=0, milestones=[0.1]))
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.02])


def retinanet_v2() -> nn.Module:
    model: nn.Module = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None)
    return model


@pytest.mark.parametrize(
    ("detector", "build", "biases_decay"),
    [
        ("yolox_tiny", lambda: yolox_tiny(num_classes=3), False),
        ("retinanet_resnet50_fpn_v2", retinanet_v2, True),
    ],
)
def test_published_detectors_decay_as_published(
    detector: str, build: Callable[[], nn.Module], biases_decay: bool
) -> None:
    """YOLOX: neither norms nor biases (get_optimizer of its yolox_base.py); RetinaNet v2: --norm-weight-decay 0."""
    config, _ = command_line([f"detector={detector}"])
    with torch.device("meta"):
        model = build()
    optimizer = Experiment.compose(config, choices={}, sources=SOURCES).optimizer(model)
    full = float(config.optimizer.weight_decay)
    for name, (rate, decay) in decay_of(model, optimizer).items():
        module = model.get_submodule(name.rpartition(".")[0])
        exempt = type(module).__name__ in NORMS or (name.endswith(".bias") and not biases_decay)
        assert (rate, decay) == (config.optimizer.lr, 0.0 if exempt else full), name
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, full}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("optimizer.norm_decay_mult=-1", r"optimizer\.norm_decay_mult=-1 must be at least 0"),
        ("optimizer.bias_decay_mult=nan", r"optimizer\.bias_decay_mult=nan must be at least 0"),
        ("optimizer.bias_decay_mult=null", r"optimizer\.bias_decay_mult=None must be at least 0"),
        ("optimizer.norm_decay_mult=none", r"optimizer\.norm_decay_mult='none' must be at least 0"),
        ("optimizer.norm_decay_mult=true", r"optimizer\.norm_decay_mult=True must be at least 0"),
        ("optimizer.bias_lr_mult=0", r"optimizer\.bias_lr_mult=0 must be above 0"),
    ],
)
def test_a_factor_out_of_range_is_refused(override: str, says: str, composed: Composed) -> None:
    with pytest.raises(Stopped, match=f"^{says}"):
        check(composed(override), SOURCES, overrides=[override])


class NoDecay(torch.optim.Optimizer):
    """A user's optimizer without weight decay."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})


class OwnFactor(torch.optim.SGD):
    """A user's optimizer with a parameter that is called like one of the harness."""

    def __init__(self, params: Any, lr: float, norm_decay_mult: float = 1.0) -> None:
        super().__init__(params, lr=lr)


def regrouped(params: Any, lr: float) -> torch.optim.Optimizer:
    """A user's function that makes a single group of what it gets."""
    return sgd([one for group in params for one in (group["params"] if isinstance(group, dict) else [group])])


def split(params: Any, lr: float) -> torch.optim.Optimizer:
    """A user's function that keeps the groups that it gets."""
    return torch.optim.SGD(list(params), lr=lr, weight_decay=0.1)


def own(composed: Composed, target: object, *overrides: str) -> Any:
    config = composed(*overrides)
    with open_dict(config):
        for key in ("weight_decay", "fused"):
            config.optimizer.pop(key)
        config.optimizer["_target_"] = f"{__name__}.{target.__name__}"  # type: ignore[attr-defined]
    return config


def test_an_optimizer_of_ones_own(composed: Composed) -> None:
    one = "optimizer.norm_decay_mult=0"
    with pytest.raises(Stopped, match=r"^optimizer: NoDecay has no weight_decay, so that norm_decay_mult and bias_dec"):
        check(own(composed, NoDecay, one), SOURCES)
    with pytest.raises(Stopped, match=r"^optimizer: SGD does not keep the parameter groups that it is given, so that "):
        check(own(composed, regrouped, one), SOURCES)
    with pytest.raises(
        Stopped, match=r"^optimizer\.norm_decay_mult: the harness applies it, and .*OwnFactor has a par"
    ):
        check(own(composed, OwnFactor), SOURCES)
    for target in (NoDecay, regrouped, split):
        check(own(composed, target), SOURCES)
    made = check(own(composed, split, one), SOURCES).optimizer(network())
    assert [group["weight_decay"] for group in made.param_groups] == [0.1, 0.0]


def test_options_of_before_keep_their_identity(composed: Composed) -> None:
    def identity(*overrides: str) -> dict[str, Any]:
        return identity_of(OmegaConf.to_container(composed(*overrides), resolve=True))["optimizer"]  # type: ignore[arg-type]

    assert set(identity()) == {"_target_", "_partial_", "lr", "weight_decay"}
    assert identity("optimizer.norm_decay_mult=1") == identity()
    assert identity("optimizer.norm_decay_mult=0") == {**identity(), "norm_decay_mult": 0}


def test_a_run_continues_its_groups_and_no_other_ones(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ["optimizer=sgd", "optimizer.norm_decay_mult=0", "optimizer.bias_decay_mult=0", "optimizer.bias_lr_mult=2"]
    chosen += ["run.ema_decay=0.9", "run.clip_norm=1", "analysis.guard_images=0", "run.rehearse=false"]
    whole = trained(*chosen, root="whole")
    kept = checkpoint.load(whole / "checkpoint.pt")
    assert [len(names) for names in kept["optimizer_groups"]] == [
        len(group["params"]) for group in kept["optimizer"]["param_groups"]
    ]
    real, expected = checkpoint.load, outcome(whole)
    swapped = {**kept, "optimizer_groups": kept["optimizer_groups"][::-1]}
    decayed = {**kept, "optimizer": {**kept["optimizer"]}}
    decayed["optimizer"]["param_groups"] = [{**one, "weight_decay": 1.0} for one in kept["optimizer"]["param_groups"]]
    single = {**kept, "optimizer": {**kept["optimizer"], "param_groups": kept["optimizer"]["param_groups"][:1]}}
    del single["optimizer_groups"]  # as earlier versions wrote it
    (whole / "result.json").unlink()
    for state in (swapped, decayed, single):
        monkeypatch.setattr(checkpoint, "load", lambda path, state=state: state)
        with pytest.raises(
            Stopped, match=r"the checkpoint is of a training whose optimizer had other parameter groups"
        ):
            trained(*chosen, root="whole")
    monkeypatch.setattr(checkpoint, "load", real)
    trained(*chosen, root="whole")
    assert outcome(whole) == expected
