"""A name for each method, made of everything in which it differs from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from harness.report.frame import node_of
from harness.report.presets import is_preset
from harness.runs.identity import role_of
from harness.runs.roles import Role

PIECES = ("sampler", "assigner", "classification", "regression")
_MOST_NAMED = 4  # settings in a name; the table of settings has all


class _Missing:
    """A setting that a run does not have; `null` is a value."""

    def __repr__(self) -> str:
        return "not set"


MISSING = _Missing()


def labels(
    methods: Sequence[Mapping[str, Hashable]], choice_columns: Sequence[str], written: frozenset[str] = frozenset()
) -> list[str]:
    """One unique name a method, of the settings in which the methods differ, without values that most methods have.

    A setting inside a piece in whose option the methods differ (``sampler.nms_thr``) is named only where the options
    do not tell the methods apart: it comes with the option. So is a setting that a recipe or an experiment writes.

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


def _named(
    methods: Sequence[Mapping[str, Hashable]], choice_columns: Sequence[str], written: frozenset[str]
) -> list[str]:
    """The columns that a name is made of."""
    varying = [name for name in methods[0] if len({method[name] for method in methods}) > 1]
    presets = [name for name in varying if is_preset(name)]
    owned = [name for name in varying if _comes_with(name, presets, methods, written)]
    options = [name for name in varying if name in choice_columns and name not in owned]
    inside = tuple(f"{node_of(name)}." for name in options)
    shown = [name for name in varying if name not in owned and not node_of(name).startswith(inside)]
    for name in varying:
        if name not in shown and _parts(methods, [*shown, name]) > _parts(methods, shown):
            shown.append(name)
    return shown


def _comes_with(
    name: str, presets: Sequence[str], methods: Sequence[Mapping[str, Hashable]], written: frozenset[str]
) -> bool:
    """Whether a recipe or an experiment decides a setting: it is one of a piece, or the option's file writes it."""
    if name in presets or not presets or (role_of(node_of(name)) is not Role.METHOD and name not in written):
        return False
    return _parts(methods, [*presets, name]) == _parts(methods, presets)


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
    return choice in PIECES or is_preset(choice)


def _text(value: Hashable) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
