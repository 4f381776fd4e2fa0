"""``python -m harness.dashboard``: a saved Weights & Biases workspace over all runs of a project. Stands aside.

    python -m harness.dashboard --entity me --project harness
    python -m harness.dashboard --entity me --project harness --dry-run > workspace.json

Bars and bands are over the runs of one W&B group: one combination of data, detector and methods, its seeds the runs.
They are standard errors, to look at; the verdicts are the report's (``python -m harness.report``), which pairs seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from harness.core.output import make_output_safe
from harness.evaluation.tide import ERROR_NAMES

DESCRIPTION = "A saved Weights & Biases workspace over all runs of a project."
MISSING = "harness.tracking.dashboard needs wandb-workspaces: pip install 'detection-harness[dashboards]'"
SHOWN_RUNS = 100  # W&B shows ten unless told otherwise
GROUP = "Group"
SAMPLING = {
    "positives_per_image": "positives per image",
    "negatives_per_image": "negatives per image",
    "objects_without_positive": "share of objects without a positive",
    "negatives_below_iou_0.05": "share of negatives with IoU below 0.05",
}


def specification(entity: str, project: str, name: str, stages: Sequence[str]) -> Any:
    """The workspace, not saved: accuracy by combination with intervals, what was sampled, cost, learning curves.

    Args:
        entity: W&B user or team.
        project: W&B project.
        name: of the saved view.
        stages: whose histograms are shown: ``roi``, ``rpn``, ``dense``, ...

    Raises:
        ImportError: wandb-workspaces is not installed.
    """
    import wandb_workspaces.workspaces as ws

    sections = [
        ("Accuracy by combination (bars: mean and standard error over seeds)", accuracy()),
        *((f"What was sampled: {stage}", sampled(stage)) for stage in stages),
        ("Cost", cost()),
        ("Error types (AP lost to each, TIDE)", errors()),
        ("Learning curves (bands: standard error over seeds)", curves()),
        ("Detections", pictures()),
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[ws.Section(name=title, panels=panels, is_open=True) for title, panels in sections],
        settings=ws.WorkspaceSettings(max_runs=SHOWN_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=[ws.Metric("JobType") == "train"],
            groupby=[ws.Metric(GROUP)],
            order=[ws.Ordering(ws.Summary("eval/map"), ascending=False)],
            pinned_columns=["summary:eval/map", "summary:eval/map50", "summary:cost/train_seconds"],
        ),
        auto_generate_panels=True,  # whatever a run logs beside these stays visible below them
    )


def bars(title: str, key: str) -> Any:
    """The mean of a summary value by combination, with its standard error."""
    import wandb_workspaces.reports.v2 as wr

    return wr.BarPlot(
        title=title,
        metrics=[key],
        groupby=GROUP,
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_runs_to_show=SHOWN_RUNS,
        max_bars_to_show=SHOWN_RUNS,
    )


def lines(title: str, keys: Sequence[str], **options: Any) -> Any:
    """Values over the iterations by combination, with bands."""
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(
        title=title,
        x="Step",
        y=list(keys),
        groupby=GROUP,
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_runs_to_show=SHOWN_RUNS,
        **options,
    )


def accuracy() -> list[Any]:
    """mAP and its parts."""
    named = {"map": "mAP@[.5:.95]", "map50": "AP50", "map75": "AP75", "map_small": "mAP, small objects"}
    return [bars(title, f"eval/{key}") for key, title in named.items()]


def sampled(stage: str) -> list[Any]:
    """IoU histograms of what a stage was offered and what its sampler took, and their numbers."""
    import wandb_workspaces.reports.v2 as wr

    histograms = [
        # W&B draws a histogram key as a heat map over time, or for several runs side by side.
        wr.LinePlot(title=f"IoU of {population} {kind}s", x="Step", y=[f"sample_iou/{stage}/{population}/{kind}"])
        for population in ("available", "sampled")
        for kind in ("positive", "negative")
    ]
    totals = [bars(title, f"sampling_run/{stage}/sampled/{key}") for key, title in SAMPLING.items()]
    return histograms + totals


def cost() -> list[Any]:
    """What a combination takes, and what it gives for it."""
    import wandb_workspaces.reports.v2 as wr

    against = wr.ScatterPlot(
        title="mAP against training time",
        x=wr.SummaryMetric("cost/train_seconds"),
        y=wr.SummaryMetric("eval/map"),
    )
    named = {
        "train_seconds": "training, s",
        "images_per_second": "training images per second",
        "peak_memory_mb": "peak memory, MB",
    }
    return [against, *(bars(title, f"cost/{key}") for key, title in named.items())]


def errors() -> list[Any]:
    """AP lost to each type of error."""
    return [bars(name, f"eval/tide/delta_ap/{kind}") for kind, name in ERROR_NAMES.items()]


def curves() -> list[Any]:
    """mAP, the losses of every stage and detector, the rate."""
    return [
        lines("mAP on the validation split", ["eval/map"]),
        lines("losses", [], metric_regex="train/loss/.*"),
        lines("learning rate", ["train/lr"]),
    ]


def pictures() -> list[Any]:
    """Validation images with the boxes of ground truth and detections."""
    import wandb_workspaces.reports.v2 as wr

    return [wr.MediaBrowser(title="ground truth and detections", media_keys=["eval/images"], num_columns=4)]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    make_output_safe()
    parser = argparse.ArgumentParser(prog="python -m harness.dashboard", description=DESCRIPTION)
    parser.add_argument("--entity", help="W&B user or team; needed to save")
    parser.add_argument("--project", default="harness", help="W&B project")
    parser.add_argument("--name", default="Which samples to train on", help="of the saved view")
    parser.add_argument(
        "--stages", nargs="+", default=["roi", "rpn"], help="stages to show: roi, rpn, roi2, dense, ..."
    )
    parser.add_argument("--dry-run", action="store_true", help="print the specification as JSON; nothing is sent")
    arguments = parser.parse_args(argv)
    if arguments.entity is None and not arguments.dry_run:
        parser.error("--entity is needed to save the dashboard; --dry-run prints it without")
    try:
        workspace = specification(arguments.entity or "entity", arguments.project, arguments.name, arguments.stages)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "wandb_workspaces":
            raise
        print(MISSING, file=sys.stderr)
        return 2
    if arguments.dry_run:
        print(json.dumps(workspace._to_model().model_dump(mode="json", by_alias=True), indent=2, sort_keys=True))
        return 0
    return save(workspace)


def save(workspace: Any) -> int:
    """Sends the workspace and prints its address, or one line that says why it could not."""
    import wandb

    try:
        if not wandb.login(prompt=False):
            raise wandb.errors.UsageError("no API key; `wandb login` stores one")
        workspace.save()
    except Exception as error:  # network, rights, an unknown entity: many libraries' own classes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"harness: the dashboard was not saved: {reason}; --dry-run prints it instead", file=sys.stderr)
        return 1
    print(workspace.url)
    return 0
