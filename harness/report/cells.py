"""Columns and cells that hold numbers."""

from __future__ import annotations

import math

from harness.report.parts import Cell, Column, Order
from harness.report.words import number

UNKNOWN = "—"


def number_column(head: str, first_click: Order = "descending", extra: bool = False, help: str = "") -> Column:
    """A column whose texts stand right."""
    return Column(head, "right", first_click, extra, help)


def number_cell(value: float, digits: int | None = None) -> Cell:
    """A number as the report writes it, or with so many decimals; a dash for NaN."""
    if math.isnan(value):
        return Cell(UNKNOWN)
    return Cell(number(value) if digits is None else f"{value:,.{digits}f}", value)


def sort_value(value: float) -> float | None:
    """The value to sort by: None for NaN."""
    return None if math.isnan(value) else value


def count_cell(value: int) -> Cell:
    """A whole number."""
    return Cell(str(value), value)


def percent(value: float) -> str:
    """A share as ``12.3 %``; a dash for NaN."""
    return UNKNOWN if math.isnan(value) else f"{value:.1%}".replace("%", " %")
