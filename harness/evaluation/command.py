"""Score any COCO-format detections: `python -m harness.evaluate --annotations gt.json --detections dt.json`.

Needs no run of the harness and imports no torch. Faulty input is one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.evaluation.accuracy import Accuracy, evaluate
from harness.evaluation.coco_format import detection_list
from harness.evaluation.coco_metrics import BACKENDS, area_ranges_from_sides
from harness.evaluation.voc_ap import VocAccuracy, voc_ap


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(prog="python -m harness.evaluate", description="Score COCO-format detections.")
    line.add_argument("--annotations", required=True, type=Path, metavar="GT.json", help="COCO annotations")
    line.add_argument(
        "--detections",
        required=True,
        type=Path,
        metavar="DT.json",
        help="COCO results list, or an object with it under 'annotations' or 'predictions'",
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for input that cannot be scored."""
    chosen = parser().parse_args(arguments)
    try:
        accuracy, voc = _score(chosen)
    except (OSError, ValueError) as fault:
        print(f"harness.evaluation.command: {fault}", file=sys.stderr)
        return 2
    if chosen.json:
        print(json.dumps(accuracy.to_dict() | ({"voc": voc.to_dict()} if voc else {}), allow_nan=False))
        return 0
    for note in accuracy.notes:
        print(f"note: {note}", file=sys.stderr)
    print("\n".join(_lines(accuracy, voc, chosen.per_class)))
    return 0


def _score(chosen: argparse.Namespace) -> tuple[Accuracy, VocAccuracy | None]:
    annotations = _read(chosen.annotations)
    detections = detection_list(_read(chosen.detections))
    accuracy = evaluate(
        annotations,
        detections,
        backend=chosen.backend,
        area_ranges=area_ranges_from_sides(*chosen.sides),
        max_dets=chosen.max_dets,
        tide=chosen.tide,
        calibration=chosen.calibration,
    )
    return accuracy, voc_ap(annotations, detections, chosen.iou) if chosen.voc else None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except json.JSONDecodeError as fault:
        raise ValueError(f"{path}: broken JSON, {fault.msg} at line {fault.lineno} column {fault.colno}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: no JSON text (not UTF-8)") from None


def _lines(accuracy: Accuracy, voc: VocAccuracy | None, per_class: bool) -> list[str]:
    lines = [
        f"{accuracy.num_images} images, {accuracy.num_objects} objects, {accuracy.num_detections} detections, "
        f"by {accuracy.backend}"
    ]
    lines += [f"{key:<12}{_shown(value)}" for key, value in accuracy.scalars().items()]
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
            lines.append(f"{kind:<16}{count:>8}  {_shown(accuracy.tide.delta_ap[kind])}")
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


if __name__ == "__main__":
    sys.exit(main())
