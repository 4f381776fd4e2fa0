"""Score any detections: `python -m harness.evaluate --annotations gt.json --detections dt.json`.

Files are COCO's, or folders of YOLO's text or VOC's XML files. Needs no run of the harness and imports no torch. Faulty
input is one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.output import make_output_safe
from harness.evaluation.accuracy import Accuracy, evaluate
from harness.evaluation.branches import IOU_TYPES, branch_accuracy
from harness.evaluation.coco_format import detection_list
from harness.evaluation.coco_metrics import BACKENDS, area_ranges_from_sides
from harness.evaluation.federated import is_federated, without_federation
from harness.evaluation.formats import read_annotations, read_detections
from harness.evaluation.tide import ERROR_NAMES
from harness.evaluation.voc_ap import VocAccuracy, voc_ap


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(prog="python -m harness.evaluate", description="Score detections.")
    line.add_argument(
        "--annotations",
        required=True,
        type=_path,
        metavar="GT",
        help="COCO annotations (.json), a YOLO data.yaml or its folder, or a VOC folder",
    )
    line.add_argument(
        "--detections",
        required=True,
        type=_path,
        metavar="DT",
        help="COCO results list, or an object with it under 'annotations' or 'predictions'; or a folder of YOLO's "
        "'class cx cy w h score' files or of VOC's XML files with a <score>",
    )
    line.add_argument("--split", default="val", help="of a YOLO or VOC folder of annotations (default: %(default)s)")
    line.add_argument("--iou-type", choices=IOU_TYPES, default="bbox", help="what is compared (default: %(default)s)")
    line.add_argument("--lvis", action="store_true", help="federated evaluation, AP of rare, common, frequent classes")
    line.add_argument(
        "--lenient",
        action="store_true",
        help="leave out, and count, detections of unknown images and categories, and unusable objects of YOLO and VOC",
    )
    line.add_argument("--backend", choices=BACKENDS, default="hotcoco", help="who computes (default: %(default)s)")
    line.add_argument(
        "--sides",
        nargs=2,
        type=float,
        default=(32.0, 96.0),
        metavar=("SMALL", "MEDIUM"),
        help="where small and medium end, side in pixels (default: 32 96; images of 128 px want about 18 36)",
    )
    line.add_argument("--max-dets", type=int, default=100, help="detections per image and category (default: 100)")
    line.add_argument("--voc", action="store_true", help="also VOC AP, 11-point and every-point")
    line.add_argument("--iou", type=float, default=0.5, help="IoU of --voc (default: 0.5)")
    line.add_argument("--per-class", action="store_true", help="also one row per category")
    line.add_argument("--tide", action="store_true", help="also the TIDE error types and what each costs")
    line.add_argument("--calibration", action="store_true", help="also reliability bins and the detection ECE")
    line.add_argument("--json", action="store_true", help="print one JSON object, unrounded, instead of tables")
    return line


def _path(text: str) -> Path:
    """A path as it is written where no shell replaces ``~``."""
    return Path(text).expanduser()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for input that cannot be scored."""
    make_output_safe()
    chosen = parser().parse_args(arguments)
    try:
        lines, notes = _scored(chosen)
    except (OSError, ValueError) as fault:
        said = str(fault)
        if isinstance(fault, OSError) and fault.filename:
            said = f"{fault.filename}: {fault.strerror}"
        print(f"harness.evaluate: {' '.join(said.split())}", file=sys.stderr)
        return 2
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    try:
        print("\n".join(lines), flush=True)
    except OSError as error:  # a full disk; what is left in the buffer would be a traceback at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"harness.evaluate: output: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _scored(chosen: argparse.Namespace) -> tuple[list[str], Sequence[str]]:
    """What is printed, and the notes beside it."""
    annotations, left_out = read_annotations(chosen.annotations, chosen.split, chosen.lenient)
    detections = detection_list(read_detections(chosen.detections, annotations))
    if chosen.iou_type != "bbox":
        _only_boxes(chosen)
        found = branch_accuracy(
            annotations,
            detections,
            chosen.iou_type,
            chosen.backend,
            area_ranges_from_sides(*chosen.sides),
            chosen.max_dets,
            lenient=chosen.lenient,
        )
        lines = [f"{chosen.iou_type}, {len(detections)} detections, by {chosen.backend}"]
        lines += [f"{key:<12}{_shown(value)}" for key, value in found.scalars().items()]
        if chosen.per_class:
            lines += ["", *(f"{name:<24}{_shown(ap)}" for name, ap in found.per_class.items())]
        return [json.dumps(found.to_dict(), allow_nan=False)] if chosen.json else lines, (*left_out, *found.notes)
    accuracy, voc = _score(chosen, annotations, detections)
    if chosen.json:
        plain = accuracy.to_dict() | ({"voc": voc.to_dict()} if voc else {})
        return [json.dumps(plain, allow_nan=False)], left_out
    return _lines(accuracy, voc, chosen.per_class), (*left_out, *accuracy.notes)


def _only_boxes(chosen: argparse.Namespace) -> None:
    for name in ("voc", "tide", "calibration", "lvis"):
        if getattr(chosen, name):
            raise ValueError(f"--{name} is of boxes; valid: --iou-type bbox")


def _score(
    chosen: argparse.Namespace, annotations: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]
) -> tuple[Accuracy, VocAccuracy | None]:
    if chosen.lvis and not is_federated(annotations):
        raise ValueError("--lvis: the annotations have no frequency of each category and no neg_category_ids")
    if chosen.lvis and (chosen.tide or chosen.calibration or chosen.voc):
        raise ValueError("--lvis: not every class is annotated in every image; valid: no --tide, --calibration, --voc")
    if not chosen.lvis:
        annotations = without_federation(annotations)
    accuracy = evaluate(
        annotations,
        detections,
        backend=chosen.backend,
        area_ranges=area_ranges_from_sides(*chosen.sides),
        max_dets=chosen.max_dets,
        tide=chosen.tide,
        calibration=chosen.calibration,
        lenient=chosen.lenient,
    )
    return accuracy, voc_ap(annotations, detections, chosen.iou, lenient=chosen.lenient) if chosen.voc else None


def _lines(accuracy: Accuracy, voc: VocAccuracy | None, per_class: bool) -> list[str]:
    lines = [
        f"{accuracy.num_images} images, {accuracy.num_objects} objects, {accuracy.num_detections} detections, "
        f"by {accuracy.backend}"
    ]
    lines += [f"{key:<12}{_shown(value)}" for key, value in accuracy.scalars().items()]
    lines += [f"{key:<14}{_shown(value)}" for key, value in (accuracy.frequencies or {}).items()]
    if per_class:
        lines += ["", *_per_class_table(accuracy)]
    if voc:
        lines += ["", f"VOC AP at IoU {voc.iou_thr:g}", f"{'11-point':<12}{_shown(voc.map_11_point)}"]
        lines += [f"{'every-point':<12}{_shown(voc.map_every_point)}"]
        if per_class:
            lines += [
                f"  {row.category:<24}{_shown(row.ap_11_point)} {_shown(row.ap_every_point)}" for row in voc.per_class
            ]
    if accuracy.tide:
        lines += ["", f"{'error':<16}{'count':>8}  delta AP{round(100 * accuracy.tide.pos_thr)}"]
        for kind, count in accuracy.tide.counts.items():
            lines.append(f"{ERROR_NAMES[kind]:<16}{count:>8}  {_shown(accuracy.tide.delta_ap[kind])}")
    if accuracy.calibration:
        lines += ["", f"detection ECE {_shown(accuracy.calibration.d_ece)}", "score            count  precision"]
        for row in accuracy.calibration.bins:
            lines.append(f"{row.lower:.2f} - {row.upper:.2f} {row.count:>10}  {_shown(row.precision)}")
    return lines


def _per_class_table(accuracy: Accuracy) -> list[str]:
    head = f"{'category':<24}{'objects':>9}{'found':>9}" + "".join(
        f"{name:>8}" for name in ("ap", "ap50", "ap75", "ar")
    )
    return [head] + [
        f"{row.category:<24}{row.num_objects:>9}{row.num_detections:>9}"
        + "".join(f"{_shown(value):>8}" for value in (row.ap, row.ap50, row.ap75, row.ar))
        for row in accuracy.per_class
    ]


def _shown(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"
