"""Groups of which no option is chosen by default, and the option that chooses none of theirs."""

from __future__ import annotations

PRESETS = ("experiment/arm", "experiment/rung", "experiment", "recipe")  # each option stands for a whole method
NONE = "none"  # an option of every one of them: as if the group had not been named
OVERRIDE = "override /"  # how the defaults of an option name the group of which they choose an option
