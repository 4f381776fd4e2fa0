"""Losses: unreduced until the end, one method a file, paired and normalised by :class:`harness.losses.pair.Loss`."""
