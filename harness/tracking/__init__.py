"""The mirror of a run: Weights & Biases, or nothing. The folder is the truth.

A mirror never changes or stops a run: without a network, a key or the will to upload it writes offline, into the run
folder, and ``wandb sync`` uploads that later.
"""

from harness.tracking.opening import complete_mirror, log_report, open_tracker
from harness.tracking.tracker import NoTracker, Tracker
from harness.tracking.wandb_tracker import WandbTracker

__all__ = ["NoTracker", "Tracker", "WandbTracker", "complete_mirror", "log_report", "open_tracker"]
