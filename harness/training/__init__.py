"""Training one detector: streams, schedule, precision, checkpoints, the loop."""
