"""What a configuration key means for a run: stated once, in the metadata of the schema's fields.

The identity of a run, the report's methods and contexts, and the tracker's groups all read these roles with
:func:`harness.runs.identity.role_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, field
from enum import StrEnum
from typing import Any

ROLE, INSIDE, EVERYWHERE, ADDED, ADDED_INSIDE = (
    "role",
    "inside",
    "everywhere",
    "added",
    "added_inside",
)  # keys of a field's metadata


class Role(StrEnum):
    """What follows when two runs differ in a key."""

    METHOD = "method"  # two methods that may be compared: assigner, sampler, loss, augmentation
    TRAINING = "training"  # two methods as well, but rarely meant to be compared: optimizer, schedule, batch size
    DETECTOR = "detector"  # the runs are not comparable
    DATA = "data"  # not comparable
    LENGTH = "length"  # of the training: not comparable
    EVALUATION = "evaluation"  # the metrics mean something else: not comparable
    SEED = "seed"  # two runs of one method
    CONDITION = "condition"  # how the run was driven or watched: other bits or other files, the same method
    SHARED = "shared"  # a value that other keys refer to: what it changes shows there
    SPEED = "speed"  # the same result sooner or later
    BOOKKEEPING = "bookkeeping"  # names, places and logging


WITHOUT_EFFECT = frozenset({Role.SHARED, Role.SPEED, Role.BOOKKEEPING})  # not part of a run's identity
NOT_METHOD = frozenset(Role) - {Role.METHOD, Role.TRAINING, Role.DETECTOR}


def key(
    role: Role,
    default: Any = MISSING,
    *,
    factory: Any = MISSING,
    inside: Mapping[str, Role] | None = None,
    everywhere: bool = False,
    added: bool = False,
    added_inside: Mapping[str, Any] | None = None,
) -> Any:
    """A dataclass field of the configuration schema with its role.

    Args:
        role: of the key, and of the keys below it unless they state another.
        default: the default value.
        factory: makes the default value, where that is a container.
        inside: roles of keys below a node that has no schema of its own, such as ``data``.
        everywhere: a key of this name has this role in whatever node it stands.
        added: a key of a later version. With its default value it does not enter the hash, so that runs which were made
            without it are found again.
        added_inside: keys of later versions below a node that has no schema of its own, with their defaults.
    """
    metadata = {ROLE: role, INSIDE: dict(inside or {}), EVERYWHERE: everywhere, ADDED: added}
    metadata[ADDED_INSIDE] = dict(added_inside or {})
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)
