"""The W&B mirror: read back record by record; falls back, resumes, is interrupted, and never stops a run."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from PIL import Image

from harness.data.export import to_coco
from harness.data.sources.shapes import shapes
from harness.data.splits import Splits
from harness.evaluation.accuracy import evaluate
from harness.report import parts as report_parts
from harness.report.figures.style import figure
from harness.runs.presets import PRESETS
from harness.runs.records import Cost, Result
from harness.runs.schema import TrackerConfig
from harness.telemetry.bins import EDGES
from harness.telemetry.recorder import SamplingTelemetry, Window
from harness.tracking import NoTracker, Tracker, WandbTracker, log_report, open_tracker, opening
from harness.tracking.environment import run_id
from harness.tracking.opening import _first_line, group_of
from harness.tracking.wandb_tracker import closed_edges, pictures
from harness.training.interrupt import Interrupted
from tests.telemetry.test_telemetry import random_selection

ROOT = Path(__file__).resolve().parent.parent
CHOICES = {"detector": "tiny_rcnn", "assigner": "max_iou", "sampler": "ohem", "data": "shapes", "loss/regression": "l1"}
Records = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def own_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, no settings and no host of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    wandb.teardown()
    yield
    wandb.teardown()


def read_back(folder: Path) -> Records:
    """Every record of the one session in ``folder``, as W&B's own reader shows it."""
    (session,) = sessions(folder)
    return records(session)


def sessions(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*"))


def records(session: Path) -> Records:
    wandb_program = Path(sys.executable).parent / "wandb"
    done = subprocess.run(
        [wandb_program, "leet", "inspect", "--json", session], capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def merged(rows: Records, kind: str) -> dict[str, Any]:
    """All keys that records of one kind set, the last value of each."""
    out: dict[str, Any] = {}
    for row in rows:
        if row["type"] == kind:
            out.update(row[kind].get("item", row[kind].get("update")))
    return out


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return shapes(num_train=1, num_val=3, cache_dir=str(tmp_path_factory.mktemp("scenes")))


def window_of(iteration: int) -> Window:
    telemetry = SamplingTelemetry()
    telemetry("rpn", random_selection(iteration, losses=False))
    telemetry("roi", random_selection(iteration + 50, levels=False))
    return telemetry.close_window(iteration)


def detections_of(annotations: dict[str, Any]) -> list[dict[str, Any]]:
    """Right boxes with falling scores, every third of a wrong category."""
    rows = []
    for number, a in enumerate(annotations["annotations"]):
        category = a["category_id"] % 6 + 1 if number % 3 == 0 else a["category_id"]
        rows.append(
            {
                "image_id": a["image_id"],
                "category_id": category,
                "bbox": a["bbox"],
                "score": 0.9 / (1 + number % 5),
            }
        )
    return rows


def result_of(annotations: dict[str, Any], detections: list[dict[str, Any]]) -> Result:
    metrics = evaluate(annotations, detections, tide=True, calibration=True, pr_curves=True).to_dict()
    metrics |= {"segm": {"map": 0.25, "per_class": {"disc": 0.5}}, "frequencies": {"map_rare": 0.125}}
    telemetry = SamplingTelemetry()
    telemetry("roi", random_selection(1))
    telemetry.close_window(4)
    return Result(
        run="run",
        hash="0",
        seed=0,
        choices=CHOICES,
        metrics=metrics,
        sampling=telemetry.summary(),
        data={"fingerprint": "abc", "problems": [{}, {}]},
        iterations=4,
        images=8,
        parameters=10,
        cost=Cost(1.0, 2.0, 3.0, 4.0, 1),
    )


def mirror_a_run(tracker: Tracker, splits: Splits) -> Result:
    annotations = to_coco(splits.val)
    detections = detections_of(annotations)
    result = result_of(annotations, detections)
    for iteration in (2, 4):
        tracker.log(iteration, {"train/loss/classifier": 1.0 / iteration, "train/lr": 0.1})
        tracker.log_sampling(iteration, window_of(iteration))
        tracker.log(iteration, {"eval/map": 0.1 * iteration, "eval/map50": None})
    tracker.finish(result, splits.val, annotations, detections)
    return result


def test_everything_is_read_back(tmp_path: Path, splits: Splits, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / f"lr 0.01: a? #1 50% {'n' * 150}-s0-0123456789"  # W&B allows neither its signs nor its length
    folder.mkdir()
    settings = TrackerConfig(project="own", entity="me", tags=["mine"], images=2)
    with open_tracker(settings, folder, {"seed": 3, "run": {"iterations": 4}}, CHOICES) as tracker:
        assert isinstance(tracker, WandbTracker)
        result = mirror_a_run(tracker, splits)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")

    rows = read_back(folder)
    (run,) = (row["run"] for row in rows if row["type"] == "run")
    assert (run["run_id"], run["display_name"]) == (run_id(folder.name), folder.name[:128])
    assert (run["project"], run["entity"], run["job_type"]) == ("own", "me", "train")
    told, _, alike = run["run_group"].rpartition("-")
    assert told == "shapes-tiny_rcnn-max_iou-ohem-l1"
    assert len(alike) == 6
    assert set(run["tags"]) == {"mine", "detector:tiny_rcnn", "sampler:ohem", "data:shapes"}
    config = run["config"]["update"]
    assert (config["seed"], config["run"], config["choices"]) == (3, {"iterations": 4}, CHOICES)

    history = [row["history"]["item"] for row in rows if row["type"] == "history"]
    assert [item["_step"] for item in history] == [2, 4]
    for item in history:
        step = item["_step"]
        assert item["train/loss/classifier"] == 1.0 / step
        assert item["eval/map"] == (0.2 if step == 2 else result.metrics["map"])
        check_histograms(item, window_of(step))
    check_tables_and_images(folder, history[-1], result, splits)
    check_summary(merged(rows, "summary"), result)
    (end,) = (row["exit"] for row in rows if row["type"] == "exit")
    assert end.get("exit_code", 0) == 0


def test_the_commands_of_the_documentation_upload_what_is_offline(tmp_path: Path) -> None:
    """`wandb sync` is given the paths of README, and lists the mirrors of runs and of sweeps' reports."""
    (line,) = {line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("wandb sync ")}
    patterns = line.partition("#")[0].split()[2:]
    for name in ("runs/a-s0-0123456789", "sweeps/b/report"):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        (folder / "report.md").write_text("# Report\n")
        log_report(TrackerConfig(), folder, "report-b")
    wandb_program = Path(sys.executable).parent / "wandb"
    paths = [str(path.relative_to(tmp_path)) for pattern in patterns for path in sorted(tmp_path.glob(pattern))]
    command = [wandb_program, "sync", "--dry-run", *paths]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert all(path in done.stdout + done.stderr for path in paths)
    assert len(paths) == 2


def check_histograms(item: dict[str, Any], window: Window) -> None:
    """Every histogram that holds something is there with its fixed bins, and no other."""
    expected = {}
    for key, counts in window.histograms.items():
        stage, quantity, population, kind = key.split("/")
        if counts.sum():
            expected[f"sample_{quantity}/{stage}/{population}/{kind}"] = (quantity, counts)
    found = {name.removesuffix("._type") for name, value in item.items() if value == "histogram"}
    assert found == set(expected)
    easy = window.histograms["roi/iou/sampled/negative"]
    assert item["sampling/roi/sampled/negatives_below_iou_0.05"] == pytest.approx(easy[0] / easy.sum())
    assert {f"sample_iou/roi/{p}/{k}" for p in ("available", "sampled") for k in ("positive", "negative")} <= found
    for name, (quantity, counts) in expected.items():
        assert item[f"{name}.values"] == counts.tolist()
        assert item[f"{name}.bins"] == pytest.approx(closed_edges(quantity))


def check_tables_and_images(folder: Path, last: dict[str, Any], result: Result, splits: Splits) -> None:
    files = sessions(folder)[0] / "files"
    annotations = to_coco(splits.val)
    names = {c["id"]: c["name"] for c in annotations["categories"]}
    per_class = json.loads((files / last["eval/per_class.path"]).read_text())
    assert per_class["columns"] == list(result.metrics["per_class"][0])
    assert per_class["data"] == [list(row.values()) for row in result.metrics["per_class"]]
    detections = detections_of(annotations)
    table = json.loads((files / last["eval/detections.path"]).read_text())
    assert len(table["data"]) == len(detections)
    best = max(detections, key=lambda row: row["score"])
    assert table["data"][0][2:] == [names[best["category_id"]], best["score"], *best["bbox"]]
    assert last["eval/images.count"] == 2
    shown = json.loads((files / last["eval/images.all_boxes"][0]["predictions"]["path"]).read_text())
    own = [d for d in detections if d["image_id"] == annotations["images"][0]["id"] and d["score"] >= 0.3]
    assert [box["box_caption"] for box in shown["box_data"]] == [
        f"{names[d['category_id']]} {d['score']:.2f}" for d in own
    ]
    assert all((files / name).stat().st_size > 1000 for name in last["eval/images.filenames"])


def check_summary(summary: dict[str, Any], result: Result) -> None:
    for name in ("map", "map50", "map75", "ar_100", "num_images"):
        assert summary[f"eval/{name}"] == result.metrics[name]
    for kind, gain in result.metrics["tide"]["delta_ap"].items():
        assert summary[f"eval/tide/delta_ap/{kind}"] == gain
    for name, value in result.sampling["roi/sampled"].items():
        assert summary[f"sampling_run/roi/sampled/{name}"] == value
    assert (summary["eval/segm/map"], summary["eval/segm/per_class/disc"]) == (0.25, 0.5)
    assert summary["eval/frequencies/map_rare"] == 0.125
    assert summary["cost/train_seconds"] == 1.0
    assert (summary["data/fingerprint"], summary["data/problems"]) == ("abc", 2)


def test_a_continued_run_keeps_its_identity(tmp_path: Path) -> None:
    settings = TrackerConfig()
    for iteration in (1, 2):
        with open_tracker(settings, tmp_path, {}, CHOICES) as tracker:
            tracker.log(iteration, {"train/lr": float(iteration)})
        time.sleep(1.1)  # sessions are named by the second
    rows = [records(session) for session in sessions(tmp_path)]
    assert [next(r["run"]["run_id"] for r in session if r["type"] == "run") for session in rows] == [tmp_path.name] * 2
    assert [merged(session, "history")["_step"] for session in rows] == [1, 2]


@pytest.mark.parametrize(("stop", "code"), [(Interrupted("stopped"), 255), (OSError(), 1)])
def test_a_stopped_run_is_a_whole_mirror(tmp_path: Path, stop: BaseException, code: int) -> None:
    def stopped() -> None:
        with open_tracker(TrackerConfig(), tmp_path, {}, CHOICES) as tracker:
            tracker.log(1, {"train/lr": 0.5})
            raise stop

    with pytest.raises(type(stop)):
        stopped()
    rows = read_back(tmp_path)
    assert merged(rows, "history")["train/lr"] == 0.5
    assert [row["exit"]["exit_code"] for row in rows if row["type"] == "exit"] == [code]


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("case", ["no key", "dead host", "dead host after login"])
def test_online_falls_back_to_offline(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", closed_port())
    if case != "no key":
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    if case == "dead host after login":
        monkeypatch.setattr(wandb, "login", lambda **_: True)
    started = time.monotonic()
    with (
        caplog.at_level(logging.WARNING, "harness"),
        open_tracker(TrackerConfig(mode="online", init_timeout=3), tmp_path, {}, CHOICES) as tracker,
    ):
        seconds = time.monotonic() - started
        tracker.log(1, {"train/lr": 0.5})
    assert seconds < 60  # a dead host costs 100 s without a bound; what is left is slack for a busy machine
    (line,) = (record.getMessage() for record in caplog.records if record.name == "harness")
    assert "mirrored offline" in line
    assert "\n" not in line
    assert merged(read_back(tmp_path), "history")["train/lr"] == 0.5
    assert not list((tmp_path / "wandb").glob("run-*")), "nothing is left of the attempt"


def test_a_broken_mirror_does_not_stop_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def log(self, *_: Any, **__: Any) -> None:
            raise OSError("no space left on device\nand more")

    tracker = WandbTracker(Broken(), images=1)
    with caplog.at_level(logging.WARNING, "harness"):
        for iteration in range(3):
            tracker.log(iteration, {"train/lr": 0.5})
    assert [record.getMessage() for record in caplog.records] == [
        "the W&B mirror of this run ends here (OSError: no space left on device); its folder misses nothing"
    ]


def test_no_mirror_on_request(tmp_path: Path, splits: Splits) -> None:
    with open_tracker(TrackerConfig(kind="none"), tmp_path, {}, CHOICES) as tracker:
        assert isinstance(tracker, NoTracker)
        mirror_a_run(tracker, splits)
    log_report(TrackerConfig(kind="none"), tmp_path, "report")
    assert not list(tmp_path.iterdir())


def test_the_line_of_an_error_is_the_one_that_says_something() -> None:
    """pydantic's first line only counts the errors."""
    error = ValueError("1 validation error for Settings\nentity\n  Value error, too long [type=value_error]")
    assert _first_line(error) == "entity: Value error, too long [type=value_error]"
    assert _first_line(ValueError("\n  no space left \nmore")) == "no space left"
    assert _first_line(ValueError()) == "ValueError"


def test_pictures_of_different_sizes_are_shown_at_one_size(splits: Splits) -> None:
    """W&B warns of a list of images of several sizes at every step."""

    class Mixed:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            image, target = splits.val[index]
            return image[:, : 40 + index, : 50 - index], target

    shown = list(pictures(Mixed(), to_coco(splits.val), [], 2))  # type: ignore[arg-type]
    assert {(image.image.width, image.image.height) for image in shown} == {(50, 41)}


def test_a_group_is_the_runs_that_differ_in_the_seed_alone() -> None:
    choices = {"experiment/arm": "random", "detector": "tiny_rcnn", "sampler": "random"}
    config = {"seed": 0, "sampler": {"num": 64}, "run": {"root": "a", "iterations": 9}, "tracker": {"mode": "offline"}}
    group = group_of(config, choices)
    assert group.startswith("random-tiny_rcnn-random-")
    assert group_of({**config, "seed": 1, "run": {"root": "b", "iterations": 9}}, choices) == group
    assert group_of({**config, "sampler": {"num": 32}}, choices) != group
    assert group_of({**config, "run": {"root": "a", "iterations": 10}}, choices) != group
    assert len(group_of(config, {"experiment/arm": "x" * 300})) == 128
    for preset in PRESETS:
        assert group_of(config, {preset: "chosen", "detector": "tiny_rcnn"}).startswith("chosen-tiny_rcnn-"), preset


def test_the_report_is_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>report</p>")
    (tmp_path / "summary.csv").write_text("sampler,map\nohem,0.5\nrandom,\n")
    (tmp_path / "report.md").write_text("# Report\n")
    log_report(TrackerConfig(group="sweep"), tmp_path, "report-a b: samplers?")
    rows = read_back(tmp_path)
    (run,) = (row["run"] for row in rows if row["type"] == "run")
    assert (run["job_type"], run["run_group"], run["display_name"]) == ("report", "sweep", "report-a b: samplers?")
    artifacts = [row for row in rows if "artifact" in json.dumps(row["type"]) or "artifact" in json.dumps(row)[:200]]
    text = json.dumps(artifacts)
    assert all(name in text for name in ("report.html", "summary.csv", "report.md"))
    assert '"name": "report-a_b_samplers_"' in text
    history = merged(rows, "history")
    page = sessions(tmp_path)[0] / "files" / history["report/page.path"]
    assert page.read_text() == "<p>report</p>"
    table = json.loads((sessions(tmp_path)[0] / "files" / history["report/summary.path"]).read_text())
    assert table["columns"] == ["sampler", "map"]
    assert table["data"] == [["ohem", 0.5], ["random", None]]


def test_a_report_whose_mirror_fails_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a full disk of temporary files; the sweep has its table and its page."""

    class Full:
        def log(self, values: Any) -> None:
            raise OSError(28, "No space left on device", "a.plotly.json")

    codes: list[int] = []
    monkeypatch.setattr(opening, "_open", lambda *arguments, **options: Full())
    monkeypatch.setattr(opening, "close", lambda run, code, settings: codes.append(code))
    log_report(TrackerConfig(), tmp_path, "report")
    (line,) = caplog.messages
    assert line.startswith("the W&B mirror of this report ends here (OSError: [Errno 28] No space left on device")
    assert line.endswith("; its folder misses nothing")
    assert codes == [opening.FAILED]


def test_figures_and_pictures_of_the_report_are_shown(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("# Report\n")
    packed = io.BytesIO()
    Image.new("RGB", (32, 24), "red").save(packed, "JPEG")
    drawn = partial(figure, [{"type": "scatter", "x": [1, 2], "y": [3, 4]}], "a curve")
    curve = report_parts.Figure("0/curves/loss", "a curve", drawn)
    boxes = (report_parts.Box(2, 3, 10, 8, "missed", "disc"),)
    pair = [report_parts.Picture(packed.getvalue(), 32, 24, name, boxes) for name in ("random", "ohem")]
    gallery = report_parts.Gallery("0/differing", "pairs", [("image 7", pair), ("image 8", pair[:1])])
    log_report(TrackerConfig(), tmp_path, "samplers", [curve], [gallery])
    rows = read_back(tmp_path)
    history = merged(rows, "history")
    plot = json.loads((sessions(tmp_path)[0] / "files" / history["figures/0/curves/loss.path"]).read_text())
    assert [plot["data"][0]["x"], plot["data"][0]["y"]] == [[1, 2], [3, 4]]
    artifacts = [row["artifact"] for row in rows if row["type"] == "artifact"]
    (shown,) = (artifact["manifest"]["contents"] for artifact in artifacts if artifact["type"] == "run_table")
    (staged,) = (entry["local_path"] for entry in shown if entry["path"].endswith("differing.table.json"))
    table = json.loads(Path(staged).read_text())
    assert table["columns"] == ["shown", "picture 1", "picture 2"]
    assert [row[0] for row in table["data"]] == ["image 7", "image 8"]
    assert [image["caption"] for image in table["data"][0][1:]] == ["random", "ohem"]
    assert json.dumps(table["data"]).count("missed: disc") == 3
    assert table["data"][1][2] is None


@pytest.mark.parametrize("quantity", list(EDGES))
def test_histograms_are_closed_and_rise(quantity: str) -> None:
    edges = closed_edges(quantity)
    assert len(edges) == len(EDGES[quantity]) + 2
    assert (np.diff(edges) > 0).all()
    if quantity == "iou":
        np.testing.assert_array_equal(edges, np.arange(21).astype(float).round() / 20)


@pytest.mark.slow
def test_ctrl_c_leaves_a_valid_mirror_that_is_continued(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "harness", "run=smoke", "run.iterations=100000", "run.log_every=1"),
        *("data.num_train=8", "data.num_val=4", f"run.root={tmp_path}", f"data.cache_dir={tmp_path}"),
    ]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True)
    metrics = None
    for _ in range(1200):
        metrics = next(iter(tmp_path.glob("runs/*/metrics.jsonl")), None)
        if metrics is not None and len(metrics.read_text().splitlines()) >= 3:
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to every process of the group
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert metrics is not None
    rows = read_back(metrics.parent)
    assert [row["exit"]["exit_code"] for row in rows if row["type"] == "exit"] == [255]
    steps = [row["history"]["item"]["_step"] for row in rows if row["type"] == "history"]
    assert steps == [json.loads(line)["iteration"] for line in metrics.read_text().splitlines()]


def test_a_mirror_that_does_not_finish_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    from harness.tracking import closing

    given_up, ended = threading.Event(), threading.Event()

    class Stuck:
        def finish(self, exit_code: int) -> None:
            given_up.wait(60)
            ended.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closing, "AFTER_KILL_SECONDS", 0.01)
        patch.setattr(closing, "_kill_service", lambda: None)
        closing.finish(Stuck(), 0, 0.05)
    assert not ended.is_set()
    given_up.set()
    assert "W&B did not finish within 0.05 s" in caplog.text


def test_a_service_that_misses_its_end_is_killed() -> None:
    """W&B waits for it without a bound, and then exits with its code."""
    from harness.tracking import closing

    killed = threading.Event()

    class Service:
        def kill(self) -> None:
            killed.set()

    def teardown() -> None:
        assert killed.wait(60)
        raise SystemExit(128)

    with pytest.MonkeyPatch.context() as patch:  # undone before the fixture's own teardown
        patch.setattr(closing, "_service", Service)
        patch.setattr(wandb, "teardown", teardown)
        closing.end_attempt(0.05)
    assert killed.is_set()
    assert "wandb-teardown" not in [thread.name for thread in threading.enumerate()]


def test_the_service_of_w_and_b_is_found() -> None:
    from harness.tracking import closing

    run = wandb.init(mode="offline", settings=wandb.Settings(silent=True))
    try:
        service = closing._service()
        assert service is not None
        assert service.poll() is None
    finally:
        run.finish()
        closing.end_attempt()
    assert service.poll() is not None
