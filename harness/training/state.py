"""Everything that a training step reads and writes, as one object that can be saved and continued."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from harness.runs.schema import RunConfig
from harness.training import checkpoint
from harness.training.optimizer import group_names, require_same_groups
from harness.training.selection import BestWeights
from harness.training.streams import Streams

log = logging.getLogger("harness")


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; the message holds its parts."""


class LossWindow:
    """The losses since the last logged step, kept on the device until they are read together."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, dict[str, Tensor]]] = []
        self._checked = 0

    def add(self, iteration: int, losses: dict[str, Tensor]) -> None:
        """Keeps the parts of one step."""
        self._steps.append((iteration, losses))

    def check(self) -> None:
        """Raises NonFiniteLossError for the first step that was not finite."""
        fresh = self._steps[self._checked :]
        if fresh:
            finite = torch.stack([torch.stack(list(parts.values())).isfinite().all() for _, parts in fresh]).tolist()
            for ok, (iteration, parts) in zip(finite, fresh, strict=True):
                if not ok:
                    shown = ", ".join(f"{name}={float(value):g}" for name, value in parts.items())
                    raise NonFiniteLossError(f"the loss at iteration {iteration} is not finite: {shown}")
        self._checked = len(self._steps)

    def close(self) -> dict[str, float]:
        """Checks, returns the means and starts anew."""
        self.check()
        names = list(self._steps[0][1])
        table = torch.stack([torch.stack([parts[name].float() for name in names]) for _, parts in self._steps])
        self._steps.clear()
        self._checked = 0
        return dict(zip(names, table.mean(0).tolist(), strict=True))

    def state_dict(self) -> list[tuple[int, dict[str, Tensor]]]:
        """The open window."""
        return list(self._steps)

    def load_state_dict(self, state: list[tuple[int, dict[str, Tensor]]], device: torch.device) -> None:
        """Continues the open window on ``device``, where its next steps will be; what was saved had been checked."""
        self._steps = [
            (iteration, {name: loss.to(device) for name, loss in parts.items()}) for iteration, parts in state
        ]
        self._checked = len(state)


class Stateful(Protocol):
    """What a checkpoint holds beside the training itself."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class TrainState:
    """Everything that a step reads and writes."""

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    streams: Streams
    device: torch.device
    config: RunConfig
    ema: AveragedModel | None = None
    saved_parts: dict[str, Stateful] = field(default_factory=dict)  # by name: telemetry, ...
    window: LossWindow = field(default_factory=LossWindow)
    iteration: int = 0
    evaluated_at: int = 0  # the last iteration that was evaluated on the way
    best: BestWeights | None = None  # where run.select is best
    seconds: float = 0.0
    eval_seconds: float = 0.0  # of the evaluations on the way
    sessions: int = 1

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is evaluated and kept: the moving average of the weights where there is one."""
        model: nn.Module = self.model if self.ema is None else self.ema.module
        return model

    def require_finite(self) -> None:
        """Raises NonFiniteLossError or NonFiniteWeightsError where a loss or the weights are not finite."""
        self.window.check()
        states = {"model": self.model.state_dict()} | ({} if self.ema is None else {"ema": self.ema.state_dict()})
        checkpoint.require_finite(states, f"at iteration {self.iteration}")

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors and plain containers."""
        return {
            "iteration": self.iteration,
            "evaluated_at": self.evaluated_at,
            "seconds": self.seconds,
            "eval_seconds": self.eval_seconds,
            "sessions": self.sessions,
            "threads": torch.get_num_threads(),
            "model": self.model.state_dict(),
            "criteria": self.model.criteria_state_dict(),  # type: ignore[operator]
            "optimizer": self.optimizer.state_dict(),
            "optimizer_groups": group_names(self.model, self.optimizer),
            "schedule": {k: v for k, v in self.schedule.state_dict().items() if k != "lr_lambdas"},
            "streams": self.streams.state_dict(),
            "window": self.window.state_dict(),
            "best": None if self.best is None else self.best.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "parts": {name: part.state_dict() for name, part in self.saved_parts.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken.

        On a CPU another number of threads would add in another order and give other bits. Where ``run.threads`` is
        null, the number of the first session is therefore kept, on whatever number of cores the run continues.

        Raises:
            CheckpointError: the state is of a training with another optimizer, or of another kind of device.
        """
        require_same_groups(self.model, self.optimizer, state)
        threads = torch.get_num_threads()
        if self.device.type == "cpu" and state["threads"] != threads:
            log.warning("continues with %d threads, as it began; this process would use %d", state["threads"], threads)
            torch.set_num_threads(state["threads"])
        self.model.load_state_dict(state["model"])
        self.model.load_criteria_state_dict(state["criteria"])  # type: ignore[operator]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict({**self.schedule.state_dict(), **state["schedule"]})
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if self.best is not None:
            self.best.load_state_dict(state["best"])
        for name, part in self.saved_parts.items():
            part.load_state_dict(state["parts"][name])
        self.streams.load_state_dict(state["streams"])
        self.window.load_state_dict(state["window"], self.device)
        self.iteration = state["iteration"]
        self.evaluated_at = state["evaluated_at"]
        self.seconds = state["seconds"]
        self.eval_seconds = state.get("eval_seconds", 0.0)  # checkpoints of earlier versions do not know them
        self.sessions = state["sessions"] + 1
