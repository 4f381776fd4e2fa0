"""A part of a recipe that was chosen anew comes with its own parameters, not with those of the recipe's own part.

Hydra lays the keys of a recipe over whatever option stands in their place: ``recipe=pisa_retinanet sampler=all`` would
train with the recipe's ISR-P under the name of another sampler, and ``recipe=yolov8 loss/regression=giou`` would be
refused for a ``gate`` that only CIoU has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from harness.experiment.settings import GROUPS
from harness.runs.presets import OVERRIDE

PARTS = ("assigner", "sampler", "loss.classification", "loss.regression")


def reset_replaced_parts(
    config: DictConfig, choices: Mapping[str, str], overrides: Sequence[str], sources: Sequence[str]
) -> None:
    """Takes what a recipe says of its own parts out of parts that were chosen in their place.

    A key of the command line stays, and so does one to which another preset gave a value that is not the recipe's.

    Args:
        config: as Hydra composed it; changed in place.
        choices: group -> option.
        overrides: of the command line.
        sources: folders of the configuration search path, the first found wins.
    """
    if (name := choices.get("recipe")) is None or (recipe := _loaded(sources, "recipe", name)) is None:
        return
    defaults = [entry for entry in recipe.pop("defaults", []) if isinstance(entry, dict)]
    own = {key.removeprefix(OVERRIDE): option for entry in defaults for key, option in entry.items()}
    given = {override.lstrip("+~").partition("=")[0] for override in overrides}
    for part in PARTS:
        said, group = _at(recipe, part), GROUPS[part]
        if not isinstance(said, dict) or not isinstance(OmegaConf.select(config, part), DictConfig):
            continue
        # A recipe that names a class for the part chooses none of the options: each of them is another part.
        anew = own.get(group) != choices.get(group) or ("_target_" in said and group in given)
        option = _option(sources, group, str(choices.get(group))) if anew else None
        if option is not None:
            _reset(config, part, said, option, given)


def _reset(
    config: DictConfig, part: str, said: Mapping[str, Any], option: Mapping[str, Any], given: Collection[str]
) -> None:
    """Gives every key of ``part`` that ``said`` wrote the value that it has in ``option``, or removes it."""
    node: DictConfig = OmegaConf.select(config, part)
    with open_dict(config):
        for path, value in _leaves(said):
            parent = OmegaConf.select(node, ".".join(path[:-1])) if path[:-1] else node
            current = OmegaConf.to_container(parent, resolve=False) if isinstance(parent, DictConfig) else {}
            assert isinstance(current, dict)
            if ".".join((part, *path)) in given or current.get(path[-1]) != value:
                continue
            inside = _at(option, ".".join(path[:-1])) if path[:-1] else option
            if isinstance(inside, dict) and path[-1] in inside:
                parent[path[-1]] = inside[path[-1]]
            else:
                del parent[path[-1]]
        for key, value in said.items():
            if isinstance(value, dict) and key not in option and not node.get(key, True):
                del node[key]  # the recipe made it, and nothing is left in it


def _leaves(node: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _at(node: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key, ``None`` where there is none."""
    found: Any = node
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _option(sources: Sequence[str], group: str, name: str) -> dict[str, Any] | None:
    """An option with the options of its own group that it starts from; those inside a node of it are left out."""
    if (body := _loaded(sources, group, name)) is None:
        return None
    bases = [
        _option(sources, group, one) for one in body.pop("defaults", []) if isinstance(one, str) and one != "_self_"
    ]
    merged = OmegaConf.merge(*(base for base in bases if base is not None), body)
    return OmegaConf.to_container(merged, resolve=False)  # type: ignore[return-value]


def _loaded(sources: Sequence[str], group: str, name: str) -> dict[str, Any] | None:
    """The YAML of an option; ``None`` where no folder holds it."""
    for source in sources:
        if (file := Path(source) / group / f"{name}.yaml").is_file():
            return OmegaConf.to_container(OmegaConf.load(file), resolve=False)  # type: ignore[return-value]
    return None
