"""A training on one, two and four processes is the same training up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.core.processes import process_count, process_rank
from harness.criterion.stage import Selection
from harness.data.loading import Batch, Share, train_loader
from harness.data.sources.shapes import shapes
from harness.detectors import equip
from harness.detectors.adapters.padding import share_padding
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from harness.detectors.zoo.yolox import tiny_yolox
from harness.losses import CrossEntropyLoss, SmoothL1Loss
from harness.losses.carl import CARLTerm
from harness.losses.pair import Loss
from harness.runs.schema import RunConfig, ScheduleConfig
from harness.samplers import ISRPSampler, OHEMSampler, RandomSampler
from harness.telemetry.recorder import SamplingTelemetry
from harness.training.schedule import lr_scheduler
from harness.training.state import TrainState
from harness.training.steps import step
from harness.training.streams import Streams
from tests.processes import together

DETECTORS: dict[str, Callable[..., nn.Module]] = {
    "tiny_rcnn": tiny_rcnn,
    "tiny_retinanet": tiny_retinanet,
    "tiny_yolox": tiny_yolox,
}
CPU = torch.device("cpu")
Chosen = list[tuple[str, Tensor, Tensor]]


def pisa() -> dict[str, Any]:
    """Pieces that rank and weigh over the whole batch: ISR-P on batch-wide OHEM, and CARL."""
    terms = {"carl": CARLTerm(SmoothL1Loss(1.0))}
    return {
        "sampler": ISRPSampler(OHEMSampler(16, 0.25, scope="batch")),
        "loss": Loss(CrossEntropyLoss(), SmoothL1Loss(1.0), terms=terms),
    }


PIECES: dict[str, Callable[[], dict[str, Any]]] = {
    "random": lambda: {"sampler": RandomSampler(16, 0.25)},
    "pisa": pisa,
}


def trained(
    name: str,
    iterations: int,
    cache: str,
    accumulate: int = 1,
    pieces: str = "random",
    saved: str = "",
    until: int | None = None,
) -> dict[str, Any]:
    """Weights, losses, choices and telemetry after ``iterations`` steps of batches of four, in float64.

    With ``until`` the training ends there and leaves its state in the file ``saved``; without, it goes on from there.
    """
    torch.set_default_dtype(torch.float64)
    streams = Streams(7, CPU)
    torch.manual_seed(streams.weights)
    chosen: Chosen = []

    def note(stage: str, selection: Selection) -> None:
        chosen.append((stage, selection.sample.index.clone(), selection.sample.weight.clone()))

    telemetry = SamplingTelemetry()
    model = equip(
        DETECTORS[name](7, min_size=64).double(),
        **PIECES[pieces](),
        generator=streams.sampling,
        observers=[note, telemetry],
        loss_observers=[telemetry.add_losses],
    )
    if process_count() > 1:
        share_padding(model)
    model.register_forward_pre_hook(in_double)
    config = RunConfig(iterations=iterations, batch_size=4, accumulate=accumulate)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    schedule = lr_scheduler(optimizer, iterations, ScheduleConfig())
    training = TrainState(model, optimizer, schedule, streams, CPU, config, saved_parts={"telemetry": telemetry})
    if saved and until is None:
        training.load_state_dict(torch.load(saved))
    losses = []
    for batch in narrowed(batches(iterations, cache, accumulate, training.iteration, until)):
        losses.append(step(training, batch))
        training.iteration += 1
    if until is not None:
        state = training.state_dict()
        if process_rank() == 0:
            torch.save(state, saved)
    window = telemetry.close_window(iterations)
    return {
        "weights": model.state_dict(),
        "losses": [{key: float(value) for key, value in parts.items()} for parts in losses],
        "chosen": chosen,
        "histograms": {key: torch.from_numpy(row) for key, row in window.histograms.items()},
        "counts": dict(window.counts),
    }


def in_double(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    images, targets = inputs
    return [image.double() for image in images], [{**t, "boxes": t["boxes"].double()} for t in targets]


def batches(iterations: int, cache: str, accumulate: int, start: int, until: int | None) -> Any:
    splits = shapes(image_size=64, num_train=10, num_val=1, cache_dir=cache)
    share = Share(process_rank(), process_count(), accumulate)
    return train_loader(splits, batch_size=4, seed=3, iterations=iterations, start=start, until=until, share=share)


def narrowed(found: Any) -> Iterator[Batch]:
    """Every third image loses a quarter of its width: the padding of a process's part is not that of the batch."""
    for images, targets in found:
        for place, target in enumerate(targets):
            if int(target["image_id"]) % 3 == 0:
                images[place] = images[place][:, :, :48]
                kept = target["boxes"][:, 0] < 44
                boxes = target["boxes"][kept].clamp(max=48)
                targets[place] = {**target, "boxes": boxes, "labels": target["labels"][kept]}
                targets[place].pop("iscrowd", None)
        yield images, targets


def check_equal(
    name: str, processes: int, iterations: int, cache: str, accumulate: int = 1, pieces: str = "random"
) -> None:
    dtype = torch.get_default_dtype()
    try:
        alone = trained(name, iterations, cache, accumulate, pieces)
    finally:
        torch.set_default_dtype(dtype)
    parts = together(processes, trained, name, iterations, cache, accumulate, pieces)
    for part in parts:
        assert part["weights"].keys() == alone["weights"].keys()
        for key, value in alone["weights"].items():
            error = (part["weights"][key] - value).abs().max() / value.abs().max().clamp(min=1e-3)
            assert float(error) <= 1e-8, f"{key}: {float(error):g}"
        for found, expected in zip(part["losses"], alone["losses"], strict=True):
            assert found == pytest.approx(expected, rel=1e-8)
        assert part["counts"] == alone["counts"]
        assert all(torch.equal(part["histograms"][key], row) for key, row in alone["histograms"].items())
    for number, (stage, index, weight) in enumerate(alone["chosen"]):
        rows = [part["chosen"][number] for part in parts]
        assert {row[0] for row in rows} == {stage}
        assert torch.equal(joined([row[2] for row in rows], weight), weight)
        used = weight > 0
        assert torch.equal(joined([row[1] for row in rows], index)[used], index[used])


def joined(parts: list[Tensor], whole: Tensor) -> Tensor:
    """The slots of all processes; one whose images have fewer candidates has fewer slots than the ``whole``."""
    return torch.cat([pad(part, (0, whole.shape[1] - part.shape[1])) for part in parts])


def test_two_processes_train_as_one(cache: Any) -> None:
    check_equal("tiny_retinanet", 2, 5, str(cache), accumulate=2)


def test_pieces_that_rank_the_whole_batch_do_so_over_the_processes(cache: Any) -> None:
    check_equal("tiny_rcnn", 2, 3, str(cache), pieces="pisa")


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2)])
def test_a_training_is_continued_by_another_number_of_processes(
    first: int, second: int, cache: Any, tmp_path: Any
) -> None:
    arguments = ("tiny_rcnn", 6, str(cache), 1, "random", str(tmp_path / "state"))
    together(first, trained, *arguments, 3)
    (whole,), (found, *_) = together(1, trained, *arguments[:-1]), together(second, trained, *arguments)
    for key, value in whole["weights"].items():
        torch.testing.assert_close(found["weights"][key], value, rtol=1e-8, atol=1e-11, msg=key)
    assert found["counts"] == whole["counts"]
    assert all(torch.equal(found["histograms"][key], row) for key, row in whole["histograms"].items())


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("name", DETECTORS)
def test_twenty_steps_agree(name: str, processes: int, cache: Any) -> None:
    check_equal(name, processes, 20, str(cache))
