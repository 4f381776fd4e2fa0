"""Sampling telemetry against loops over images, candidates and objects."""

from __future__ import annotations

import bisect
import dataclasses
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from harness.core.structures import (
    IGNORED,
    NEGATIVE,
    Assignment,
    CandidateLosses,
    Candidates,
    GroundTruth,
    SamplingResult,
)
from harness.criterion.stage import Selection, Targets
from harness.data.export import to_coco
from harness.data.sources.shapes import shapes
from harness.data.splits import Splits
from harness.detectors.equip import equip
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.samplers.iou_balanced import IoUBalancedSampler
from harness.samplers.ohem import OHEMSampler
from harness.telemetry.bins import COUNTS, EDGES
from harness.telemetry.recorder import SamplingTelemetry


def random_sample(assignment: Assignment, valid: Tensor, slots: int, generator: torch.Generator) -> SamplingResult:
    """Any unique choice among the positives and negatives; unused slots point anywhere."""
    index, positive, weight = [], [], []
    slots = min(slots, valid.shape[1])
    for codes, real in zip(assignment.gt_index, valid, strict=True):
        usable = [i for i, code in enumerate(codes.tolist()) if code != IGNORED and real[i]]
        order = torch.randperm(len(usable), generator=generator).tolist()
        chosen = [usable[i] for i in order][: max(slots - 1, 0)]
        index.append(chosen + [0] * (slots - len(chosen)))
        positive.append([bool(codes[i] >= 0) for i in chosen] + [False] * (slots - len(chosen)))
        weight.append([0.5 + i for i in range(len(chosen))] + [0.0] * (slots - len(chosen)))
    return SamplingResult(torch.tensor(index).long(), torch.tensor(positive).bool(), torch.tensor(weight))


def in_order(assignment: Assignment, valid: Tensor) -> SamplingResult:
    """Everything that may be sampled."""
    used = (assignment.gt_index != IGNORED) & valid
    index = torch.arange(valid.shape[1]).expand(valid.shape)
    return SamplingResult(index, assignment.positive & used, used.float(), in_order=True)


def random_selection(
    seed: int, *, images: int = 3, objects: int = 4, candidates: int = 40, losses: bool = True, levels: bool = True
) -> Selection:
    """A selection with padding, crowds, joined ground truth, an image without objects, and values on bin edges."""
    g = torch.Generator().manual_seed(seed)

    def chance(shape: tuple[int, ...], probability: float) -> Tensor:
        return torch.rand(shape, generator=g) < probability

    shape = (images, candidates)
    valid_objects = chance((images, objects), 0.8)
    valid_objects[0] = False
    truth = GroundTruth(
        boxes=torch.rand(images, objects, 4, generator=g) * 50,
        labels=torch.zeros(images, objects, dtype=torch.long),
        valid=valid_objects,
        crowd=chance((images, objects), 0.3) & valid_objects,
    )
    corner = torch.rand(*shape, 2, generator=g) * 100
    side = 4.0 ** torch.randint(-2, 7, (*shape, 2), generator=g)
    max_iou = (torch.rand(shape, generator=g) * 21).floor() / 20
    code = torch.full(shape, NEGATIVE)
    for image in range(images):
        matchable = truth.matchable[image].nonzero().flatten().tolist()
        for i in range(candidates):
            if matchable and torch.rand((), generator=g) < 0.5:
                code[image, i] = matchable[int(torch.randint(len(matchable), (), generator=g))]
    code[chance(shape, 0.2)] = IGNORED
    valid = chance(shape, 0.8)
    is_truth = chance(shape, 0.2) & valid
    assignment = Assignment(code, max_iou)
    sample = random_sample(assignment, valid, 12, g)
    return Selection(
        truth=truth,
        candidates=Candidates(
            torch.cat((corner, corner + side), -1),
            valid,
            level=torch.randint(0, 10, (candidates,), generator=g) if levels else None,
            is_truth=is_truth,
        ),
        assignment=assignment,
        sample=sample,
        targets=Targets(sample.index, sample.index, sample.index, sample.index),
        losses=CandidateLosses(10 ** (torch.rand(shape, generator=g) * 8 - 5), torch.zeros(shape)) if losses else None,
        shadows={"other": random_sample(assignment, valid, 7, g), "all": in_order(assignment, valid)},
    )


def bin_of(quantity: str, value: float) -> int:
    """An edge belongs to the bin above it."""
    return bisect.bisect_right(EDGES[quantity].tolist(), value)


def expected(stage: str, selections: list[Selection]) -> tuple[dict[str, Counter[int]], dict[str, Counter[str]]]:
    """Every histogram and count, one candidate and one object after the other."""
    histograms: dict[str, Counter[int]] = defaultdict(Counter)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for selection in selections:
        members = {"available": None, "sampled": selection.sample, **selection.shadows}
        for population, sample in members.items():
            for image in range(len(selection.truth.labels)):
                everything = range(selection.candidates.valid.shape[1])
                chosen = (
                    set(everything)
                    if sample is None
                    else {int(i) for i, w in zip(sample.index[image], sample.weight[image], strict=True) if w > 0}
                )
                count_image(histograms, counts, stage, population, selection, image, chosen)
    return histograms, counts


def count_image(histograms, counts, stage, population, selection, image, chosen):
    candidates, truth = selection.candidates, selection.truth
    numbers = Counter({"positive": 0, "negative": 0, "truth": 0})
    found, with_truth = Counter(), Counter()
    for i in sorted(chosen):
        code = int(selection.assignment.gt_index[image, i])
        if code == IGNORED or not candidates.valid[image, i]:
            continue
        joined = candidates.is_truth is not None and bool(candidates.is_truth[image, i])
        kind = "truth" if joined else "positive" if code >= 0 else "negative"
        numbers[kind] += 1
        counts[f"{stage}/{population}"]["positive" if code >= 0 else "negative"] += 1
        if code >= 0:
            with_truth[code] += 1
            found[code] += not joined
        x1, y1, x2, y2 = candidates.boxes[image, i].float()
        side = math.sqrt(float((x2 - x1) * (y2 - y1)))
        values = {"iou": float(selection.assignment.max_iou[image, i]), "size": side}
        if candidates.level is not None:
            values["level"] = float(candidates.level[i])
        if selection.losses is not None:
            values["loss"] = float(selection.losses.classification[image, i])
        for quantity, value in values.items():
            histograms[f"{stage}/{quantity}/{population}/{kind}"][bin_of(quantity, value)] += 1
    for kind, number in numbers.items():
        histograms[f"{stage}/per_image/{population}/{kind}"][bin_of("per_image", number)] += 1
    for g in range(truth.labels.shape[1]):
        if truth.valid[image, g] and not truth.crowd[image, g]:
            histograms[f"{stage}/per_object/{population}/positive"][bin_of("per_object", found[g])] += 1
            histograms[f"{stage}/per_object/{population}/with_truth"][bin_of("per_object", with_truth[g])] += 1
            counts[f"{stage}/{population}"]["objects"] += 1
            counts[f"{stage}/{population}"]["objects_without_positive"] += with_truth[g] == 0
    counts[f"{stage}/{population}"]["images"] += 1
    counts[f"{stage}/{population}"]["truth"] += numbers["truth"]


def assert_equal_to_loops(telemetry: SamplingTelemetry, stage: str, selections: list[Selection]) -> None:
    window = telemetry.close_window(7)
    histograms, counts = expected(stage, selections)
    assert set(histograms) <= set(window.histograms)
    for name, row in window.histograms.items():
        bins = Counter({i: int(number) for i, number in enumerate(row) if number})
        assert bins == Counter({i: n for i, n in histograms[name].items() if n}), name
    for name, numbers in window.counts.items():
        assert numbers == {column: counts[name][column] for column in COUNTS}, name


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("losses", "levels"), [(True, True), (False, True), (True, False), (False, False)])
def test_equals_loops_over_candidates(seed: int, losses: bool, levels: bool) -> None:
    telemetry = SamplingTelemetry()
    selections = [
        random_selection(seed, losses=losses, levels=levels),
        random_selection(seed + 100, images=2, objects=7, candidates=25, losses=losses, levels=levels),
    ]
    for selection in selections:
        telemetry("roi", selection)
    assert_equal_to_loops(telemetry, "roi", selections)


def test_no_objects_and_no_candidates() -> None:
    for selection in (random_selection(0, objects=0), random_selection(0, candidates=0, levels=False)):
        telemetry = SamplingTelemetry()
        telemetry("dense", selection)
        assert_equal_to_loops(telemetry, "dense", [selection])


def test_half_precision_boxes() -> None:
    plain = random_selection(3)
    candidates = Candidates(
        plain.candidates.boxes.bfloat16(), plain.candidates.valid, plain.candidates.level, is_truth=None
    )
    assignment = Assignment(plain.assignment.gt_index, plain.assignment.max_iou.bfloat16())
    selection = Selection(plain.truth, candidates, assignment, plain.sample, plain.targets, plain.losses, plain.shadows)
    telemetry = SamplingTelemetry()
    telemetry("roi", selection)
    assert_equal_to_loops(telemetry, "roi", [selection])


def test_values_that_are_not_numbers_lie_in_the_last_bin() -> None:
    selection = random_selection(1)
    assert selection.losses is not None
    selection.losses.classification.fill_(torch.nan)
    telemetry = SamplingTelemetry()
    telemetry("roi", selection)
    window = telemetry.close_window(1)
    counted = sum(window.histograms[f"roi/loss/sampled/{kind}"] for kind in ("positive", "negative", "truth"))
    assert counted[-1] == counted.sum() == int(selection.sample.used.sum())


def test_resume_gives_identical_arrays(tmp_path: Path) -> None:
    whole, first, second = SamplingTelemetry(), SamplingTelemetry(), SamplingTelemetry()
    for step in range(9):
        if step == 5:
            torch.save(first.state_dict(), tmp_path / "state.pt")
            second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        part = first if step < 5 else second
        for telemetry in (whole, part):
            telemetry("rpn", random_selection(step, losses=False))
            if step > 1:
                telemetry("roi", random_selection(step, levels=False))  # a stage that appears late
            if step % 3 == 0:
                telemetry.close_window(step)
    whole.close_window(9)
    second.close_window(9)
    for telemetry, name in ((whole, "whole.npz"), (second, "resumed.npz")):
        telemetry.save(tmp_path / name)
    with np.load(tmp_path / "whole.npz") as one, np.load(tmp_path / "resumed.npz") as other:
        assert set(one.files) == set(other.files)
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
            if "/" in name and not name.startswith("edges"):
                assert len(one[name]) == len(one["iterations"]) == 4
        assert one["roi/iou/sampled/negative"][0].sum() == 0
    assert whole.summary() == second.summary()


def test_closing_a_window_does_the_same_work_however_many_there_were() -> None:
    telemetry, work = SamplingTelemetry(), []
    for window in range(1, 41):
        telemetry("roi", random_selection(0))
        work.append(calls_of(partial(telemetry.close_window, window)))
    assert work[-1] == work[1]


def calls_of(action: Callable[[], object]) -> int:
    """The Python and C functions that an action calls."""
    events = Counter[str]()
    sys.setprofile(lambda frame, event, argument: events.update([event]))
    try:
        action()
    finally:
        sys.setprofile(None)
    return events["call"] + events["c_call"]


def test_saving_does_not_close_the_window_and_changes_nothing() -> None:
    telemetry = SamplingTelemetry()
    telemetry("roi", random_selection(0))
    state = telemetry.state_dict()
    telemetry("roi", random_selection(1))  # must not write into the saved tensors
    resumed = SamplingTelemetry()
    resumed.load_state_dict(state)
    assert_equal_to_loops(resumed, "roi", [random_selection(0)])
    assert_equal_to_loops(telemetry, "roi", [random_selection(0), random_selection(1)])


def test_summary_follows_from_the_counts() -> None:
    telemetry = SamplingTelemetry()
    selections = [random_selection(2), random_selection(3)]
    for step, selection in enumerate(selections):
        telemetry("roi", selection)
        telemetry.close_window(step)
    histograms, counts = expected("roi", selections)
    for population in ("available", "sampled", "other", "all"):
        found, own = telemetry.summary()[f"roi/{population}"], counts[f"roi/{population}"]
        easy = histograms[f"roi/iou/{population}/negative"]
        assert found == pytest.approx(
            {
                "positives_per_image": own["positive"] / own["images"],
                "negatives_per_image": own["negative"] / own["images"],
                "truth_per_image": own["truth"] / own["images"],
                "positives_per_object": own["positive"] / own["objects"],
                "objects_without_positive": own["objects_without_positive"] / own["objects"],
                "negatives_below_iou_0.05": easy[0] / easy.total(),
            }
        )


def test_first_iou_bin_is_below_one_twentieth() -> None:
    assert EDGES["iou"].tolist() == pytest.approx([0.05 * i for i in range(1, 20)])
    assert bin_of("iou", 0.0499) == 0
    assert bin_of("iou", 1.0) == len(EDGES["iou"])


class Recorder:
    """Keeps every selection as it was seen."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Selection]] = defaultdict(list)

    def __call__(self, stage: str, selection: Selection) -> None:
        self.seen[stage].append(selection)


def test_every_stage_of_a_real_detector_with_shadows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    splits = shapes(num_train=4, num_val=1, cache_dir=str(tmp_path))
    telemetry, recorder = SamplingTelemetry(), Recorder()
    model = equip(
        tiny_rcnn(num_classes=len(splits.classes) + 1),
        shadows={"ohem": OHEMSampler(num=32, pos_fraction=0.25), "iou_balanced": IoUBalancedSampler(32, 0.25)},
        observers=[telemetry, recorder],
    ).train()
    batch = [splits.train[i] for i in range(4)]
    batch[2][1].update(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    batch[2][1]["iscrowd"] = torch.zeros(0, dtype=torch.long)
    batch[1][1]["iscrowd"][0] = 1
    model([image / 255 for image, _ in batch], [target for _, target in batch])
    window = telemetry.close_window(1)
    assert {"rpn/iou/available/negative", "roi/loss/ohem/negative"} <= set(window.histograms)
    assert window.histograms["roi/iou/iou_balanced/negative"].sum() > 0
    objects = sum(1 - a["iscrowd"] for a in to_coco(splits.train)["annotations"])
    gone = len(splits.train[2][1]["boxes"]) + 1
    for stage in ("rpn", "roi"):
        assert window.counts[f"{stage}/sampled"]["objects"] == objects - gone
        again = SamplingTelemetry()
        again(stage, recorder.seen[stage][0])
        assert_equal_to_loops(again, stage, recorder.seen[stage])


@pytest.mark.parametrize("whole", [True, False])
def test_losses_of_what_was_sampled_are_counted_where_no_candidates_are_known(whole: bool) -> None:
    telemetry, expected = SamplingTelemetry(), Counter[tuple[str, int]]()
    for seed in range(3):
        plain = random_selection(seed, losses=False)
        selection = dataclasses.replace(plain, sample=plain.shadows["all"]) if whole else plain
        sample, is_truth = selection.sample, selection.candidates.is_truth
        assert is_truth is not None
        values = 10 ** (torch.rand(sample.index.shape, generator=torch.Generator().manual_seed(seed)) * 8 - 5)
        telemetry("roi", selection)
        telemetry.add_losses("roi", selection, CandidateLosses(values, torch.zeros_like(values)))
        for image in range(len(values)):
            for slot in range(values.shape[1]):
                if sample.weight[image, slot] > 0:
                    joined = bool(is_truth[image, int(sample.index[image, slot])])
                    kind = "truth" if joined else "positive" if sample.positive[image, slot] else "negative"
                    expected[kind, bin_of("loss", float(values[image, slot]))] += 1
    histograms = telemetry.close_window(1).histograms
    found = Counter(
        {
            (kind, i): int(number)
            for kind in ("positive", "negative", "truth")
            for i, number in enumerate(histograms[f"roi/loss/sampled/{kind}"])
        }
    )
    assert +found == expected
    assert "roi/loss/available/negative" not in histograms
    assert telemetry.close_window(2).histograms["roi/loss/sampled/negative"].sum() == 0


def test_losses_of_all_candidates_are_not_counted_twice() -> None:
    telemetry, selection = SamplingTelemetry(), random_selection(0)
    telemetry("roi", selection)
    telemetry.add_losses("roi", selection, CandidateLosses(selection.sample.weight, selection.sample.weight))
    assert_equal_to_loops(telemetry, "roi", [selection])


def test_losses_of_a_real_detector_are_those_that_train(tmp_path: Path) -> None:
    splits = shapes(num_train=2, num_val=1, cache_dir=str(tmp_path))
    telemetry, seen = SamplingTelemetry(), {}
    model = equip(
        tiny_rcnn(num_classes=len(splits.classes) + 1),
        observers=[telemetry],
        loss_observers=[
            telemetry.add_losses,
            lambda stage, selection, losses: seen.update({stage: (selection, losses)}),
        ],
    ).train()
    batch = [splits.train[i] for i in range(2)]
    trained = model([image / 255 for image, _ in batch], [target for _, target in batch])
    histograms = telemetry.close_window(1).histograms
    for stage, name in (("rpn", "loss_objectness"), ("roi", "loss_classifier")):
        selection, losses = seen[stage]
        assert not losses.classification.requires_grad
        used = selection.sample.used
        assert float(losses.classification[used].mean()) == pytest.approx(float(trained[name].detach()), rel=1e-5)
        counted = sum(histograms[f"{stage}/loss/sampled/{kind}"] for kind in ("positive", "negative", "truth"))
        assert counted.sum() == used.sum()


def test_no_operation_depends_on_values() -> None:
    """Such an operation would make a GPU wait; tensors without values cannot be asked for them."""
    selection = random_selection(0)
    telemetry = SamplingTelemetry()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:

        def fake(value: object) -> object:
            if isinstance(value, Tensor):
                return mode.from_tensor(value)
            if isinstance(value, dict):
                return {name: fake(item) for name, item in value.items()}
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                fields = {f.name: fake(getattr(value, f.name)) for f in dataclasses.fields(value)}
                return dataclasses.replace(value, **fields)
            return value

        telemetry("roi", fake(selection))  # type: ignore[arg-type]
        slots = fake(torch.ones_like(selection.sample.weight))
        without = dataclasses.replace(fake(selection), losses=None)  # type: ignore[type-var]
        telemetry.add_losses("roi", without, CandidateLosses(slots, slots))  # type: ignore[arg-type]
        with pytest.raises(DataDependentOutputException):
            selection.sample.weight.new_ones(()).item()


def head_with_state() -> nn.Module:
    """A box head whose forward pass draws random numbers and changes buffers in training mode."""
    return nn.Sequential(nn.Flatten(), nn.Linear(1600, 256), nn.BatchNorm1d(256), nn.Dropout(0.2), nn.ReLU())


def trained(observed: bool, shadows: list[str], sampler: str, splits: Splits) -> tuple[dict[str, Tensor], list[float]]:
    """Weights, buffers and losses after two steps."""
    known = {"ohem": OHEMSampler(32, 0.25), "iou_balanced": IoUBalancedSampler(32, 0.25)}
    torch.manual_seed(0)
    telemetry = SamplingTelemetry()
    model = tiny_rcnn(num_classes=7)
    model.roi_heads.box_head = head_with_state()
    model = equip(
        model,
        sampler=known.get(sampler),
        generator=torch.Generator().manual_seed(1),
        shadows={name: known[name] for name in shadows},
        shadow_generator=torch.Generator().manual_seed(2),
        observers=[telemetry] if observed else [],
        loss_observers=[telemetry.add_losses] if observed else [],
    ).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    totals = []
    for step in range(2):
        batch = [splits.train[2 * step + i] for i in range(2)]
        total = torch.stack(list(model([i / 255 for i, _ in batch], [t for _, t in batch]).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    return {name: value.clone() for name, value in model.state_dict().items()}, totals


@pytest.mark.parametrize("sampler", ["random", "ohem"])
def test_training_is_bit_identical_with_telemetry_and_shadows(sampler: str, tmp_path: Path) -> None:
    splits = shapes(num_train=4, num_val=1, cache_dir=str(tmp_path))
    weights, totals = trained(False, [], sampler, splits)
    other_weights, other_totals = trained(True, ["ohem", "iou_balanced"], sampler, splits)
    assert other_totals == totals
    for name, value in weights.items():
        assert torch.equal(value, other_weights[name]), name
