"""What a training forward on a GPU waits for, found on a machine without one.

Fake tensors (torch's own ``FakeTensorMode``) have a device, a type and a shape, but no values. Code that asks for a
value of such a tensor on a CUDA device would make a real GPU wait. Here each question is answered with something
plausible, so that the forward goes on, and its place is written down.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(torch.__file__).resolve().parents[1]
aten = torch.ops.aten


@dataclass
class HostSyncs(TorchDispatchMode):
    """Answers questions of values and writes their places down; use it inside of ``FakeTensorMode``."""

    places: dict[str, str] = field(default_factory=dict)  # "file: function" -> "line: source"

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            return self._value(args[0])
        if func in (aten.nonzero.default, aten.masked_select.default):
            self._note(args[0])
            count = args[0].numel()
            shape = (count, args[0].dim()) if func is aten.nonzero.default else (count,)
            dtype = torch.int64 if func is aten.nonzero.default else args[0].dtype
            return torch.empty(shape, dtype=dtype, device=args[0].device)
        if func is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1]):
            self._note(args[0])
            places = [i if i is None or i.dtype != torch.bool else self._everything(i) for i in args[1]]
            return args[0][tuple(slice(None) if i is None else i for i in places)]
        if func is torch.ops.torchvision.nms.default:
            return torch.arange(len(args[0]), device=args[0].device)
        if func is aten._to_copy.default and "device" in kwargs and kwargs["device"] is not None:
            self._copy(args[0], torch.device(kwargs["device"]), kwargs.get("non_blocking", False))
        return func(*args, **kwargs)

    def _value(self, tensor: torch.Tensor) -> Any:
        self._note(tensor)
        if tensor.dtype == torch.bool:
            return False
        number = int(tensor.device.type == "cuda")  # on the CPU only torchvision's choice among image sizes: the first
        return float(number) if tensor.dtype.is_floating_point else number

    def _everything(self, mask: torch.Tensor) -> torch.Tensor:
        return torch.arange(mask.shape[0], device=mask.device)

    def _copy(self, tensor: torch.Tensor, target: torch.device, non_blocking: bool) -> None:
        if tensor.device.type == "cuda" and target.type == "cpu":
            self._note(tensor)

    def _note(self, tensor: torch.Tensor) -> None:
        if tensor.device.type != "cuda":
            return
        for frame in reversed(traceback.extract_stack()):
            path = Path(frame.filename).resolve()
            for base in (ROOT / "harness", SITE / "torchvision"):
                if path.is_relative_to(base):
                    place = f"{base.name}/{path.relative_to(base)}: {frame.name}"
                    self.places.setdefault(place, f"{frame.lineno}: {frame.line}")
                    return
        raise AssertionError("a value was asked for outside of harness and torchvision")


def batch(size: int, classes: int, images: int = 2, objects: int = 3) -> tuple[list[Any], list[dict[str, Any]]]:
    """Fake images and targets on a fake CUDA device; call it inside of ``FakeTensorMode``."""
    pictures = [torch.rand(3, size, size, device="cuda") for _ in range(images)]
    targets = [
        {
            "boxes": torch.rand(objects, 4, device="cuda"),
            "labels": torch.ones(objects, dtype=torch.int64, device="cuda"),
        }
        for _ in range(images)
    ]
    return pictures, targets


def forward(model: torch.nn.Module, size: int = 96, classes: int = 4) -> tuple[Mapping[str, torch.Tensor], HostSyncs]:
    """The losses of a training forward of ``model``, which lives in fake CUDA memory, and what it waited for."""
    watch = HostSyncs()
    images, targets = batch(size, classes)
    with watch:
        losses = model.train()(images, targets)
    return losses, watch


def fake_cuda() -> FakeTensorMode:
    """A mode in which ``device="cuda"`` works on any machine."""
    return FakeTensorMode()
