"""What else differs between the methods that are compared, besides what is meant to be compared."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.comparison import Section
from harness.report.frame import RunTable, node_of
from harness.report.method_names import MISSING
from harness.report.methods import Method
from harness.report.presets import is_preset, keys_of_presets
from harness.runs.identity import role_of
from harness.runs.roles import Role

_MOST_NAMED = 6
Difference = tuple[str, str, str]  # setting, the method's value, the baseline's value


def unequal_settings(table: RunTable, section: Section) -> list[str]:
    """One warning for each set of settings beside the compared pieces in which a method differs from its baseline.

    The pieces are what has the role ``method`` in the schema (assigner, sampler, loss, augmentation) or is written by
    an option of an experiment. Where two methods differ in nothing of that kind, the training's settings themselves
    (learning rate, batch size, ...) are what is compared, and there is nothing to warn of.
    """
    written = keys_of_presets(table)
    found: dict[tuple[str, tuple[Difference, ...]], list[str]] = {}
    for row, one in section.compared:
        beside = _beside(row.method, section.row(one.baseline).method, section.methods.varying, written)
        if beside:
            found.setdefault((one.baseline, tuple(beside)), []).append(row.label)
    out = []
    if section.methods.merged:
        out.append(f"The grouping merges runs that differ in {_listed(section.methods.merged)}.")
    for (baseline, differences), names in found.items():
        told = _listed([f"{key} ({mine} against {theirs})" for key, mine, theirs in differences])
        verb, its = ("differs", "its verdict is") if len(names) == 1 else ("differ", "their verdicts are")
        out.append(f"{_listed(names)} also {verb} from {baseline} in {told}: {its} about all settings together.")
    return out


def unequal_inside(table: RunTable, section: Section) -> list[str]:
    """One note on the settings that compared options share, and have with other values.

    What a recipe or an experiment writes is not among them: it is what its name stands for.
    """
    written = keys_of_presets(table)
    found: dict[str, None] = {}
    for row, one in section.compared:
        baseline = section.row(one.baseline).method
        for name, value in row.method.settings.items():
            other = baseline.settings[name]
            own = name in written or is_preset(name) or name.endswith("_target_")
            piece = "." in name and role_of(node_of(name)) is Role.METHOD and not own
            if piece and MISSING not in (value, other) and value != other and name.split(".")[-1] not in row.label:
                found[name] = None
    return (
        [f"Inside the compared pieces, methods and baselines also differ in {_listed(list(found))}."] if found else []
    )


def _beside(one: Method, baseline: Method, varying: Sequence[str], written: frozenset[str]) -> list[Difference]:
    differing = [name for name in varying if one.settings[name] != baseline.settings[name]]
    pieces = [name for name in differing if name in written or role_of(node_of(name)) is Role.METHOD]
    if not pieces:
        return []
    rest = [name for name in differing if name not in pieces]
    # An option and what it sets are one difference: the option is named.
    return [
        (name, _shown(one, name), _shown(baseline, name))
        for name in rest
        if not any(name.startswith(f"{other}.") for other in rest)
    ]


def _shown(method: Method, name: str) -> str:
    value = method.settings[name]
    return "not set" if value is MISSING else str(value)


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{rest}"
