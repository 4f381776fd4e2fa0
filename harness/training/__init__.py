"""Training one detector: streams, schedule, precision, checkpoints, the loop. Floor 5."""
