"""Box coding: how a head's four numbers become a box, and a ground-truth box becomes their targets."""

from harness.coders.delta import DeltaCoder, StandardizedDeltaCoder
from harness.coders.distance import DistancePointCoder, LinearCoder, TBLRCoder
from harness.coders.interface import Coder

__all__ = ["Coder", "DeltaCoder", "DistancePointCoder", "LinearCoder", "StandardizedDeltaCoder", "TBLRCoder"]
