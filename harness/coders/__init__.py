"""Box coding: how a head's four numbers become a box, and a ground-truth box becomes their targets.

Shipped detectors code by :class:`DeltaCoder`, :class:`LinearCoder`, :class:`StrideDistanceCoder`,
:class:`YOLOv3Coder` and :class:`YOLOv5Coder`; :class:`StandardizedDeltaCoder`, :class:`DistancePointCoder` and
:class:`TBLRCoder` serve heads of one's own.
"""

from __future__ import annotations

from harness.coders.delta import DeltaCoder, StandardizedDeltaCoder
from harness.coders.distance import DistancePointCoder, LinearCoder, TBLRCoder
from harness.coders.grid import StrideDistanceCoder, YOLOv3Coder, YOLOv5Coder
from harness.coders.interface import Coder

__all__ = [
    "Coder",
    "DeltaCoder",
    "DistancePointCoder",
    "LinearCoder",
    "StandardizedDeltaCoder",
    "StrideDistanceCoder",
    "TBLRCoder",
    "YOLOv3Coder",
    "YOLOv5Coder",
]
