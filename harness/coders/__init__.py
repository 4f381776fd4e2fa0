"""Box coding: how a head's four numbers become a box, and a ground-truth box becomes their targets.

Shipped detectors code by :class:`DeltaCoder` and :class:`LinearCoder`; :class:`StandardizedDeltaCoder`,
:class:`DistancePointCoder` and :class:`TBLRCoder` serve heads of one's own.
"""

from __future__ import annotations

from harness.coders.delta import DeltaCoder, StandardizedDeltaCoder
from harness.coders.distance import DistancePointCoder, LinearCoder, TBLRCoder
from harness.coders.interface import Coder

__all__ = ["Coder", "DeltaCoder", "DistancePointCoder", "LinearCoder", "StandardizedDeltaCoder", "TBLRCoder"]
