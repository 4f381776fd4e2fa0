"""On what the runs were made, and whether what is compared was made alike."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.report.frame import RunTable

_TELLING = ("commit", "harness", "python", "platform", "processor", "device", "threads")


def warnings_of(table: RunTable, rows: Sequence[int]) -> list[str]:
    """One line per fact in which the compared runs differ; the versions of packages included."""
    environments = [_facts(table.environments[row]) for row in rows]
    out = []
    for name in dict.fromkeys(name for one in environments for name in one):
        values = Counter(one.get(name, "not recorded") for one in environments)
        if len(values) > 1:
            told = "; ".join(
                f"{value} ({count} run{'s' if count > 1 else ''})" for value, count in values.most_common(4)
            )
            rest = f"; and {len(values) - 4} more" if len(values) > 4 else ""
            out.append(f"The compared runs differ in {name}: {told}{rest}.")
    changed = sum(str(table.environments[row].get("commit") or "").endswith("+changes") for row in rows)
    if changed:
        out.append(f"{changed} of {len(rows)} runs were made with uncommitted changes to the code.")
    return out


def facts_table(table: RunTable) -> list[tuple[str, str]]:
    """Fact and its values with the number of runs, over the whole report."""
    environments = [_facts(one) for one in table.environments if one]
    out = []
    for name in dict.fromkeys(name for one in environments for name in one):
        values = Counter(one.get(name, "not recorded") for one in environments)
        told = "; ".join(f"{value} ({count})" if len(values) > 1 else value for value, count in values.most_common(8))
        out.append((name, told))
    return out


def commands(table: RunTable) -> list[str]:
    """The distinct command lines, in the order of the runs."""
    lines = (_command(one.get("command")) for one in table.environments)
    return list(dict.fromkeys(line for line in lines if line))


def _command(argv: Any) -> str:
    if not isinstance(argv, list) or not argv:
        return ""
    first, *rest = map(str, argv)
    program = "python -m harness" if first.endswith("__main__.py") else first
    return " ".join([program, *map(shlex.quote, rest)])


def _facts(environment: dict[str, Any]) -> dict[str, str]:
    facts = {name: str(environment[name]) for name in _TELLING if environment.get(name) is not None}
    if "commit" in facts:
        commit, plus, changes = facts["commit"].partition("+")
        facts["commit"] = commit[:10] + plus + changes
    packages = environment.get("packages")
    if isinstance(packages, dict):
        facts |= {name: str(version) for name, version in packages.items() if version is not None}
    return facts
