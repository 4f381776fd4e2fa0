"""What a run is made of beside its configuration, as part of its identity: the source of classes outside the harness,
and the file of the weights that it begins with. Another sampler is another run, another checkpoint of one name, too.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

from omegaconf import DictConfig, OmegaConf

from harness.experiment.targets import located, targets_in
from harness.runs.integrity import file_digest

WEIGHTS = "detector.weights"
SHIPPED = ("harness", "torch", "torchvision", "builtins")  # the environment's versions say what these are


def code_of(config: DictConfig) -> dict[str, str]:
    """``_target_`` -> a hash of its source, for every class of the configuration that the user wrote.

    The hash covers the module of the class and the modules that it imports, directly or through others, except the
    harness, the standard library and installed packages of other names.

    Raises:
        ImportError: a target that does not exist.
    """
    targets = dict(targets_in(config, ""))
    own = {name: key for key, name in targets.items() if name.split(".")[0] not in SHIPPED}
    modules = {name: getattr(located(name, own[name]), "__module__", None) for name in own}
    return {name: _hash(modules[name] or name.rpartition(".")[0]) for name in sorted(own)}


def weights_of(config: DictConfig) -> dict[str, str]:
    """``detector.weights`` -> a hash of the checkpoint that it names; empty where it names none, as ``DEFAULT``."""
    weights = OmegaConf.select(config, WEIGHTS)
    if not isinstance(weights, str) or not (file := Path(weights)).is_file():
        return {}
    status = file.stat()
    return {WEIGHTS: _content(file.resolve(), status.st_size, status.st_mtime_ns)}


@lru_cache(maxsize=16)
def _content(file: Path, size: int, changed: int) -> str:
    """Read once for all jobs of a sweep in this process, as long as its size and its time of change stay."""
    return file_digest(file)[:10]


def _hash(module: str) -> str:
    digest = hashlib.sha256()
    for one in sorted(_reached(import_module(module)), key=lambda m: m.__name__):
        digest.update(one.__name__.encode())
        digest.update(Path(str(one.__file__)).read_bytes())
    return digest.hexdigest()[:10]


def _reached(first: ModuleType) -> set[ModuleType]:
    """``first`` and the user's own modules that it imports, directly or through others."""
    found: set[ModuleType] = set()
    waiting = [first]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += [other for other in _imported(module) if _is_own(other, first)]
    return {module for module in found if getattr(module, "__file__", None)}


def _imported(module: ModuleType) -> Iterator[ModuleType]:
    """The modules that the import statements of a module name, wherever they stand in it."""
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py"):
        return
    package = module.__package__ or ""
    for node in ast.walk(ast.parse(Path(file).read_bytes())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        yield from (sys.modules[name] for name in names if name in sys.modules)


def _is_own(module: ModuleType, first: ModuleType) -> bool:
    top = module.__name__.split(".")[0]
    file = getattr(module, "__file__", None)
    if top in SHIPPED or file is None:
        return False
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
    return top == first.__name__.split(".")[0] or not any(Path(file).is_relative_to(path) for path in installed)
