"""What was sampled, what it changed, and whether it is real. Floor 4."""
