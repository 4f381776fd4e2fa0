"""Puts an adapter into the class of a user's module without changing the module, and keeps the result picklable.

The class made here has a name of its own (``EquippedFasterRCNN``) and is a subclass of the module's class, so that
``isinstance`` and the methods of a user's subclass go on working.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, cast

from torch import nn

from harness.criterion.compatibility import IncompatibleError

M = TypeVar("M", bound=nn.Module)

# Whose classes are known to cooperate with the adapters; every other class is a user's.
_KNOWN = ("torchvision.", "torch.", "harness.")


def mixed(module: M, adapter: type[nn.Module], **attributes: Any) -> M:
    """A shallow copy of ``module`` whose class combines ``adapter`` with the module's own class.

    The copy holds the same parameters, buffers and submodules, in dictionaries of its own: replacing one of its
    submodules leaves ``module`` as it was.

    A method that both a user's subclass and ``adapter`` define runs the user's first, which reaches the adapter's by
    ``super()``.

    Args:
        module: any module; its class may be a user's subclass.
        adapter: a subclass of the torchvision class it adapts, or a mixin over it.
        attributes: set on the copy without registering modules among them.

    Raises:
        IncompatibleError: a user's method would keep ``adapter`` from training, because it replaces one of the
            adapter's without calling ``super()``, or overrides one that the adapter never calls.
    """
    cls = _mixed_class(adapter, plain_class(type(module)))
    twin: nn.Module = object.__new__(cls)
    for name, value in vars(module).items():
        twin.__dict__[name] = value.copy() if isinstance(value, dict | set) else value
    twin.__dict__.update(attributes)
    return cast(M, twin)


def plain_class(cls: type[nn.Module]) -> type[nn.Module]:
    """The class that was mixed with an adapter; ``cls`` itself where none was."""
    return getattr(cls, "_plain_class", cls)


def plain_module(module: M) -> M:
    """A copy of a mixed module, and of the mixed modules below it, with the classes they had before.

    The copy shares parameters and buffers with ``module``. It is what ``torch.jit.script`` sees of an equipped
    detector, because TorchScript cannot compile the adapters and needs none of them for inference.
    """
    twin: nn.Module = object.__new__(plain_class(type(module)))
    adapters_own: frozenset[str] = getattr(type(module), "_adapter_attributes", frozenset())
    twin.__dict__.update({k: v.copy() if isinstance(v, dict | set) else v for k, v in vars(module).items()})
    for name in adapters_own:
        twin.__dict__.pop(name, None)
    for name, child in twin._modules.items():
        if child is not None:
            twin._modules[name] = plain_module(child)
    return cast(M, twin)


def replace_module(module: nn.Module, name: str, child: nn.Module) -> None:
    """Puts ``child`` in the place ``name`` of ``module``, keeping the order of the state dict's keys."""
    if name not in module._modules:
        raise KeyError(f"{type(module).__name__} has no submodule {name!r}")
    module._modules[name] = child


def refuse_overrides(module: nn.Module, host: type[nn.Module], methods: Iterable[str]) -> None:
    """Refuses a user's override of a method that an equipped detector never calls in training.

    Args:
        module: the module whose class may be a user's subclass of ``host``.
        host: torchvision's class.
        methods: names of the methods of ``host`` whose work the criterion does.

    Raises:
        IncompatibleError: one line with the class and the method.
    """
    for name in methods:
        owner = _owner(plain_class(type(module)), name)
        if owner is not None and owner is not host and _is_users(owner):
            raise IncompatibleError(
                f"{owner.__qualname__}.{name} would never be called: an equipped {host.__name__} takes its targets and "
                f"losses from the criterion. Give equip an assigner, a sampler or a loss instead, or remove the method"
            )


_CLASSES: dict[tuple[type, type], type[nn.Module]] = {}


def _mixed_class(adapter: type[nn.Module], own: type[nn.Module]) -> type[nn.Module]:
    """The class of ``adapter`` over ``own``, the same one each time, so that equal models have equal types."""
    if (adapter, own) not in _CLASSES:
        _CLASSES[adapter, own] = _make_class(adapter, own)
    return _CLASSES[adapter, own]


def _make_class(adapter: type[nn.Module], own: type[nn.Module]) -> type[nn.Module]:
    if issubclass(own, adapter):
        return own
    users_first = _shared_methods(adapter, own)
    for owner, name in users_first:
        if not _calls_super(owner, name):
            raise IncompatibleError(
                f"{owner.__qualname__}.{name} replaces the training of {adapter.__name__}: it must call "
                f"super().{name}(...), or the chosen assigner, sampler and loss would never run"
            )
    bases = (own, adapter) if users_first else (adapter, own)
    namespace = {
        "__module__": __name__,
        "__doc__": f":class:`{own.__module__}.{own.__qualname__}` with :class:`{adapter.__name__}`.",
        "__reduce_ex__": _reduce,
        "__prepare_scriptable__": plain_module,
        "_plain_class": own,
        "_adapter": adapter,
        "_adapter_attributes": frozenset(getattr(adapter, "__annotations__", ())) | {"criteria", "criterion"},
    }
    name = own.__name__ if own.__name__.startswith("Equipped") else f"Equipped{own.__name__}"
    return type(name, bases, namespace)


def _shared_methods(adapter: type[nn.Module], own: type[nn.Module]) -> list[tuple[type, str]]:
    """Public methods that both the adapter and a user's class define, each with the user's class."""
    yielding = [vars(base) for base in adapter.__mro__ if "YIELDS_TO_SUBCLASSES" in vars(base)]
    found = []
    for name, value in {name: value for methods in yielding for name, value in methods.items()}.items():
        if callable(value) and not name.startswith("_"):
            owner = _owner(own, name)
            if owner is not None and _is_users(owner):
                found.append((owner, name))
    return found


def _owner(cls: type, name: str) -> type | None:
    return next((base for base in cls.__mro__ if name in vars(base)), None)


def _is_users(cls: type) -> bool:
    return not f"{cls.__module__}.".startswith(_KNOWN)


def _calls_super(owner: type, name: str) -> bool:
    code = getattr(vars(owner)[name], "__code__", None)
    return code is not None and ("super" in code.co_names or "super" in code.co_freevars)


def _new(adapter: type[nn.Module], own: type[nn.Module]) -> nn.Module:
    """An empty object of the mixed class: what unpickling and copying fill with its state."""
    return object.__new__(_mixed_class(adapter, own))


def _reduce(self: nn.Module, protocol: int) -> tuple[Any, ...]:
    """Pickles a mixed module by the two classes it is made of, because its own class has no importable name."""
    cls: Any = type(self)
    return _new, (cls._adapter, cls._plain_class), self.__dict__.copy()
