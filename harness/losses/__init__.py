"""Losses: unreduced until the end, one method per file, paired and normalised by :class:`harness.losses.pair.Loss`."""
