"""What counts as one method."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from harness.report.contexts import Context
from harness.report.folders import ReportError
from harness.report.frame import RunTable, node_of
from harness.report.method_names import MISSING, PIECES, labels
from harness.report.presets import is_preset, keys_of_presets
from harness.runs.identity import role_of
from harness.runs.presets import NONE
from harness.runs.roles import NOT_METHOD

_CHOICES_ASIDE = ("run", "data", "loss", "detector", "experiment")


@dataclass
class Method:
    """Runs that differ in nothing but their seed (or in nothing that was asked about)."""

    label: str
    settings: dict[str, Hashable]  # of the columns that vary in the context
    done: list[int] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Methods:
    """All methods of one context."""

    methods: list[Method]
    varying: tuple[str, ...]  # the columns in which they differ
    merged: tuple[str, ...]  # columns that vary, but that the grouping leaves out


def methods_of(table: RunTable, context: Context, group_by: Sequence[str] | None) -> Methods:
    """The methods among the context's finished runs.

    Raises:
        ReportError: a column to group by that no run has.
    """
    everything = _columns(table, context.done)
    columns = everything if group_by is None else _chosen(table, everything, group_by)
    found: dict[tuple[Hashable, ...], Method] = {}
    varying = [name for name in everything if len({value_of(table, row, name) for row in context.done}) > 1]
    telling = [name for name in varying if name in columns]
    for row in context.done:
        key = tuple(value_of(table, row, name) for name in telling)
        found.setdefault(key, Method("", dict(zip(telling, key, strict=True)))).done.append(row)
    for row in context.stopped:
        key = tuple(value_of(table, row, name) for name in telling)
        if key in found:
            found[key].stopped.append(row)
    methods = list(found.values())
    first = table.settings[context.done[0]]
    constant = {name: first[name] for name in PIECES if name in first and name not in varying}
    written = keys_of_presets(table)
    named = labels([{**constant, **method.settings} for method in methods], table.choice_columns, written)
    for method, label in zip(methods, named, strict=True):
        method.label = label or str(first.get("sampler", "all runs"))
    return Methods(methods, tuple(telling), tuple(name for name in varying if name not in columns))


def columns_named(name: str, columns: Sequence[str]) -> list[str]:
    """The columns that a name on the command line means: one setting, or a piece with all that is set in it."""
    wanted = name.replace("/", ".")
    nodes = {wanted, *(node_of(column) for column in columns if column == wanted)}
    inside = tuple(f"{node}." for node in nodes)
    return [
        c
        for c in columns
        if c == wanted or node_of(c) in nodes or c.startswith(inside) or node_of(c).startswith(inside)
    ]


def _columns(table: RunTable, rows: Sequence[int]) -> list[str]:
    """Settings that make a method: choices first, then what is set in the pieces, then the rest."""
    names = dict.fromkeys(name for row in rows for name in table.settings[row] if not is_aside(name))
    choices = [name for name in table.choice_columns if name in names]
    order = [name for name in PIECES if name in choices] + sorted(name for name in choices if name not in PIECES)
    leaves = [name for name in names if name not in choices]
    leaves.sort(key=lambda name: (_rank(name), name))
    return order + leaves


def _rank(leaf: str) -> int:
    heads = ("sampler.", "assigner.", "loss.", "rpn.sampler.", "rpn.assigner.", "rpn.loss.", "detector.")
    return next((rank for rank, head in enumerate(heads) if leaf.startswith(head)), len(heads))


def is_aside(name: str) -> bool:
    """Whether a setting is no part of the method: what the data are, how a run was driven and watched."""
    return name in _CHOICES_ASIDE or role_of(node_of(name)) in NOT_METHOD


def _chosen(table: RunTable, columns: Sequence[str], group_by: Sequence[str]) -> set[str]:
    out: set[str] = set()
    for name in group_by:
        found = columns_named(name, columns)
        if not found:
            heads = dict.fromkeys(
                [*(c for c in columns if c in table.choice_columns), *(c.split(".")[0] for c in columns)]
            )
            raise ReportError(
                f"--group-by {name}: no run has such a setting; there are {', '.join(heads)}, and <one>.<key>"
            )
        out.update(found)
    return out


def value_of(table: RunTable, row: int, name: str) -> Hashable:
    """A setting of a run; a preset that it did not choose is ``none``, as on the command line."""
    value: Hashable = table.settings[row].get(name, NONE if is_preset(name) else MISSING)
    return value
