"""Run folders as the runner leaves them, made up in milliseconds."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness.runs.records import Cost, Result, State

EDGES = {
    "iou": np.linspace(0.05, 0.95, 19),
    "size": 2.0 ** np.arange(1, 11),
    "level": np.arange(1, 8) - 0.5,
    "loss": 10 ** np.linspace(-4, 1, 21),
    "per_image": 2 ** np.arange(18),
    "per_object": np.array([1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128]),
}
CLASSES = ("disc", "square", "star")
TARGETS = {
    "random": "harness.samplers.random.RandomSampler",
    "ohem": "harness.samplers.ohem.OHEMSampler",
    "ohem_paper": "harness.samplers.ohem.OHEMSampler",
    "matched_random": "harness.samplers.matched_random.MatchedRandomSampler",
    "iou_balanced": "harness.samplers.iou_balanced.IoUBalancedSampler",
}
PAPER = {"nms_thr": 0.7, "rank_by": "total", "separate_quotas": False}
EASY = {"random": 0.7, "ohem": 0.35, "ohem_paper": 0.4, "matched_random": 0.68, "iou_balanced": 0.2, "available": 0.72}


def sampler(name: str, **changed: Any) -> dict[str, Any]:
    """The resolved configuration of one sampler."""
    node: dict[str, Any] = {"_target_": TARGETS[name], "num": 64, "pos_fraction": 0.25}
    if name == "ohem":
        node |= {"nms_thr": None, "rank_by": "cls", "separate_quotas": True}
    if name == "ohem_paper":
        node |= PAPER
    if name == "matched_random":
        node = {"_target_": TARGETS[name], "of": sampler("ohem_paper")}
    return node | changed


def config(chosen: str, seed: int, **changed: Any) -> dict[str, Any]:
    """The whole ``config.yaml``; ``changed`` sets dotted keys, written with ``__`` for the dots."""
    nodes = {key.removeprefix("sampler__"): changed.pop(key) for key in list(changed) if key.startswith("sampler__")}
    value: dict[str, Any] = {
        "data": {"_target_": "harness.data.sources.shapes.shapes", "num_train": 2000, "objects": [2, 7],
                 "cache_dir": None,
                 "augment": {"_target_": "harness.data.augment.flip.Flip", "p": 0.5}},
        "detector": {"_target_": "harness.detectors.zoo.tiny_rcnn.tiny_rcnn", "channels": 64,
                     "anchor_sizes": [[20.0], [40.0]]},
        "assigner": {"_target_": "harness.assigners.max_iou.MaxIoUAssigner", "pos_iou_thr": 0.5},
        "sampler": sampler(chosen, **nodes),
        "loss": {"classification": {"_target_": "harness.losses.CrossEntropyLoss", "label_smoothing": 0.0},
                 "regression": {"_target_": "harness.losses.SmoothL1Loss", "beta": 0.1}, "normalizer": "sampled"},
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.004},
        "evaluator": {"max_dets": 100, "area_ranges": None},
        "tracker": {"kind": "none", "tags": []},
        "analysis": {"telemetry": True, "shadow": []},
        "run": {"root": "somewhere", "iterations": 2000, "batch_size": 4, "threads": None},
        "rpn": {"sampler": sampler("random", pos_fraction=0.5)},
        "roi2": None,
        "seed": seed,
        "name": None,
        "choices": {"detector": "tiny_rcnn", "data": "shapes", "sampler": chosen, "assigner": "max_iou",
                    "loss": "pair", "loss/classification": "cross_entropy", "loss/regression": "smooth_l1",
                    "sampler@rpn.sampler": "random", "run": "default", "augment@data.augment": "flip"},
    }  # fmt: skip
    for key, setting in changed.items():
        *parents, last = key.split("__")
        node = value
        for parent in parents:
            node = node[parent]
        node[last] = setting
    return value


def environment(**changed: Any) -> dict[str, Any]:
    """``environment.json``."""
    return {"harness": "0.1.0", "commit": "c0ffee" * 6 + "c0ff", "python": "3.11.7", "packages": {"torch": "2.14.1"},
            "platform": "Linux", "processor": "EPYC", "cores": 2, "threads": 2, "device": "cpu", "cuda": None,
            "command": ["/x/harness/__main__.py", "sampler=ohem"]} | changed  # fmt: skip


def write_run(
    root: Path,
    chosen: str,
    seed: int,
    map_: float | None = 0.4,
    *,
    state: State = State.DONE,
    reason: str = "",
    fingerprint: str = "f00d" * 8,
    heavy: bool = True,
    shadows: tuple[str, ...] = (),
    choices: dict[str, str] | None = None,
    machine: dict[str, Any] | None = None,
    **changed: Any,
) -> Path:
    """One folder under ``root/runs``; ``changed`` goes to :func:`config`."""
    value = config(chosen, seed, **changed)
    value["choices"] |= choices or {}
    (root / "runs").mkdir(parents=True, exist_ok=True)
    folder = root / "runs" / f"tiny_rcnn-{chosen}-s{seed}-{len(list((root / 'runs').iterdir())):010x}"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
    status = {"state": str(state), "reason": reason, "iteration": 2000, "updated": "2026-01-01T00:00:00+00:00"}
    (folder / "status.json").write_text(json.dumps(status))
    if state in (State.REFUSED,):
        return folder
    (folder / "environment.json").write_text(json.dumps(environment(**(machine or {}))))
    rng = np.random.default_rng([seed, *chosen.encode()])
    if heavy:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _log(rng, map_ or 0.0)))
        np.savez_compressed(folder / "sampling.npz", **_sampling(rng, chosen, shadows))
    if state is State.DONE:
        result = _result(folder.name, value, seed, map_, fingerprint, chosen, rng)
        (folder / "result.json").write_text(json.dumps(asdict(result)))
    return folder


def write_arm(root: Path, chosen: str, maps: list[float], first_seed: int = 0, **changed: Any) -> list[Path]:
    """One run per seed."""
    return [write_run(root, chosen, first_seed + i, value, **copy.deepcopy(changed)) for i, value in enumerate(maps)]


def _log(rng: np.random.Generator, end: float) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for at in range(50, 2001, 50):
        decay = float(np.exp(-at / 900))
        noise = 0.05 * rng.standard_normal(4)
        losses = np.maximum(np.array([0.9, 0.5, 0.35, 0.05]) * (0.35 + 0.65 * decay) * (1 + noise), 0)
        names = ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")
        rows.append({"iteration": at, **dict(zip(names, losses.tolist(), strict=True)), "lr": 0.004 * decay})
        if at % 500 == 0:
            rows.append({"iteration": at, "eval/map": end * (1 - decay), "eval/map50": 1.3 * end * (1 - decay)})
    return rows


def _sampling(rng: np.random.Generator, chosen: str, shadows: tuple[str, ...]) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {"iterations": np.arange(50, 2001, 50)}
    out |= {f"edges/{name}": edges for name, edges in EDGES.items()}
    for stage, pool, taken in (("rpn", 577, 60), ("roi", 140, 57)):
        for population, name in (("available", "available"), ("sampled", chosen), *((s, s) for s in shadows)):
            total = pool if population == "available" else taken
            easy = EASY.get(name if stage == "roi" else "random", 0.5)
            rest = np.exp(-np.arange(9) / 3)
            share = np.concatenate([[easy], (1 - easy) * rest / rest.sum(), np.zeros(10)])
            drift = np.linspace(0.15, -0.1, 40)[:, None] * np.concatenate([[1], -rest / rest.sum(), np.zeros(10)])
            expected = np.clip((share + drift) * total * 200, 0, None)
            high = np.concatenate([np.zeros(10), np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 0.5])])
            out[f"{stage}/iou/{population}/negative"] = rng.poisson(expected)
            out[f"{stage}/iou/{population}/positive"] = rng.poisson(np.broadcast_to(high * 40, (40, 20)))
            truth = np.zeros((40, 20), np.int64)
            truth[:, -1] = 850 if stage == "roi" else 0
            out[f"{stage}/iou/{population}/truth"] = truth
            for name, edges in EDGES.items():
                # The loss of all candidates is known where some sampler asks for it.
                if name == "iou" or (name == "loss" and population == "available"):
                    continue
                for kind in ("positive", "with_truth") if name == "per_object" else ("positive", "negative", "truth"):
                    middle = len(edges) / 2 + (kind == "positive")
                    shape = np.exp(-((np.arange(len(edges) + 1) - middle) ** 2) / 3)
                    out[f"{stage}/{name}/{population}/{kind}"] = rng.poisson(
                        np.broadcast_to(50 * shape, (40, len(shape)))
                    )
            out[f"{stage}/{population}/counts"] = np.tile([200, 850, 9, 1600, total * 200], (40, 1))
    return out


def _result(
    run: str, value: dict[str, Any], seed: int, map_: float | None, fingerprint: str, chosen: str, rng: Any
) -> Result:
    base = map_ or 0.0
    recall = np.linspace(0, 1, 101)
    mean = np.clip(1.05 - recall ** (0.5 + 4 * base), 0, 1).round(4).tolist()
    metrics = {
        "map": map_, "map50": None if map_ is None else min(1.3 * base, 1.0), "map75": 0.9 * base,
        "map_small": 0.5 * base, "map_medium": base, "map_large": None,
        "ar_1": 0.3, "ar_10": 0.4, "ar_100": 0.5, "ar_small": 0.2, "ar_medium": 0.5, "ar_large": None,
        "num_images": 200, "backend": "hotcoco", "max_dets": 100, "notes": [],
        "per_class": [
            {"category_id": i + 1, "category": name, "num_objects": 9, "num_detections": 20,
             "ap": float(np.clip(base * (1.2 - 0.2 * i) + 0.01 * rng.standard_normal(), 0, 1)),
             "ap50": base, "ap75": base, "ar": base}
            for i, name in enumerate(CLASSES)
        ],
        "tide": {"ap": min(1.3 * base, 1.0), "delta_ap": {kind: float(abs(rng.normal(0.05, 0.02))) for kind in (
            "classification", "localisation", "both", "duplicate", "background", "missed")}},
        "calibration": {"d_ece": 0.08, "bins": [
            {"lower": k / 10, "upper": (k + 1) / 10, "count": 30, "confidence": k / 10 + 0.05,
             "precision": (k / 10 + 0.05) ** 1.4} for k in range(10)]},
        "pr_curves": {"recall": recall.round(2).tolist(), "curves": [
            {"iou": iou, "category": "mean", "precision": mean} for iou in (0.5, 0.75)]},
    }  # fmt: skip
    places = {"rpn/available": 0.72, "rpn/sampled": 0.7, "roi/available": 0.72, "roi/sampled": EASY.get(chosen, 0.5)}
    sampling = {
        place: {"positives_per_image": 8.0, "negatives_per_image": 57.0, "objects_without_positive": 0.01,
                "negatives_below_iou_0.05": easy}
        for place, easy in places.items()
    }  # fmt: skip
    seconds = {"random": 100.0, "ohem": 125.0, "matched_random": 120.0}.get(chosen, 110.0) + float(rng.normal())
    return Result(
        run=run, hash=run[-10:], seed=seed, choices=value["choices"], metrics=metrics, sampling=sampling,
        data={"name": "shapes", "fingerprint": fingerprint, "classes": list(CLASSES)}, iterations=2000, images=8000,
        parameters=911_357, cost=Cost(seconds, 2.0, 8000 / seconds, 760.0 + float(rng.normal()), 1),
    )  # fmt: skip
