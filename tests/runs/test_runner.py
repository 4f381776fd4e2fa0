"""One run: its files, its streams, its identity, and what it does the second time."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from harness.app import assembly
from harness.app.run_end import Stopped
from harness.app.runner import check, run
from harness.runs import schema
from harness.runs.folder import RunFolder
from harness.runs.identity import config_hash
from harness.runs.metrics_log import MetricsLog
from harness.runs.records import Result, State
from harness.tracking import NoTracker, opening
from harness.training import checkpoint
from harness.training.state import TrainState
from tests.app.test_command_line import write_voc
from tests.runs.conftest import Composed, Trained, outcome


def test_a_run_leaves_its_files(trained: Trained) -> None:
    folder = trained()
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.yaml",
        "environment.json",
        "status.json",
        "metrics.jsonl",
        "sampling.npz",
        "detections.json",
        "result.json",
        "checkpoint.pt",
    }
    assert [row["iteration"] for row in MetricsLog.rows(folder / "metrics.jsonl")] == [2, 4, 6]
    result = json.loads((folder / "result.json").read_text())
    assert result["iterations"] == 6
    assert result["cost"]["images_per_second"] > 0
    assert result["hash"] == folder.name.rpartition("-")[2]
    sampling = np.load(folder / "sampling.npz")
    assert sampling["roi/iou/sampled/negative"].shape[0] == 3
    status = RunFolder(folder).status
    assert status is not None
    assert status.state is State.DONE


def test_the_same_seed_gives_the_same_result_and_another_another(trained: Trained) -> None:
    first, again, other = trained(root="a"), trained(root="b"), trained("seed=1", root="c")
    assert outcome(first) == outcome(again)
    assert outcome(first)["detections"] != outcome(other)["detections"]


def test_a_finished_run_is_not_made_again(trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    folder = trained()
    before = (folder / "result.json").stat().st_mtime_ns
    with caplog.at_level(logging.WARNING):
        assert trained() == folder
    assert (folder / "result.json").stat().st_mtime_ns == before
    assert "already done" in caplog.text
    for name in ("config.yaml", "detections.json", "result.json"):  # half a folder is not done
        (folder / name).rename(folder / "aside")
        assert not RunFolder(folder).finished
        (folder / "aside").rename(folder / name)


def test_a_mirror_that_a_kill_cut_off_is_completed_by_the_next_call(
    trained: Trained, composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kept(NoTracker):
        def __init__(self) -> None:
            self.rows: list[int] = []
            self.maps: list[float] = []

        def log(self, iteration: int, values: Mapping[str, float | None]) -> None:
            self.rows.append(iteration)

        def finish(self, result: Result, *rest: object) -> None:
            self.maps.append(result.metrics["map"])

    kept = Kept()
    monkeypatch.setattr(opening, "open_tracker", lambda *arguments: nullcontext(kept))
    folder = trained()  # without a mirror
    config = composed("tracker=offline")
    for _ in range(2):
        run(config, choices={"detector": "tiny_rcnn", "sampler": "chosen", "data": "shapes"}, sources=[])
        assert kept.rows == [2, 4, 6]
        assert kept.maps == [RunFolder(folder).result()["metrics"]["map"]]
        (folder / opening.COMPLETE).touch()  # as a mirror that was closed leaves it


def test_what_cannot_change_the_result_is_no_part_of_the_identity(composed: Composed) -> None:
    from omegaconf import OmegaConf

    def named(*overrides: str, data: str = "x") -> str:
        plain = OmegaConf.to_container(composed(*overrides), resolve=True)
        assert isinstance(plain, dict)
        return config_hash(plain, data)  # type: ignore[arg-type]

    base = named()
    assert named("run.num_workers=2", "tracker=offline", "run.log_every=3", "name=mine", "run.root=/elsewhere") == base
    assert named("assigner=max_iou", "assigner.memory_bound=1000") == named("assigner=max_iou")
    for change in ("seed=1", "sampler=ohem", "run.threads=2", "optimizer.lr=0.1", "data.draw_seed=3"):
        assert named(change) != base
    assert named(data="y") != base


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("evaluator.max_dets=0", "evaluator"),
        ("data.augment.p=2", "data.augment"),
        ("optimizer.lr=-1", "optimizer: Invalid learning rate: -1"),
        ("optimizer.lr=high", "optimizer.lr='high' is a text: is a number meant"),
        ("schedule.kind=steps", "schedule.kind"),
        ("sampler.num=0", "sampler.num"),
        ("analysis.shadow=[nobody]", "analysis.shadow"),
    ],
)
def test_whatever_needs_no_data_is_refused_without_it(override: str, says: str, composed: Composed) -> None:
    config = composed(override)
    with pytest.raises(Stopped) as stop:
        check(config, [str(schema.folder("conf"))])
    assert stop.value.state is State.REFUSED
    assert stop.value.reason.startswith(says)


@pytest.mark.parametrize("sampler", ["ohem", "iou_balanced", "all"])
def test_the_sampler_changes_neither_weights_nor_data(
    sampler: str, composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first step starts from, and every batch of the run, bit by bit."""
    from harness.training import loop

    seen: list[list[torch.Tensor]] = []
    real = loop.step

    def recording(training: loop.TrainState, batch: loop.Batch) -> dict[str, torch.Tensor]:
        weights = [p.detach().clone() for p in training.model.parameters()] if training.iteration == 0 else []
        seen[-1].extend([*weights, *batch[0], *(target["boxes"] for target in batch[1])])
        return real(training, batch)

    monkeypatch.setattr(loop, "step", recording)
    for choice in ("random", sampler):
        seen.append([])
        config = composed(f"sampler={choice}", "augment@data.augment=photometric", root=choice)
        run(config, choices={}, sources=[])
    baseline, changed = seen
    assert len(baseline) == len(changed) > 60
    assert all(torch.equal(a, b) for a, b in zip(baseline, changed, strict=True))


def test_workers_do_not_change_the_result(trained: Trained) -> None:
    assert outcome(trained(root="a")) == outcome(trained("run.num_workers=2", root="b"))


def test_shadows_are_recorded_and_change_nothing(trained: Trained) -> None:
    plain = trained(root="a")
    watched = trained("analysis.shadow=[ohem,iou_balanced]", root="b")
    assert outcome(plain)["detections"] == outcome(watched)["detections"]
    assert {"roi/ohem", "roi/iou_balanced"} <= json.loads((watched / "result.json").read_text())["sampling"].keys()


def test_an_average_of_the_weights_is_evaluated(trained: Trained) -> None:
    plain, averaged = trained(root="a"), trained("run.ema_decay=0.9", root="b")
    assert outcome(plain)["detections"] != outcome(averaged)["detections"]
    a, b = (torch.load(f / "checkpoint.pt", weights_only=True)["model"] for f in (plain, averaged))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_accuracy_is_logged_on_the_way(trained: Trained) -> None:
    rows = MetricsLog.rows(trained("run.eval_every=2") / "metrics.jsonl")
    assert [row["iteration"] for row in rows if "eval/map" in row] == [2, 4]


REFUSALS = {
    "sampler.num=-1": "sampler.num=-1 must be a whole number of at least 1",
    "sampler.pos_fraction=2": "sampler.pos_fraction=2 must be between 0 and 1",
    "run.iterations=0": "run.iterations=0 must be a whole number of at least 1",
    "run.precision=fp64": "run.precision='fp64' must be one of fp32, bf16",
    "run.device=tpu": "run.device='tpu' must be one of auto, cpu",
    "schedule.warmup_fraction=1.5": "schedule.warmup_fraction=1.5 must be at least 0 and below 1",
    "loss.normalizer=mean": "loss.normalizer='mean' must be one of sampled",
    "analysis.shadow=[ohme]": "there is no sampler 'ohme'; choose from all, combined",
    "loss/regression=distribution_focal": "distribution",
    "assigner=fcos": "roi",
}


@pytest.mark.parametrize("override", REFUSALS)
def test_a_refusal_is_said_before_anything_is_touched(override: str, composed: Composed, tmp_path: Path) -> None:
    config = composed(override)
    config.data.cache_dir = str(tmp_path / "untouched")
    with pytest.raises(Stopped, match=REFUSALS[override]) as stop:
        run(config, choices={}, sources=[str(schema.folder("conf"))])
    assert stop.value.state is State.REFUSED
    assert not (tmp_path / "untouched").exists()
    assert stop.value.folder is None
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("image_sampler=class_aware", "image_sampler=class_aware: no training image has an object"),
        ("data.classes=[dgo]", "no object of dgo; valid: cat"),
    ],
)
def test_what_only_the_data_reveal_is_refused_before_a_folder_is_begun(
    override: str, says: str, tmp_path: Path
) -> None:
    root = write_voc(tmp_path / "voc", xml="<annotation><filename>a.jpg</filename></annotation>")
    schema.register()
    with initialize_config_dir(str(schema.folder("conf")), version_base="1.3"):
        places = [f"data.root={root}", f"run.root={tmp_path / 'results'}", "tracker=none"]
        config = compose("config", ["run=smoke", "data=voc", *places, "data.classes=[cat]", override])
    with pytest.raises(Stopped, match=re.escape(says)) as stop:
        run(config, choices={}, sources=[str(schema.folder("conf"))])
    assert (stop.value.state, stop.value.folder) == (State.REFUSED, None)
    assert not (tmp_path / "results").exists()


def test_a_loss_that_is_not_finite_stops_the_run_with_its_parts(composed: Composed) -> None:
    with pytest.raises(Stopped, match=r"the loss at iteration \d+ is not finite: loss_classifier=.*loss_rpn_box_reg="):
        run(composed("optimizer.lr=1e30", "run.clip_norm=null"), choices={}, sources=[])


def test_a_folder_that_is_being_written_is_left_alone(trained: Trained, composed: Composed) -> None:
    folder = trained()
    (folder / "result.json").unlink()
    with RunFolder(folder), pytest.raises(Stopped, match="running elsewhere") as stop:
        run(composed(), choices={"detector": "tiny_rcnn", "sampler": "chosen"}, sources=[])
    assert stop.value.state is State.RUNNING


def test_a_damaged_checkpoint_is_named(trained: Trained, composed: Composed) -> None:
    folder = trained()
    (folder / "result.json").unlink()
    (folder / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(Stopped, match=r"checkpoint\.pt is damaged: .*remove it to start afresh$"):
        run(composed(), choices={"detector": "tiny_rcnn", "sampler": "chosen"}, sources=[])


def test_a_run_keeps_its_threads_on_another_number_of_cores(
    trained: Trained, composed: Composed, caplog: pytest.LogCaptureFixture
) -> None:
    """As under ``taskset``: the sums keep their order, so the result keeps its bits."""
    folder = trained("run.threads=null", "run.eval_every=3")
    expected = outcome(folder)
    (folder / "result.json").unlink()
    state = checkpoint.load(folder / "checkpoint.pt")
    checkpoint.save(folder / "checkpoint.pt", {**state, "threads": 3})
    assert trained("run.threads=null", "run.eval_every=3") == folder
    assert torch.get_num_threads() == 3
    assert "continues with 3 threads" in caplog.text
    assert outcome(folder)["result"]["metrics"].keys() == expected["result"]["metrics"].keys()


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", ""])
def test_a_name_that_leaves_the_runs_folder_is_refused(name: str, composed: Composed) -> None:
    config = composed()
    config.name = name
    with pytest.raises(Stopped, match="name=") as stop:
        check(config, [str(schema.folder("conf"))])
    assert stop.value.state is State.REFUSED


def test_a_parameter_that_a_piece_does_not_have_is_named(composed: Composed) -> None:
    with pytest.raises(Stopped, match=r"sampler\.numm: there is no such key; did you mean sampler\.num"):
        check(composed("+sampler.numm=3"), [str(schema.folder("conf"))])
    config = composed()
    config.detector = {**OmegaConf.load(schema.folder("conf") / "detector/tiny_ssd.yaml").detector, "min_size": 64}
    with pytest.raises(Stopped, match=r"detector\.min_size: there is no such key; did you mean detector\.image_size"):
        check(config, [str(schema.folder("conf"))])


def test_epochs_are_passes_over_the_training_images(trained: Trained) -> None:
    folder = trained("run.epochs=1.5", "run.batch_size=4")
    assert json.loads((folder / "result.json").read_text())["iterations"] == 5  # 1.5 x 12 images / 4, rounded up


def test_a_finished_run_keeps_plain_weights(trained: Trained, composed: Composed) -> None:
    """``load_state_dict`` of the plain detector takes them, and it then detects what the run detected."""
    from harness.data.loading import val_loader
    from harness.training.detect import detect

    folder = trained("run.keep=weights", "run.ema_decay=0.5")
    assert not (folder / "checkpoint.pt").exists()
    config = composed("run.keep=weights", "run.ema_decay=0.5")
    splits = instantiate(config.data)
    device = torch.device("cpu")
    plain = instantiate(config.detector, num_classes=len(splits.classes) + 1).to(memory_format=torch.channels_last)
    plain.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    rows = detect(plain, val_loader(splits.val, batch_size=2), device, "fp32")
    assert rows == json.loads((folder / "detections.json").read_text())


def test_the_best_weights_are_those_of_the_best_evaluation(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.training.selection import BestWeights

    real = BestWeights.offer
    maps = iter([0.2, 0.9, 0.3])  # after 2, 4 and 6 iterations

    def pretended(self: BestWeights, iteration: int, value: float | None, model: torch.nn.Module) -> bool:
        return real(self, iteration, next(maps), model)

    at_four = trained("run.eval_every=2", "run.keep=all", "run.iterations=6", root="a")
    monkeypatch.setattr(BestWeights, "offer", pretended)
    best = trained("run.eval_every=2", "run.select=best", root="b")
    result = json.loads((best / "result.json").read_text())
    assert result["extra"]["selected"] == {"iteration": 4, "by": "map"}
    assert result["iterations"] == 6
    last = torch.load(at_four / "model.pt", weights_only=True)
    kept = torch.load(best / "model.pt", weights_only=True)
    assert any(not torch.equal(last[key], kept[key]) for key in last)
    logged = {row["iteration"]: row for row in MetricsLog.rows(best / "metrics.jsonl") if "eval/map" in row}
    assert result["metrics"]["map"] == logged[4]["eval/map"]


def test_parts_of_a_batch_add_up_to_the_mean_of_their_gradients() -> None:
    """Against two backward passes by hand."""
    from types import SimpleNamespace

    from harness.training import loop

    class Toy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor(1.0))

        def set_progress(self, progress: float) -> None: ...

        def forward(self, images: list[torch.Tensor], targets: list[object]) -> dict[str, torch.Tensor]:
            return {"loss": torch.stack([(self.w * image.mean()) ** 2 for image in images]).mean()}

    images = [torch.full((3, 2, 2), value, dtype=torch.uint8) for value in (51, 102, 153, 204)]
    batch = (images, [{"boxes": torch.zeros(0, 4)} for _ in images])
    toy = Toy()
    training = SimpleNamespace(
        model=toy,
        config=schema.RunConfig(accumulate=2, clip_norm=None),
        device=torch.device("cpu"),
        iteration=0,
        optimizer=torch.optim.SGD(toy.parameters(), lr=1.0),
        schedule=SimpleNamespace(step=lambda: None),
        ema=None,
    )
    losses = loop.step(training, batch)  # type: ignore[arg-type]
    squares = torch.tensor([0.2, 0.4, 0.6, 0.8]) ** 2
    torch.testing.assert_close(losses["loss"], squares.mean())
    torch.testing.assert_close(toy.w.detach(), 1 - 2 * squares.mean())
    with pytest.raises(ValueError, match=r"run\.accumulate=3 must be a divisor of run\.batch_size=4"):
        schema.RunConfig(accumulate=3).check()


def test_a_fault_of_the_evaluation_shows_before_the_training(
    composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.app import validation
    from harness.training import loop

    def broken(*arguments: object) -> None:
        raise RuntimeError("no evaluation here")

    monkeypatch.setattr(validation, "detect", broken)
    monkeypatch.setattr(loop, "step", lambda *arguments: pytest.fail("trained for nothing"))
    with pytest.raises(Stopped, match="no evaluation here"):
        run(composed(), choices={}, sources=[])


def test_equal_strength_counts_iterations_and_not_the_parts_of_a_batch(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.losses.balance.STEPS", 2)
    states: list[TrainState] = []

    def caught(**parts: Any) -> TrainState:
        states.append(TrainState(**parts))
        return states[-1]

    monkeypatch.setattr(assembly, "TrainState", caught)
    trained("run.batch_size=2", "run.accumulate=2", "run.iterations=3", "loss.balance=equal", "run.rehearse=false")
    balance = states[0].model.criteria["roi"].balance
    assert int(balance.steps) == 4, "two parts in each of the first two iterations"
