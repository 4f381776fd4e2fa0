"""Hard-negative mining between rounds of training: what is found, what it is trained on, and what a stop changes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from harness.app.run_end import Stopped
from harness.app.runner import run
from harness.core.structures import MiningPlan
from harness.criterion.stage import Selection
from harness.data.augment.boxes import apply, mirrored
from harness.data.augment.mosaic_mixup import MosaicMixup
from harness.data.augment.protocol import Surroundings
from harness.data.dataset import Annotations, DetectionDataset
from harness.data.sources.shapes import shapes
from harness.data.streams import cpu_stream
from harness.detectors.adapters.box_branch import proposal_candidates, with_truth
from harness.detectors.adapters.targets import ground_truth
from harness.detectors.equip import equip
from harness.detectors.zoo.tiny_fcos import tiny_fcos
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from harness.detectors.zoo.tiny_ssd import tiny_ssd
from harness.detectors.zoo.yolox import tiny_yolox
from harness.experiment.experiment import RefusedError
from harness.inspect.mined import mined_sheet, rounds_of
from harness.runs import schema
from harness.runs.metrics_log import MetricsLog
from harness.runs.schema import ConfigError
from harness.samplers.matched_random import MatchedRandomSampler
from harness.samplers.offline_hard import OfflineHardSampler
from harness.samplers.random import RandomSampler
from harness.training import loop
from harness.training.checkpoint import CheckpointError
from harness.training.mining import Mining, false_positives, mining_plan, missed_objects
from tests.runs.conftest import Composed, Trained, outcome

MINING = ("sampler=offline_hard", "sampler.score_thr=0.05", "sampler.max_per_image=6")
THREE_ROUNDS = (*MINING, "sampler.every_epochs=0.5")  # 12 images, batches of 2, 6 iterations: two pauses


def row(image_id: int, box: list[float], score: float, label: int = 1) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": label, "bbox": box, "score": score}


def annotated(*images: list[tuple[list[float], bool]]) -> Annotations:
    """Images of 100 x 80 px with ids 10, 11, ...: their objects, and whether those are to be ignored."""
    objects = [entry for image in images for entry in image]
    boxes = np.array([box for box, _ in objects], dtype=np.float64).reshape(-1, 4)
    return Annotations(
        offsets=np.cumsum([0, *map(len, images)]),
        boxes=boxes,
        labels=np.ones(len(objects), dtype=np.int64),
        ignore=np.array([ignored for _, ignored in objects], dtype=bool),
        difficult=np.zeros(len(objects), dtype=bool),
        areas=np.zeros(len(objects)),
        ids=tuple(range(10, 10 + len(images))),
        source_ids=tuple(range(len(images))),
        files=("",) * len(images),
        sizes=np.tile([100, 80], (len(images), 1)),
    )


def naive_iou(a: list[float], b: list[float], own: bool = False) -> float:
    """IoU of two xyxy boxes; ``own``: the share of ``a`` that is in ``b``."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (areas[0] if own else sum(areas) - shared)


def naive_false_positives(notes: Annotations, rows: list[dict[str, Any]], stored: list[dict[str, Any]]) -> list[Any]:
    def corners(entry: dict[str, Any]) -> list[float]:
        x, y, w, h = entry["bbox"]
        return [x, y, x + w, y + h]

    kept = []
    for index, image_id in enumerate(notes.ids):
        own = sorted((r for r in rows if r["image_id"] == image_id), key=lambda r: -r["score"])
        known = [corners(r) for r in stored if r["image_id"] == image_id]
        count = 0
        for entry in own:
            box, objects = corners(entry), range(notes.offsets[index], notes.offsets[index + 1])
            on_object = any(naive_iou(box, list(notes.boxes[g]), bool(notes.ignore[g])) >= 0.3 for g in objects)
            known_already = any(naive_iou(box, other) >= 0.7 for other in known)
            if entry["score"] >= 0.4 and not on_object and not known_already and count < 3:
                kept.append(entry)
                known.append(box)
                count += 1
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_false_positives_equal_their_oracle(seed: int) -> None:
    random = np.random.default_rng(seed)

    def box(low: float, high: float) -> list[float]:
        size = random.uniform(low, high, 2)
        return [*(random.uniform(0, 1, 2) * ([100, 80] - size)), *size]

    images = []
    for _ in range(4):
        entries = [(box(10, 40), bool(random.random() < 0.3)) for _ in range(random.integers(0, 4))]
        images.append([([x, y, x + w, y + h], ignored) for (x, y, w, h), ignored in entries])
    notes = annotated(*images)
    stored = [row(10 + int(random.integers(4)), box(10, 30), 0.9) for _ in range(8)]
    rows = []
    for image in range(4):
        for _ in range(30):
            x, y, w, h = box(10, 30)
            again = random.random() < 0.3 and rows
            near = [v + random.normal() for v in rows[-1]["bbox"]] if again else [x, y, w, h]
            rows.append(row(10 + image, near, random.random(), int(random.integers(1, 4))))
        rows += [row(10 + image, [v + 0.3 for v in r["bbox"]], 0.95) for r in stored if r["image_id"] == 10 + image]
    found = false_positives(notes, rows, score_thr=0.4, max_iou=0.3, max_per_image=3, stored=stored)
    assert found == naive_false_positives(notes, rows, stored)
    assert 4 <= len(found) <= 12
    assert not [r for r in found if r["score"] == 0.95]


def test_a_crowd_hides_what_is_inside_it() -> None:
    notes = annotated([([0, 0, 60, 60], True)], [([0, 0, 60, 60], False)])
    inside = [row(image, [20, 20, 10, 10], 0.9) for image in (10, 11)]
    assert false_positives(notes, inside, score_thr=0.5, max_iou=0.3, max_per_image=9) == inside[1:]


def test_what_is_no_box_is_no_false_positive() -> None:
    notes = annotated([])
    nonsense = [[0, 0, 0.5, 20], [np.nan, 0, 20, 20], [99.5, 0, 20, 20], [0, 0, np.inf, 0], [5, 5, -9, 20]]
    rows = [row(10, box, 0.9) for box in nonsense] + [row(10, [0, 0, 20, 20], np.nan)]
    assert false_positives(notes, rows, score_thr=0.1, max_iou=0.3, max_per_image=9) == []


def test_stored_boxes_are_background_that_moves_with_the_objects(cache: Path) -> None:
    plain = shapes(image_size=64, num_train=4, num_val=1, cache_dir=str(cache)).train
    stored = np.array([[2.0, 3.0, 22.0, 33.0], [40.0, 50.0, 90.0, 64.0]])
    dataset = plain.with_mined({plain.annotations.ids[1]: stored})
    assert len(dataset) == 4
    untouched, with_boxes, before = dataset[0][1], dataset[1][1], plain[1][1]
    assert all(torch.equal(untouched[key], value) for key, value in plain[0][1].items())
    count = len(before["boxes"])
    for key in ("boxes", "labels", "iscrowd", "area"):
        assert torch.equal(with_boxes[key][:count], before[key])
        assert with_boxes[key].dtype == before[key].dtype
    assert with_boxes["boxes"][count:].tolist() == [[2, 3, 22, 33], [40, 50, 64, 64]]
    assert with_boxes["labels"][count:].tolist() == with_boxes["iscrowd"][count:].tolist() == [0, 0]

    _, flipped = mirrored(dataset[1])
    assert flipped["boxes"][count:].tolist() == [[42, 3, 62, 33], [0, 50, 24, 64]]
    assert flipped["labels"][count:].tolist() == [0, 0]


def test_mixup_takes_no_image_for_its_background_boxes() -> None:
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    empty = {"image_id": torch.tensor(0), "labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)}
    empty |= {"iscrowd": torch.zeros(0, dtype=torch.int64), "area": torch.zeros(0)}
    false = {**empty, "labels": torch.tensor([0]), "boxes": torch.tensor([[1.0, 1, 20, 20]])}
    false |= {"iscrowd": torch.tensor([0]), "area": torch.tensor([361.0])}
    white = torch.full_like(image, 255)
    augment = MosaicMixup(mosaic=0.0, mixup=1.0, flip=0.0)
    augment.finish = lambda sample, around: sample  # type: ignore[assignment]
    with cpu_stream(0):
        mixed, target = augment((image, empty), Surroundings(lambda _: (white, false), 1, 10.0))
    assert not mixed.any()
    assert len(target["boxes"]) == 0


def test_label_zero_is_a_hard_negative_and_never_an_object() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [5, 5, 9, 9]])
    targets = [{"boxes": boxes, "labels": torch.tensor([2, 0, 1])}, {"boxes": boxes[:1], "labels": torch.tensor([3])}]
    truth = ground_truth(targets)
    assert truth.labels.tolist() == [[1, 0, 0], [2, 0, 0]]
    assert truth.matchable.tolist() == [[True, False, True], [True, False, False]]
    assert truth.hard_negative is not None
    assert truth.hard_negative.tolist() == [[False, True, False], [False, False, False]]
    candidates = with_truth(proposal_candidates([torch.zeros(0, 4), torch.zeros(0, 4)]), truth)
    assert candidates.valid.tolist() == [[True, True, True], [True, False, False]]
    assert candidates.is_truth is not None
    assert candidates.is_truth.tolist() == truth.matchable.tolist()


SMALL: dict[str, Any] = {
    "tiny_retinanet": lambda: tiny_retinanet(4, min_size=64),
    "tiny_fcos": lambda: tiny_fcos(4, min_size=64),
    "tiny_ssd": lambda: tiny_ssd(4, image_size=64),
    "tiny_yolox": lambda: tiny_yolox(4, min_size=64, max_size=64),
}


def targets_with(hard: list[list[float]]) -> list[dict[str, Tensor]]:
    """Two images: one with the ``hard`` boxes between two objects, one with nothing but these."""
    boxes = [[4.0, 4, 30, 28], *hard, [30.0, 34, 60, 62]]
    stored = [0] * len(hard)
    return [
        {"boxes": torch.tensor(boxes), "labels": torch.tensor([1, *stored, 3])},
        {"boxes": torch.tensor(hard).reshape(-1, 4), "labels": torch.tensor(stored, dtype=torch.int64)},
    ]


HARD = [[34.0, 2, 60, 30], [2.0, 36, 20, 60]]


@pytest.mark.parametrize("name", SMALL)
def test_dense_heads_learn_the_same_of_the_objects(name: str) -> None:
    """With the natural trio, stored boxes among the targets change no loss: they match nothing, not even in the host's
    own matching."""
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    losses = []
    for hard in ([], HARD):
        torch.manual_seed(0)
        model = equip(SMALL[name]())
        model.train()
        losses.append(model(images, targets_with(hard)))
    assert losses[0].keys() == losses[1].keys()
    for key, value in losses[0].items():
        torch.testing.assert_close(losses[1][key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", [*SMALL, "tiny_rcnn"])
def test_stored_boxes_are_among_the_negatives_of_any_head(name: str) -> None:
    """Over three draws, because one draw of few candidates may take all of them at random, too."""
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    taken = dict.fromkeys((OfflineHardSampler, RandomSampler), 0)
    for draw in range(3):
        for sampler in (OfflineHardSampler(32, 0.25, hard_fraction=1.0), RandomSampler(32, 0.25)):
            torch.manual_seed(0)
            seen: list[Selection] = []

            def observe(stage: str, selection: Selection, seen: list[Selection] = seen) -> None:
                if stage != "rpn":
                    seen.append(selection)

            plain = tiny_rcnn(4, min_size=64) if name == "tiny_rcnn" else SMALL[name]()
            generator = torch.Generator().manual_seed(draw)
            model = equip(plain, sampler=sampler, generator=generator, observers=[observe])
            model.train()
            losses = model(images, targets_with(HARD))
            torch.stack(list(losses.values())).sum().backward()
            (selection,) = seen
            assert set(selection.assignment.gt_index[0].unique().tolist()) <= {-2, -1, 0, 3}  # 1 and 2 are stored boxes
            assert not selection.assignment.positive[1].any()
            near = near_any(selection, HARD)
            taken[type(sampler)] += int((selection.sample.take(near) & selection.sample.negative).sum())
            assert int((near & selection.assignment.negative).sum()) >= 2
    assert taken[OfflineHardSampler] > taken[RandomSampler]


def near_any(selection: Selection, boxes: list[list[float]]) -> Tensor:
    """``(B, N)`` bool: candidates whose centre is in the middle of one of the boxes and whose size, if any, is like."""
    centers, candidates = selection.candidates.centers, selection.candidates.boxes
    found = torch.zeros_like(selection.candidates.valid)
    for x1, y1, x2, y2 in boxes:
        inside = (centers[..., 0] - (x1 + x2) / 2).abs() < (x2 - x1) / 6
        inside &= (centers[..., 1] - (y1 + y2) / 2).abs() < (y2 - y1) / 6
        area = (candidates[..., 2:] - candidates[..., :2]).prod(-1)
        like = (area / ((x2 - x1) * (y2 - y1)) - 1).abs() < 0.25
        point = torch.zeros_like(like)
        if selection.candidates.stride is not None:
            point = (area.sqrt() - selection.candidates.stride).abs() < 0.01
        found |= inside & (like | point)
    return found & selection.candidates.valid


def rounds(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "mined").glob("round_*.json"))]


@pytest.mark.parametrize("detector", ["tiny_rcnn", "tiny_fcos"])
def test_a_run_mines_between_its_rounds(
    detector: str, trained: Trained, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    background: list[dict[int, int]] = []  # a step: how many background boxes the images of its batch have
    real = loop.step

    def watching(training: loop.TrainState, batch: loop.Batch) -> dict[str, Tensor]:
        background.append({int(target["image_id"]): int((target["labels"] == 0).sum()) for target in batch[1]})
        return real(training, batch)

    monkeypatch.setattr(loop, "step", watching)
    folder = trained(f"detector={detector}", *THREE_ROUNDS)
    records = rounds(folder)
    assert [(record["round"], record["iteration"]) for record in records] == [(1, 3)]
    plan = {"every_epochs": 0.5, "score_thr": 0.05, "max_iou": 0.3, "max_per_image": 6, "positives": False}
    assert records[0]["parameters"] == plan
    assert records[0]["missed"] == []
    found = records[0]["detections"]
    assert len(found) > 12
    assert all(set(entry) == {"image_id", "category_id", "bbox", "score"} for entry in found)
    result = json.loads((folder / "result.json").read_text())
    assert result["extra"]["mined_boxes"] == [len(found)]
    assert "missed_objects" not in result["extra"]

    of_image = {key: sum(entry["image_id"] == key for entry in found) for key in range(12)}
    assert max(of_image.values()) <= 6
    assert len(background) == 6
    assert all(count == 0 for step in background[:3] for count in step.values())
    assert all(count == of_image[key] for step in background[3:] for key, count in step.items())
    train = shapes(image_size=64, num_train=12, num_val=4, cache_dir=str(cache)).train
    assert false_positives(train.annotations, found, score_thr=0.05, max_iou=0.3, max_per_image=6) == found


def test_rounds_accumulate_and_never_store_twice(trained: Trained) -> None:
    records = rounds(trained(*MINING, "run.iterations=9", "sampler.every_epochs=0.34"))
    assert [record["iteration"] for record in records] == [2, 4, 6, 8]
    earlier: dict[int, list[list[float]]] = {}
    for record in records:
        for entry in record["detections"]:
            x, y, w, h = entry["bbox"]
            box = [x, y, x + w, y + h]
            others = earlier.setdefault(entry["image_id"], [])
            assert all(naive_iou(box, other) < 0.7 for other in others)
            others.append(box)


def test_an_rpn_may_mine_too(trained: Trained) -> None:
    assert len(rounds(trained("sampler@rpn.sampler=offline_hard", "rpn.sampler.every_epochs=0.5"))) == 1


def test_two_stages_that_mine_differently_are_refused(composed: Composed) -> None:
    config = composed(*THREE_ROUNDS, "sampler@rpn.sampler=offline_hard")
    with pytest.raises(Stopped, match="the samplers of two stages mine differently") as stop:
        run(config, choices={}, sources=[str(schema.folder("conf"))])
    assert isinstance(stop.value.__cause__, RefusedError)
    same = OfflineHardSampler(8, 0.5)
    assert mining_plan([same, OfflineHardSampler(64, 0.25), RandomSampler(8, 0.5)]) == MiningPlan(1.0, 0.2, 0.3, 20)
    assert mining_plan([None, RandomSampler(8, 0.5)]) is None
    assert mining_plan([MatchedRandomSampler(same)]) == same.mining, "the control of a mining sampler mines as it does"
    with pytest.raises(ConfigError, match="must be equal"):
        mining_plan([same, OfflineHardSampler(8, 0.5, max_iou=0.2)])


def test_as_a_shadow_it_neither_mines_nor_changes_anything(trained: Trained) -> None:
    plain, watched = trained(root="a"), trained("analysis.shadow=[offline_hard]", root="b")
    assert not (watched / "mined").exists()
    assert outcome(plain)["detections"] == outcome(watched)["detections"]


def test_until_the_first_round_it_is_random(trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    """And a training without a second round stays so, with one line that says it."""
    first, second = trained("sampler=random", root="a"), trained("sampler=offline_hard", root="b")
    assert "nothing is mined: a round takes 6 iterations, the training has 6" in caplog.text
    assert not (second / "mined").exists()
    assert outcome(first)["detections"] == outcome(second)["detections"]


@pytest.mark.parametrize("stopped_at", [1, 4, 6])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    stopped_at: int, trained: Trained, composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the first round, right before a round is mined, and after one."""
    overrides = (*MINING, "run.iterations=8", "sampler.every_epochs=0.67", "run.ema_decay=0.9", "run.log_every=3")
    whole = trained(*overrides, root="a")
    assert [record["iteration"] for record in rounds(whole)] == [4]
    real = loop.step

    def stopping(training: loop.TrainState, batch: loop.Batch) -> dict[str, Tensor]:
        if training.iteration + 1 == stopped_at:
            os.kill(os.getpid(), signal.SIGINT)
        return real(training, batch)

    monkeypatch.setattr(loop, "step", stopping)
    with pytest.raises(Stopped, match=f"stopped by SIGINT at iteration {stopped_at}"):
        trained(*overrides, root="b")
    monkeypatch.setattr(loop, "step", real)
    continued = trained(*overrides, root="b")
    assert rounds(whole) == rounds(continued)
    assert outcome(whole) == outcome(continued)
    assert MetricsLog.rows(whole / "metrics.jsonl") == MetricsLog.rows(continued / "metrics.jsonl")
    a, b = (torch.load(folder / "model.pt", weights_only=True) for folder in (whole, continued))
    assert all(torch.equal(a[key], b[key]) for key in a)


class Sized:
    """Images that are never read."""

    def __len__(self) -> int:
        return 3


def test_rounds_that_the_checkpoint_knows_must_be_there(tmp_path: Path) -> None:
    dataset = DetectionDataset(annotated([], [], []), Sized(), ["a"])  # type: ignore[arg-type]
    settings: dict[str, Any] = {"iterations": 10, "batch_size": 1}
    mining = Mining(MiningPlan(1.0, 0.5, 0.3, 5), dataset, tmp_path, **settings)
    assert mining.resume(0) == [3, 6, 9]
    mining.add(3, [row(11, [0, 0, 20, 20], 0.9)])
    again = Mining(MiningPlan(1.0, 0.5, 0.3, 5), dataset, tmp_path, **settings)
    assert again.resume(3) == [3, 6, 9]
    assert again.found == []
    assert again.resume(5) == [6, 9]
    assert again.found == mining.found
    assert again.dataset.background[11].tolist() == [[0, 0, 20, 20]]
    with pytest.raises(CheckpointError, match=r"round_2\.json cannot be read, .* trained with it; remove checkpoint"):
        again.resume(7)
    (tmp_path / "round_1.json").write_text('{"round": 1, "iteration": 2, "detections": []}')
    with pytest.raises(CheckpointError, match=r"round_1\.json is damaged: its keys .*; remove checkpoint\.pt"):
        again.resume(5)
    of_another = {"round": 1, "iteration": 2, "parameters": {}, "detections": [], "missed": []}
    (tmp_path / "round_1.json").write_text(json.dumps(of_another))
    with pytest.raises(CheckpointError, match=r"round_1\.json is of another training; remove checkpoint\.pt"):
        again.resume(5)


def naive_missed(notes: Annotations, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for index, image_id in enumerate(notes.ids):
        own = sorted((r for r in rows if r["image_id"] == image_id and r["score"] >= 0.4), key=lambda r: -r["score"])
        for k, g in enumerate(range(notes.offsets[index], notes.offsets[index + 1])):
            on = []
            for r in own:
                x, y, w, h = r["bbox"]
                if naive_iou([x, y, x + w, y + h], list(notes.boxes[g])) >= 0.5:
                    on.append(r["category_id"])
            if not notes.ignore[g] and notes.labels[g] not in on:
                found.append({"image_id": image_id, "object": k, "found_as": on[0] if on else None})
    return found


@pytest.mark.parametrize("seed", range(4))
def test_missed_and_misnamed_objects_equal_their_oracle(seed: int) -> None:
    random = np.random.default_rng(seed)
    images = []
    for _ in range(4):
        corner = random.uniform(0, 50, (3, 2))
        boxes = np.concatenate((corner, corner + random.uniform(10, 30, (3, 2))), 1)
        images.append([(box.tolist(), bool(random.random() < 0.2)) for box in boxes])
    notes = annotated(*images, [])
    rows = []
    for index in range(4):
        for box in notes.boxes[notes.rows(index)]:
            for _ in range(2):
                x1, y1, x2, y2 = box + random.normal(0, 2, 4)
                label = int(random.integers(1, 3))
                rows.append(row(10 + index, [x1, y1, x2 - x1, y2 - y1], random.random(), label))
    found = missed_objects(notes, rows, score_thr=0.4)
    assert found == naive_missed(notes, rows)
    assert {entry["found_as"] for entry in found} >= {None, 2} or seed


def test_hard_objects_move_with_the_image_and_reach_the_truth() -> None:
    plain = shapes(num_train=4, num_val=1, image_size=64).train
    first = plain.annotations.ids[0]
    hard = plain.with_mined({first: np.array([[1.0, 2, 9, 12]])}, {first: [1]})
    image, target = hard[0]
    assert target["hard"].nonzero().flatten().tolist() == [1]
    assert "hard" not in plain[0][1]
    x1, y1, x2, y2 = target["boxes"][1]
    _, flipped = apply(v2.RandomHorizontalFlip(1.0), (image, target))
    (place,) = flipped["hard"].nonzero().flatten().tolist()
    torch.testing.assert_close(flipped["boxes"][place], torch.stack((64 - x2, y1, 64 - x1, y2)))
    truth = ground_truth([target, hard[1][1]])
    assert truth.hard_positive is not None
    assert truth.hard_positive.nonzero().tolist() == [[0, 1]]
    assert ground_truth([plain[0][1]]).hard_positive is None


def test_a_symmetric_run_stores_both_kinds_of_mistakes_and_shows_them(trained: Trained, tmp_path: Path) -> None:
    folder = trained("sampler=offline_symmetric", "sampler.score_thr=0.05", "sampler.every_epochs=0.5")
    records = rounds(folder)
    assert [record["parameters"]["positives"] for record in records] == [True]
    assert all(record["missed"] for record in records), "after so few steps every object is missed"
    assert json.loads((folder / "result.json").read_text())["extra"]["missed_objects"] == len(records[-1]["missed"])
    plain = shapes(num_train=12, num_val=4, image_size=64).train
    mined = rounds_of(folder)
    assert [len(missed) for _, missed in mined] == [len(record["missed"]) for record in records]
    path = mined_sheet(plain, mined, tmp_path / "mined.png", 4)
    assert path.read_bytes()[1:4] == b"PNG"
