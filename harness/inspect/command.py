"""``python -m harness.inspect``: PNG sheets of what a run would see, or has seen, and the data in words.

    python -m harness.inspect sampler=ohem 'analysis.shadow=[random]'      the overrides of a run
    python -m harness.inspect results/runs/<folder>                        a run that has a folder

With a checkpoint in the run's folder the candidates are those of its weights, else those of fresh ones. The sheets go
to ``out=FOLDER``, else into the run's folder if it is finished, else to ``<run.root>/inspect``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from harness.app.run_end import Stopped, os_line
from harness.core.output import make_output_safe
from harness.data.export import to_coco
from harness.data.records import DataError
from harness.data.splits import Splits
from harness.data.summary import describe
from harness.inspect import errors, sheets
from harness.inspect.capture import selections, training_images
from harness.inspect.data_sheet import data_sheet
from harness.inspect.mined import mined_sheet, rounds_of
from harness.inspect.setting import Setting, composed, of_folder, splits_of
from harness.inspect.words import described
from harness.runs.folder import RunFolder
from harness.runs.records import State, read_json
from harness.runs.schema import ConfigError
from harness.training.checkpoint import CheckpointError

MOST_IMAGES = 100  # on one sheet, which would otherwise be too large for a PNG
DESCRIPTION = "PNG sheets of what a run would see, or has seen, and the data in words."


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    make_output_safe()
    parser = argparse.ArgumentParser(prog="python -m harness.inspect", description=DESCRIPTION)
    parser.add_argument("overrides", nargs="*", help="as of a run, or the folder of a run; and out=FOLDER")
    parser.add_argument("--config-dir", help="folder of options of your own, as for a run")
    parser.add_argument("--images", type=int, default=3, help="images on the sheets of targets and samples")
    parser.add_argument("--trust", action="append", default=[], metavar="MODULE", help="whose classes a run may name")
    parser.add_argument("--score", type=float, default=0.3, help="detections below it are not drawn")
    arguments = parser.parse_intermixed_args(argv)  # options may stand before, after and between overrides
    if not 1 <= arguments.images <= MOST_IMAGES:
        parser.error(f"--images {arguments.images} is not valid: 1 to {MOST_IMAGES}")
    if not 0 <= arguments.score <= 1:
        parser.error(f"--score {arguments.score} is not valid: 0 to 1")
    out = [text.removeprefix("out=") for text in arguments.overrides if text.startswith("out=")]
    overrides = [text for text in arguments.overrides if not text.startswith("out=")]
    try:
        paths = {t: Path(t).expanduser() if t.startswith("~/") else Path(t) for t in overrides}  # ~name removes a node
        folders = [
            path for t, path in paths.items() if path.is_dir() or ("=" not in t and not str(path).startswith("~"))
        ]
        if folders:
            refuse_wrong_folders(folders, overrides)
            setting = of_folder(folders[0], arguments.trust)
        else:
            setting = composed(overrides, arguments.config_dir)
        look(setting, Path(out[-1]).expanduser() if out else None, arguments.images, arguments.score)
    except (HydraException, OmegaConfBaseException, DataError, Stopped, CheckpointError, OSError, ValueError) as error:
        said = os_line(error) if isinstance(error, OSError) else str(error)
        print(f"harness: {' '.join(said.split())}", file=sys.stderr)
        return 2
    return 0


def refuse_wrong_folders(folders: Sequence[Path], arguments: Sequence[str]) -> None:
    """Refuses what is no run folder, and anything beside one.

    Raises:
        ConfigError: one line that names the folder.
    """
    for folder in folders:
        if not (folder / "config.yaml").is_file():
            runs = sorted(path.parent.name for path in folder.glob("runs/*/config.yaml"))
            hint = f"; its runs are in {folder / 'runs'}: {', '.join(runs[:3])}, ..." if runs else ""
            raise ConfigError(f"{folder} is not the folder of a run: it has no config.yaml{hint}")
    if len(arguments) > 1:
        raise ConfigError(f"{folders[0]} is looked at as it ran, without overrides: {' '.join(arguments)}")


def look(setting: Setting, out: Path | None, images: int, least_score: float) -> None:
    """Prints the data in words, writes all sheets and names them."""
    splits = splits_of(setting)
    for line in described(describe(splits)):
        print(line)
    splits = setting.experiment.with_targets(splits)
    run = setting.run_folder(splits)
    status = RunFolder(run).status
    finished = status is not None and status.state is State.DONE
    folder = out or (run / "inspect" if finished else Path(setting.config.run.root) / "inspect")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{os_line(error)}; out=FOLDER writes the sheets somewhere else") from error
    print()

    samples = training_images(splits, setting, max(images, 8))
    files = dict(zip(splits.train.annotations.ids, splits.train.annotations.files, strict=True))
    print(data_sheet(samples, splits.classes, folder / "data.png", files, splits.train.keypoint_names))
    weights = next((run / name for name in ("model.pt", "checkpoint.pt") if (run / name).is_file()), None)
    print(f"targets and samples through {'fresh weights' if weights is None else weights}:")
    for stage, seen in selections(setting, splits, samples[:images], weights).items():
        print(sheets.assignment_sheet(stage, seen, folder / f"targets_{stage}.png"))
        print(sheets.sampling_sheet(stage, seen, folder / f"samples_{stage}.png"))
    if rounds := rounds_of(run):
        print(mined_sheet(splits.train, rounds, folder / "mined.png", 8))
    _errors(run, splits, folder, least_score)


def _errors(run: Path, splits: Splits, folder: Path, least_score: float) -> None:
    if not (run / "detections.json").is_file():
        print(f"no sheet of errors: {run} has no detections.json")
        return
    has_result = (run / "result.json").is_file()
    detections = RunFolder(run).detections() if has_result else read_json(run / "detections.json")
    path = folder / "errors.png"
    print(errors.errors_sheet(splits.val, to_coco(splits.val), detections, path, 8, least_score))
