"""``environment.json``: on what a run was made."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__

if TYPE_CHECKING:
    import torch

_OWN = Path(__file__).resolve()
PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "hotcoco", "pycocotools", "wandb", "pandas")


def describe(device: torch.device, threads: int) -> dict[str, Any]:
    """Versions, device, threads and the code's commit: what one needs to make the run again."""
    import torch  # here, because this room is read by commands that do not need torch

    return {
        "harness": __version__,
        "commit": commit_of(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "command": sys.argv,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit_of(file: Path = _OWN) -> str | None:
    """The commit of the checkout that a file of the code belongs to, marked where files differ from it.

    None in a wheel, also where that is installed somewhere below a checkout of something else.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)  # fails unless the file is one of the checkout's
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
