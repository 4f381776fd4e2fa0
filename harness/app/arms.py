"""The arms of an adaptive sweep: all combinations of the swept values but the seed, and with which each is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from hydra.core.override_parser.types import Override

from harness.runs.schema import ConfigError

SEED = "seed"


@dataclass(frozen=True)
class Arm:
    """One method of the sweep."""

    label: str
    overrides: tuple[str, ...]  # of each of its jobs, without the seed
    swept: Mapping[str, str]  # swept key -> value


def arms_of(overrides: Sequence[Override]) -> list[Arm]:
    """All combinations of swept values; later overrides of a key replace earlier ones.

    Raises:
        ConfigError: a sweep over a continuous interval, or nothing to compare.
    """
    values: dict[str, list[str]] = {}
    swept: list[str] = []
    for override in overrides:
        key = override.get_key_element()
        if key == SEED:
            continue
        values[key] = values_of(override)
        swept = [one for one in swept if one != key] + [key] * override.is_sweep_override()
    arms = []
    for combination in product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        own = {key: chosen[key] for key in swept}
        label = " ".join(own.values() if len(own) == 1 else (f"{key}={value}" for key, value in own.items()))
        arms.append(Arm(label, tuple(f"{key}={value}" for key, value in chosen.items()), own))
    if len(arms) < 2:
        raise ConfigError(
            "hydra/sweeper=until_settled compares at least two arms: give several values, as in sampler=random,ohem"
        )
    return arms


def values_of(override: Override) -> list[str]:
    """The values of an override as they are written on a command line."""
    if not override.is_sweep_override():
        return [str(override.get_value_element_as_str())]
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{override.input_line}: hydra/sweeper=until_settled needs single values, as in key=1,2 or range(1,3)"
        )
    return list(override.sweep_string_iterator())


def seeds_of(overrides: Sequence[Override], most: int) -> list[int]:
    """The seeds in the order in which they are drawn: those given (``seed=range(100,120)``), one and those after it
    (``seed=100``), or those from 0 on; at most ``most``.

    Raises:
        ConfigError: a seed that is no whole number, or one that is given twice.
    """
    given = [override for override in overrides if override.get_key_element() == SEED]
    written = values_of(given[-1]) if given else ["0"]
    try:
        seeds = [int(value) for value in written]
    except ValueError:
        raise ConfigError(f"seed={','.join(written)}: seeds must be whole numbers") from None
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seed={','.join(written)}: a seed is given twice")
    return seeds[:most] if len(seeds) > 1 else list(range(seeds[0], seeds[0] + most))


def baseline_of(arms: Sequence[Arm], named: str | None) -> dict[str, str]:
    """The swept values that make an arm a baseline, by key.

    ``named`` is one or more swept values, as ``random`` or ``sampler=random``, separated by commas. None: the value
    ``random`` where an arm has it, else the first arm.

    Raises:
        ConfigError: no arm has such a value, or a bare value of several keys.
    """
    values = {key: list(dict.fromkeys(arm.swept[key] for arm in arms)) for key in arms[0].swept}
    if named is None:
        with_random = [key for key, known in values.items() if "random" in known]
        return {with_random[0]: "random"} if with_random else dict(arms[0].swept)
    known = "; ".join(f"{key} is one of {', '.join(own[:20])}" for key, own in values.items())
    found = {}
    for part in named.split(","):
        key, equals, value = part.rpartition("=")
        keys = [one for one, own in values.items() if value in own and (not equals or one == key)]
        if len(keys) != 1:
            what = "several keys have this value, write key=value" if keys else "no arm has this value"
            raise ConfigError(f"hydra.sweeper.baseline={named}: {what}; {known}")
        found[keys[0]] = value
    return found


def partners_of(arms: Sequence[Arm], baseline: Mapping[str, str]) -> dict[str, str]:
    """Arm -> the baseline that it is compared with, by label, as in the report.

    Where the baseline fits several arms (``sampler=random`` in a grid of samplers and losses), an arm is compared with
    the one that agrees with it in most of the rest, and these with the first of them.

    Raises:
        ConfigError: no arm has all of the baseline's values.
    """
    fitting = [arm for arm in arms if all(arm.swept[key] == value for key, value in baseline.items())]
    if not fitting:
        asked = ",".join(f"{key}={value}" for key, value in baseline.items())
        raise ConfigError(f"hydra.sweeper.baseline={asked}: no arm has all of these values")
    partners = {}
    for arm in arms:
        if arm not in fitting:
            partner = max(fitting, key=lambda one: sum(one.swept[key] == arm.swept[key] for key in arm.swept))
            partners[arm.label] = partner.label
    return partners | {arm.label: fitting[0].label for arm in fitting[1:]}
