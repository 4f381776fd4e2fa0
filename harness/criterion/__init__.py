"""The one flow of a stage: candidates -> assignment -> sample -> losses; the facts of its head, what fits it."""
