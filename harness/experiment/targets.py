"""The classes and functions that a configuration names by ``_target_``: whether they are there and take its keys."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from torch import nn

from harness.experiment.names import unknown_key
from harness.experiment.settings import STAGES
from harness.training.optimizer import ParamwiseFactors

SUPPLIED = {  # arguments that the harness passes itself, and where they come from
    "detector.num_classes": "it follows from the classes of the data",
    "optimizer.params": "they are the detector's",
}
PARAMWISE = tuple(one.name for one in fields(ParamwiseFactors))  # keys of an optimizer that the harness applies
_BUILDERS = ("harness.detectors", "torchvision.models.detection")  # where options of a detector may be passed on to
_HYDRA = frozenset({"_target_", "_partial_", "_recursive_", "_convert_", "_args_"})


def wrong_arguments(config: DictConfig, typed: Collection[str] = ()) -> Iterator[str]:
    """One line per key of a node that its class or function does not take.

    Where the command line replaces the class of an option, the keys that it leaves from the option share one line;
    those of them that are null, which Hydra cannot delete, are removed from ``config``: they ask for nothing.

    Args:
        config: a composed configuration; ``+key=value`` may have added anything to it.
        typed: the keys that the command line sets.

    Raises:
        ImportError: a class or function that does not exist.
    """
    for key in (
        "data",
        "detector",
        "assigner",
        "sampler",
        "loss",
        "optimizer",
        "evaluator",
        "warmup",
        "image_sampler",
        *STAGES,
    ):
        yield from _wrong_arguments(OmegaConf.select(config, key), key, typed)


def located(name: str, key: str) -> Callable[..., Any]:
    """The class or function with a dotted ``name``.

    Raises:
        ImportError: there is none; the line names the ``key`` and what was missing.
    """
    module, _, attribute = name.rpartition(".")
    try:
        try:
            found: Any = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:  # the owner may be a class
            outer, _, owner = module.rpartition(".")
            if not outer or error.name != module:
                raise
            found = getattr(getattr(import_module(outer), owner), attribute)
    except Exception as error:  # importing a user's module runs it, and it may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__
        advice = "; put its folder on PYTHONPATH" if isinstance(error, ModuleNotFoundError) else ""
        raise ImportError(f"{key}._target_={name} cannot be imported: {reason}{advice}") from error
    if not callable(found):
        raise ImportError(f"{key}._target_={name} is no class or function")
    return found


def targets_in(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """``(key, _target_)`` of a node and of all nodes below it."""
    if isinstance(node, Mapping | DictConfig):
        if isinstance(node.get("_target_"), str):
            yield key, node["_target_"]
        for name in node:
            yield from targets_in(node[name], f"{key}.{name}" if key else str(name))
    elif isinstance(node, Sequence | ListConfig) and not isinstance(node, str):
        for index, item in enumerate(node):
            yield from targets_in(item, f"{key}.{index}")


def _wrong_arguments(node: Any, key: str, typed: Collection[str]) -> Iterator[str]:
    if not isinstance(node, DictConfig):
        return
    if isinstance(node.get("_target_"), str):
        valid = _accepted(located(node["_target_"], key))
        if valid is not None:
            written: list[str] = [str(one) for one in node]
            if key == "optimizer":
                yield from (_taken_twice(one, node["_target_"]) for one in PARAMWISE if one in written and one in valid)
                valid = [*valid, *(one for one in PARAMWISE if one not in valid)]
            own = sorted((one for one in valid if f"{key}.{one}" not in SUPPLIED), key=lambda one: one not in written)
            wrong = [one for one in written if one not in (*_HYDRA, *valid)]
            left = [one for one in wrong if f"{key}._target_" in typed and f"{key}.{one}" not in typed]
            yield from (unknown_key(f"{key}.{one}", own) for one in wrong if one not in left)
            for one in [one for one in left if node[one] is None]:
                left.remove(one)
                with open_dict(node):
                    del node[one]
            if left:
                yield (
                    f"{key}._target_={node['_target_']} takes no {' and no '.join(left)}, which the option that it "
                    f"replaces sets; remove {'it' if len(left) == 1 else 'them'} with "
                    + " ".join(f"'~{key}.{one}'" for one in left)
                )
    for name in node:
        full = f"{key}.{name!s}"
        if full in SUPPLIED:
            yield f"{full}: the harness sets it, {SUPPLIED[full]}"
        if not OmegaConf.is_missing(node, name):
            yield from _wrong_arguments(node[name], full, typed)


def _taken_twice(name: str, target: str) -> str:
    return f"optimizer.{name}: the harness applies it, and {target} has a parameter of that name; remove or rename one"


def _accepted(target: Callable[..., Any]) -> list[str] | None:
    """The names of a callable's parameters; None where it takes any, or says nothing of them."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return None
    named = [one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(named) == len(parameters):
        return named
    passed = _passed_on(inspect.unwrap(target), set()) if target.__module__.startswith("harness.") else []
    return [*dict.fromkeys([*named, *passed])] if passed else None


def _takes_options(one: object) -> bool:
    return inspect.isfunction(one) or (isinstance(one, type) and issubclass(one, nn.Module))


def _passed_on(target: Callable[..., Any], seen: set[Any]) -> list[str]:
    """The parameters of the detectors' builders and classes that a builder names in its code: where ``**options`` go.

    torchvision's detectors take any keyword and drop what they do not know, so that trying would not tell.
    """
    found: list[str] = []
    used = getattr(getattr(target, "__code__", None), "co_names", ())
    scope = getattr(target, "__globals__", {})
    modules = [scope[name] for name in used if inspect.ismodule(scope.get(name))]
    for name in used:
        candidates: list[Any] = [scope.get(name), *(getattr(module, name, None) for module in modules)]
        for one in candidates:
            if not _takes_options(one) or one in seen or not getattr(one, "__module__", "").startswith(_BUILDERS):
                continue
            seen.add(one)
            parameters = inspect.signature(one).parameters.values()
            found += [each.name for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD]
            found += _passed_on(inspect.unwrap(one), seen)
    return found
