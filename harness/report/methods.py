"""What counts as one method, and a name for it made of everything in which it differs from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.report.contexts import Context
from harness.report.experiments import is_experiment, keys_of_experiments
from harness.report.folders import ReportError
from harness.report.frame import RunTable, node_of
from harness.runs.identity import role_of
from harness.runs.roles import NOT_METHOD, Role

PIECES = ("sampler", "assigner", "classification", "regression")
_CHOICES_ASIDE = ("run", "data", "loss", "detector", "experiment")
_MOST_NAMED = 4  # settings in a name; the table of settings has all


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
    written = keys_of_experiments(table)
    named = labels([{**constant, **method.settings} for method in methods], table.choice_columns, written)
    for method, label in zip(methods, named, strict=True):
        method.label = label or str(first.get("sampler", "all runs"))
    return Methods(methods, tuple(telling), tuple(name for name in varying if name not in columns))


def labels(
    methods: Sequence[Mapping[str, Hashable]], choice_columns: Sequence[str], written: frozenset[str] = frozenset()
) -> list[str]:
    """One unique name a method, of the settings in which the methods differ, without values that most methods have.

    A setting inside a piece in whose option the methods differ (``sampler.nms_thr``) is named only where the options
    do not tell the methods apart: it comes with the option. So is a setting that an option of an experiment writes.

    >>> labels([{"sampler": "ohem", "sampler.num": 64}, {"sampler": "random", "sampler.num": 64}], ["sampler"])
    ['ohem', 'random']
    >>> labels([{"sampler": "ohem", "optimizer.lr": 1}, {"sampler": "random", "optimizer.lr": 2}], ["sampler"])
    ['ohem lr=1', 'random lr=2']
    """
    if not methods:
        return []
    columns = _named(methods, choice_columns, written)
    usual = {name: _usual([method[name] for method in methods]) for name in columns if not _bare(name)}
    short = [_name(method, columns, choice_columns, usual, most=_MOST_NAMED) for method in methods]
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


def _named(
    methods: Sequence[Mapping[str, Hashable]], choice_columns: Sequence[str], written: frozenset[str]
) -> list[str]:
    """The columns that a name is made of."""
    varying = [name for name in methods[0] if len({method[name] for method in methods}) > 1]
    experiments = [name for name in varying if is_experiment(name)]
    owned = [name for name in varying if _comes_with(name, experiments, methods, written)]
    options = [name for name in varying if name in choice_columns and name not in owned]
    inside = tuple(f"{node_of(name)}." for name in options)
    shown = [name for name in varying if name not in owned and not name.startswith(inside)]
    for name in varying:
        if name not in shown and _parts(methods, [*shown, name]) > _parts(methods, shown):
            shown.append(name)
    return shown


def _comes_with(
    name: str, experiments: Sequence[str], methods: Sequence[Mapping[str, Hashable]], written: frozenset[str]
) -> bool:
    """Whether an option of an experiment decides a setting: it is one of a piece, or the option's file writes it."""
    if name in experiments or not experiments or (role_of(node_of(name)) is not Role.METHOD and name not in written):
        return False
    return _parts(methods, [*experiments, name]) == _parts(methods, experiments)


def _parts(methods: Sequence[Mapping[str, Hashable]], columns: Sequence[str]) -> int:
    """Into how many groups the columns part the methods."""
    return len({tuple(method[column] for column in columns) for method in methods})


def _usual(values: Sequence[Hashable]) -> Hashable:
    """The value of most methods; none where two are as frequent."""
    ranked = Counter(values).most_common(2)
    return MISSING if len(ranked) > 1 and ranked[0][1] == ranked[1][1] else ranked[0][0]


def _name(
    method: Mapping[str, Hashable],
    columns: Sequence[str],
    choices: Sequence[str],
    usual: Mapping[str, Hashable],
    exact: bool = False,
    most: int | None = None,
) -> str:
    # A piece that all methods share is named where one of its settings tells them apart: `ohem num=32`.
    bare = [
        str(method[name])
        for name in method
        if name in choices and _bare(name)
        if name in columns or any(column.startswith(f"{node_of(name)}.") for column in columns)
    ]
    last = Counter(name.split(".")[-1] for name in columns)
    told = []
    for name in columns:
        value = method[name]
        if (name in choices and _bare(name)) or value is MISSING or (name in usual and usual[name] == value):
            continue
        inside = name.removeprefix("sampler.").removeprefix("assigner.")
        key = name.split(".")[-1] if last[name.split(".")[-1]] == 1 and not name.startswith(("rpn.", "roi")) else inside
        told.append(f"{key}={value}" if exact else f"{key}={_text(value)}")
    rest = [] if most is None or len(told) <= most else [f"and {len(told) - most} more settings"]
    return " ".join([*([" + ".join(bare)] if bare else []), *told[:most], *rest])


def _bare(choice: str) -> bool:
    """Whether an option says by itself what it is an option of."""
    return choice in PIECES or is_experiment(choice)


def _text(value: Hashable) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
