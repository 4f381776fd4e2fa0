"""What a run trains, put together: the detector with its pieces, its optimizer, its schedule and its streams."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.core.processes import process_count
from harness.data.class_counts import class_counts
from harness.data.loading import val_loader
from harness.detectors.adapters.mixing import plain_module
from harness.detectors.adapters.padding import share_padding
from harness.detectors.equip import equip
from harness.experiment.experiment import Experiment
from harness.runs.schema import RunConfig
from harness.telemetry.recorder import SamplingTelemetry
from harness.training.compiled import compile_networks
from harness.training.guard import Measured, measure
from harness.training.image_order import ImageOrder
from harness.training.schedule import lr_scheduler
from harness.training.selection import BestWeights
from harness.training.state import TrainState
from harness.training.streams import Streams


def assemble(
    experiment: Experiment, settings: RunConfig, device: torch.device, telemetry: SamplingTelemetry | None
) -> TrainState:
    """The state of a training before its first step. Draws the weights and sets torch's random stream.

    Args:
        experiment: its data, its pieces, its detector.
        settings: of this training set; with ``iterations``.
        device: where it trains.
        telemetry: sees every selection and its losses; ``None``: nothing does.
    """
    splits = experiment.splits
    streams = Streams(experiment.settings.seed, device)
    plain = experiment.detector(streams, splits.classes).to(device)
    if settings.channels_last:
        plain = plain.to(memory_format=torch.channels_last)
    order = ImageOrder(
        experiment.pieces.image_sampler,
        splits.train,
        streams.data,
        batch_size=settings.batch_size,
        iterations=settings.iterations,
        device=device,
    )
    seen = [] if telemetry is None else [telemetry.add_losses]
    model = experiment.pieces.equip(
        plain,
        streams,
        observers=[] if telemetry is None else [telemetry],
        loss_observers=[*seen, order.add_losses] if order.pauses else seen,
        class_counts=class_counts(splits.train),
    )
    model.set_accumulation(settings.accumulate)  # type: ignore[operator]
    if settings.compile:
        compile_networks(model)
    order.watch(model)
    if process_count() > 1:
        share_padding(model)
    optimizer = experiment.optimizer(model)
    ema = None
    if settings.ema_decay is not None:
        ema = AveragedModel(plain, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay), use_buffers=True)
    torch.manual_seed(streams.steps)
    return TrainState(
        model=model,
        optimizer=optimizer,
        schedule=lr_scheduler(optimizer, settings.iterations, experiment.settings.schedule),
        streams=streams,
        device=device,
        config=settings,
        ema=ema,
        best=BestWeights() if settings.select == "best" else None,
        saved_parts={"image_order": order} | ({} if telemetry is None else {"telemetry": telemetry}),
    )


def guarded(
    experiment: Experiment, settings: RunConfig, model: nn.Module, device: torch.device, images: int
) -> Measured:
    """What the combination does to the first training images, measured beside the detector's own components.

    Args:
        experiment: its pieces and its data.
        settings: batch size and precision.
        model: as it was assembled; it stays as it is.
        device: where it is.
        images: how many.
    """
    plain, train = plain_module(model), experiment.splits.train
    return measure(
        replace(experiment.pieces.copy(), shadows={}).equip(
            plain, Streams(experiment.settings.seed, device), class_counts=class_counts(train)
        ),
        equip(plain),
        val_loader(train, batch_size=settings.batch_size, num_workers=0),
        device,
        settings.precision,
        images,
        loss_is_published=experiment.loss_is_published,
    )
