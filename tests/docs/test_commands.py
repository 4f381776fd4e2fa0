"""Every command of README and of the documentation: its options compose, its flags are known, its target exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override

from harness.app.arguments import rewritten
from harness.app.entry import register_plugins
from harness.runs import schema

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OWN_FOLDER = "--config-dir"  # a reader's own options: tests/test_contributing.py follows these


def commands(page: Path) -> Iterator[str]:
    """Lines of shell blocks and inline code that begin with ``python -m harness`` or ``make``."""
    text = page.read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"(?<!`)`(python -m harness[^`]*)`(?!`)", text)]
    for line in dict.fromkeys(lines):
        bare = re.sub(r"^(\w+=\S+ )+", "", line.strip())
        if bare.startswith(("python -m harness", "make ")):
            yield bare


def cases() -> list[Any]:
    found = [(page.relative_to(ROOT), line) for page in PAGES for line in commands(page)]
    return [pytest.param(line, id=f"{page}: {line}") for page, line in found if OWN_FOLDER not in line]


def options_of(group: str, pattern: Glob) -> list[str]:
    names = sorted(path.stem for path in (schema.folder("conf") / group).glob("*.yaml"))
    return [n for n in names if any(fnmatch(n, p) for p in pattern.include)]


def one_job(override: Override) -> str:
    """The first job's value of an override that a sweep varies; any other as it stands."""
    if not override.is_sweep_override():
        return str(override.input_line)
    value: Any = override.value()
    if isinstance(value, Glob):
        options = options_of(override.key_or_group, value)
        assert options, f"no option matches {override.input_line}"
        return f"{override.get_key_element()}={options[0]}"
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def composes(arguments: list[str]) -> None:
    name = "config"
    if "-cn" in arguments:
        place = arguments.index("-cn")
        name = arguments[place + 1]
        del arguments[place : place + 2]
    overrides = [a for a in rewritten(arguments) if not a.startswith("-")]
    parsed = OverridesParser.create().parse_overrides(overrides)
    schema.register()
    register_plugins()
    with initialize_config_dir(str(schema.folder("conf")), version_base="1.3", job_name="harness"):
        compose(name, [one_job(override) for override in parsed], return_hydra_config=True)


@pytest.mark.parametrize("line", cases())
def test_a_command_can_be_given(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    module, arguments = words[2], words[3:]
    if module == "harness":
        if not set(arguments) & {"--help", "--version"}:
            composes([a for a in arguments if a not in ("-m", "-v", "-q", "...")])
        return
    flags = {a.split("=")[0] for a in arguments if a.startswith("-")}
    entry = import_module(module if module.count(".") > 1 else f"{module}.__main__" if _is_package(module) else module)
    with pytest.raises(SystemExit) as stop:
        entry.main(["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert not {flag for flag in flags if flag not in shown}, f"{module} does not know a flag of: {line}"


def _is_package(module: str) -> bool:
    return (ROOT / module.replace(".", "/")).is_dir()
