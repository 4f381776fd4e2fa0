"""``python -m harness --help``: written from the folders of options alone, so that it answers at once."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

from harness.runs.locations import folder

PLACES = {  # how a group is written on the command line, where not by its own name
    "augment": "augment@data.augment",
    "experiment/arm": "arm",
    "experiment/rung": "rung",
}
HIDDEN = ("detector/stages",)  # included by other files, no options themselves
SWEEPING = {  # Hydra's own groups, of which conf/ has no files
    "hydra/launcher": ["basic", "joblib", "ray", "submitit_local", "submitit_slurm"],
    "hydra/sweeper": ["basic", "until_settled"],
}

HEAD = """\
harness: which way of choosing training samples is best for a detector, and is the difference real?

  python -m harness sampler=ohem seed=1               train and evaluate one detector
  python -m harness sampler=ohem run=smoke            the same in a few seconds: does it train at all?
  python -m harness -m sampler=random,ohem seed=0,1   every combination, then a table and a report
  python -m harness -cn ohem                          a prepared comparison; there are
                                                      {sweeps}
  python -m harness -m mode=check assigner='glob(*)'  which combinations can work; nothing is trained
  python -m harness sampler=ohem --cfg job            the whole configuration with every key

Settings are key=value. Options by group (a group of another stage or node: sampler@rpn.sampler=ohem;
recipe, experiment, arm and rung are null unless one is named; those of hydra/ go with -m):
"""
TAIL = """
Flags:
  -m              every combination of the comma-separated values
  -cn NAME        start from a file of sweeps/
  --config-dir D  a folder of options of your own, laid out as conf/
  -q, -v          less or more on standard error
  --cfg job       print the configuration      --info defaults   where each part of it comes from
  --version       the version of the harness   --hydra-help      Hydra's own flags

Other commands:
  python -m harness.report results          tables, figures and verdicts over all runs
  python -m harness.inspect sampler=ohem    pictures of what is matched and sampled
  python -m harness.evaluate                metrics of a detections file
  python -m harness.dashboard               a W&B workspace over the runs of a project
"""


def page(own: Path | None = None) -> str:
    """The text of the help.

    Args:
        own: a folder of the user's own options, as of ``--config-dir``.
    """
    names = ", ".join(sorted(path.stem for path in folder("sweeps").glob("*.yaml")))
    sweeps = fill(names, 100, initial_indent=" " * 54, subsequent_indent=" " * 54).lstrip()
    lines = [
        fill(", ".join(options), 100, initial_indent=f"  {name + '=':<24}", subsequent_indent=" " * 26)
        for name, options in {**groups(folder("conf"), *([own] if own else [])), **SWEEPING}.items()
        if len(options) > 1  # else nobody has to choose
    ]
    return HEAD.format(sweeps=sweeps) + "\n".join(lines) + "\n" + TAIL


def groups(*folders: Path) -> dict[str, list[str]]:
    """Group as it is typed -> its options in ``folders``, in alphabetical order."""
    found: dict[str, set[str]] = {}
    for conf in folders:
        for path in conf.rglob("*.yaml"):
            group = path.parent.relative_to(conf).as_posix()
            if group != "." and group not in HIDDEN:
                found.setdefault(PLACES.get(group, group), set()).add(path.stem)
    return {group: sorted(found[group]) for group in sorted(found)}
