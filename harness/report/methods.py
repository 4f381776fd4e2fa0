"""What counts as one method, and a name for it made of what tells it from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from harness.report.contexts import Context
from harness.report.folders import ReportError
from harness.report.frame import RunTable, node_of
from harness.runs.identity import role_of
from harness.runs.roles import NOT_METHOD

PIECES = ("sampler", "assigner", "classification", "regression")
_CHOICES_ASIDE = ("run", "data", "loss", "detector", "experiment")


class _Missing:
    """A setting that a run does not have; `null` is a value."""

    def __repr__(self) -> str:
        return "not set"


MISSING = _Missing()


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
    varying = [name for name in everything if len({_value(table, row, name) for row in context.done}) > 1]
    telling = [name for name in varying if name in columns]
    for row in context.done:
        key = tuple(_value(table, row, name) for name in telling)
        found.setdefault(key, Method("", dict(zip(telling, key, strict=True)))).done.append(row)
    for row in context.stopped:
        key = tuple(_value(table, row, name) for name in telling)
        if key in found:
            found[key].stopped.append(row)
    methods = list(found.values())
    first = table.settings[context.done[0]]
    constant = {name: first[name] for name in PIECES if name in first and name not in varying}
    named = labels([{**constant, **method.settings} for method in methods], table.choice_columns)
    for method, label in zip(methods, named, strict=True):
        method.label = label or str(first.get("sampler", "all runs"))
    return Methods(methods, tuple(telling), tuple(name for name in varying if name not in columns))


def labels(methods: Sequence[dict[str, Hashable]], choice_columns: Sequence[str]) -> list[str]:
    """One short unique name a method: the fewest settings that tell them apart, without values that are the usual ones.

    >>> labels([{"sampler": "ohem", "sampler.num": 64}, {"sampler": "random", "sampler.num": 64}], ["sampler"])
    ['ohem', 'random']
    """
    if not methods:
        return []
    columns = _telling(methods, choice_columns)
    usual = {name: _usual([method[name] for method in methods]) for name in columns if not _bare(name)}
    short = [_name(method, columns, choice_columns, usual) for method in methods]
    full = [_name(method, columns, choice_columns, {}) for method in methods]
    exact = [_name(method, columns, choice_columns, {}, exact=True) for method in methods]
    return _numbered(_told_apart(_told_apart(short, full), exact))


def _told_apart(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    """The names, but for empty ones and those that two methods have: these take the longer form."""
    counts = Counter(names)
    return [name if name and counts[name] == 1 else spelt for name, spelt in zip(names, longer, strict=True)]


def _numbered(names: Sequence[str]) -> list[str]:
    """Names of their own at any price: a report looks methods up by them."""
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return out


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


def _value(table: RunTable, row: int, name: str) -> Hashable:
    value: Hashable = table.settings[row].get(name, MISSING)
    return value


def _telling(methods: Sequence[dict[str, Hashable]], choice_columns: Sequence[str]) -> list[str]:
    """The first choice that alone tells all methods apart, or else columns that each tell some more apart."""
    columns = list(methods[0])
    for name in columns:
        if name in choice_columns and len({method[name] for method in methods}) == len(methods):
            return [name]
    kept: list[str] = []
    parts = 1
    for name in columns:
        split = len({tuple(method[column] for column in [*kept, name]) for method in methods})
        if split > parts:
            kept, parts = [*kept, name], split
    return kept


def _usual(values: Sequence[Hashable]) -> Hashable:
    """The value of most methods; none where two are as frequent."""
    ranked = Counter(values).most_common(2)
    return MISSING if len(ranked) > 1 and ranked[0][1] == ranked[1][1] else ranked[0][0]


def _name(
    method: dict[str, Hashable],
    columns: Sequence[str],
    choices: Sequence[str],
    usual: dict[str, Hashable],
    exact: bool = False,
) -> str:
    # A piece that all methods share is named where one of its settings tells them apart: `ohem num=32`.
    bare = [
        str(method[name])
        for name in method
        if name in choices and _bare(name)
        if name in columns or any(column.startswith(f"{node_of(name)}.") for column in columns)
    ]
    out = [" + ".join(bare)] if bare else []
    last = Counter(name.split(".")[-1] for name in columns)
    for name in columns:
        value = method[name]
        if (name in choices and _bare(name)) or value is MISSING or (name in usual and usual[name] == value):
            continue
        inside = name.removeprefix("sampler.").removeprefix("assigner.")
        key = name.split(".")[-1] if last[name.split(".")[-1]] == 1 and not name.startswith(("rpn.", "roi")) else inside
        out.append(f"{key}={value}" if exact else f"{key}={_text(value)}")
    return " ".join(out)


def _bare(choice: str) -> bool:
    """Whether an option says by itself what it is an option of."""
    return choice in (*PIECES, "experiment.rung", "experiment.arm")


def _text(value: Hashable) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
