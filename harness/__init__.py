"""Which way of choosing training samples is best for my detector on my data, and is the difference real?

The names below are the public face of the library. They are imported when first used, so that ``import harness`` alone
costs nothing and does not import torch. Methods live in their packages: ``harness.assigners.ATSSAssigner``,
``harness.samplers.OHEMSampler``, ``harness.losses.FocalLoss``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.structures import (
        Assignment,
        CandidateLosses,
        Candidates,
        GroundTruth,
        Need,
        Predictions,
        SamplingResult,
    )
    from harness.criterion.compatibility import IncompatibleError
    from harness.criterion.stage import StageComponents
    from harness.detectors.equip import equip
    from harness.experiment.trained import load_detector
    from harness.losses.pair import Loss

__version__ = "0.2.0.dev0"

_HOMES = {
    "Assignment": "harness.core.structures",
    "CandidateLosses": "harness.core.structures",
    "Candidates": "harness.core.structures",
    "GroundTruth": "harness.core.structures",
    "IncompatibleError": "harness.criterion.compatibility",
    "Loss": "harness.losses.pair",
    "Need": "harness.core.structures",
    "Predictions": "harness.core.structures",
    "SamplingResult": "harness.core.structures",
    "StageComponents": "harness.criterion.stage",
    "equip": "harness.detectors.equip",
    "load_detector": "harness.experiment.trained",
}

__all__ = [
    "Assignment",
    "CandidateLosses",
    "Candidates",
    "GroundTruth",
    "IncompatibleError",
    "Loss",
    "Need",
    "Predictions",
    "SamplingResult",
    "StageComponents",
    "__version__",
    "equip",
    "load_detector",
]


def __getattr__(name: str) -> object:
    """Imports a public name from its module when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
