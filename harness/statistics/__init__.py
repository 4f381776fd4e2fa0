"""Whether a difference between methods is real: paired comparison, intervals, power, aggregates."""
