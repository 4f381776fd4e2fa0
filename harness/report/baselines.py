"""With which method each method is compared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from harness.report.folders import ReportError
from harness.report.frame import RunTable
from harness.report.methods import Method, columns_named, value_of
from harness.report.presets import is_preset
from harness.runs.presets import NONE


def parse_conditions(text: str) -> dict[str, str]:
    """``sampler=random,loss/classification=focal`` -> what a baseline has to be.

    Raises:
        ReportError: a part without ``=``.
    """
    out = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name or not value:
            raise ReportError(f"--baseline {text}: write it as setting=value[,setting=value], e.g. sampler=random")
        column, value = _column(name.strip()), value.strip()
        out[column] = NONE if is_preset(column) and value == "null" else value
    return out


def meets(table: RunTable, method: Method, conditions: Mapping[str, str]) -> bool:
    """Whether every run of a method has the settings asked for."""
    return all(_same(value_of(table, row, name), value) for name, value in conditions.items() for row in method.done)


def baselines_of(table: RunTable, methods: Sequence[Method], conditions: Mapping[str, str] | None) -> dict[str, str]:
    """Method -> the baseline that it is compared with, by label; a method that is only a baseline is left out.

    Where the conditions fit several methods (`sampler=random` in a grid of samplers and losses), a method is compared
    with the one that agrees with it in everything else. Without conditions: sampler=random, else the method with most
    runs. Empty if no method fits.
    """
    asked = {"sampler": "random"} if conditions is None else dict(conditions)
    fitting = [method for method in methods if meets(table, method, asked)]
    if not fitting and conditions is None:
        fitting, asked = [max(methods, key=lambda method: len(method.done))], {}
    if not fitting:
        return {}
    usual = {name: Counter(method.settings[name] for method in methods) for name in methods[0].settings}
    fitting.sort(key=lambda method: _commonness(method, usual), reverse=True)
    spoken_for = set().union(*(columns_named(name, list(methods[0].settings)) for name in asked)) if asked else set()
    rest = [name for name in methods[0].settings if name not in spoken_for]
    pairs: dict[str, str] = {}
    for method in methods:
        if method not in fitting:
            # max keeps the first of equals, which is the most usual one
            partner = max(fitting, key=lambda one: sum(one.settings[name] == method.settings[name] for name in rest))
            pairs[method.label] = partner.label
    for method in fitting[1:]:
        if method.label not in pairs.values():
            pairs[method.label] = fitting[0].label
    return pairs


def _column(name: str) -> str:
    """A group as it is written on the command line (``loss/classification``, ``sampler@rpn.sampler``), or a key."""
    place = name.partition("@")[2] or name.replace("/", ".")
    return re.sub(r"(^|\.)loss\.(classification|regression)$", r"\1\2", place)


def _commonness(method: Method, usual: Mapping[str, Counter[Hashable]]) -> tuple[int, int]:
    return sum(counts[method.settings[name]] for name, counts in usual.items()), len(method.done)


def _same(value: object, text: str) -> bool:
    if value is None:
        return text == "null"
    if isinstance(value, bool):
        return text == str(value).lower()
    if isinstance(value, (int, float)):
        try:
            return float(text) == value
        except ValueError:
            return False
    return str(value) == text
