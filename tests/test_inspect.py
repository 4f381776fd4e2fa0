"""The sheets are written, what they show is the run's own selection, and problems are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness.core.boxes import pairwise_iou
from harness.data.export import to_coco
from harness.evaluation.tide import classify_errors
from harness.inspect import drawing
from harness.inspect.capture import NEAR, of_object, selections, training_images
from harness.inspect.command import main
from harness.inspect.data_sheet import data_sheet
from harness.inspect.errors import by_image
from harness.inspect.setting import Setting, composed, of_folder, splits_of
from harness.runs.records import read_json
from harness.runs.schema import ConfigError
from tests.test_tracking import detections_of


@pytest.fixture(autouse=True)
def one_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "scenes"))


def overrides(root: Path, *more: str) -> list[str]:
    return ["run=smoke", "data.num_train=8", "data.num_val=4", f"run.root={root}", "tracker=none", *more]


def is_legible(path: Path) -> None:
    """A picture of some size with many colours, not an empty canvas."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) >= 250
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*")}


def test_sheets_of_a_run_that_has_not_been(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["analysis.shadow=[ohem,iou_balanced]", f"out={tmp_path / 'here'}", "--images", "1"]
    assert main(overrides(tmp_path, *more)) == 0
    expected = {f"{kind}_{stage}.png" for kind in ("targets", "samples") for stage in ("rpn", "roi")}
    assert names(tmp_path / "here") == {*expected, "data.png"}
    for name in names(tmp_path / "here"):
        is_legible(tmp_path / "here" / name)
    said = capsys.readouterr().out
    assert "train: 8 images (0 without objects)" in said
    assert "problems in the annotations: none" in said
    assert "fresh weights" in said
    assert "no sheet of errors" in said
    assert names(tmp_path) == {"here"}, "looking leaves no run folder behind"


def finished_run(tmp_path: Path, setting: Setting) -> Path:
    """A run folder with a checkpoint and detections, without training."""
    from omegaconf import OmegaConf

    splits = splits_of(setting)
    folder = setting.run_folder(splits)
    folder.mkdir(parents=True)
    plain = OmegaConf.to_container(setting.config, resolve=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml({**plain, "choices": setting.choices}))  # type: ignore[dict-item]
    (folder / "status.json").write_text(json.dumps({"state": "done"}))
    (folder / "detections.json").write_text(json.dumps(detections_of(to_coco(splits.val))))
    return folder


def test_sheets_of_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting = composed(overrides(tmp_path, "sampler=iou_balanced"))
    folder = finished_run(tmp_path, setting)
    assert main([str(folder), "--images", "1"]) == 0
    assert names(folder / "inspect") >= {"data.png", "errors.png", "samples_roi.png"}
    is_legible(folder / "inspect" / "errors.png")
    again = of_folder(folder)
    assert again.choices == setting.choices
    assert again.config == setting.config
    assert composed(overrides(tmp_path, "sampler=iou_balanced")).run_folder(splits_of(again)) == folder
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("detector", ["tiny_rcnn", "tiny_fcos"])
def test_what_is_shown_is_what_was_selected(detector: str, tmp_path: Path) -> None:
    setting = composed(
        overrides(tmp_path, f"detector={detector}", "analysis.shadow=[random]", "augment@data.augment=none")
    )
    splits = splits_of(setting)
    samples = training_images(splits, setting, 3)
    seen = selections(setting, splits, samples, None)
    root = "dense" if detector == "tiny_fcos" else "roi"
    assert set(seen) == ({"dense"} if root == "dense" else {"rpn", "roi"})
    for images in seen.values():
        for one, (image, target) in zip(images, samples, strict=True):
            np.testing.assert_allclose(one.image, image.permute(1, 2, 0) / 255, atol=0.01)
            np.testing.assert_allclose(one.objects, target["boxes"], atol=1e-3)
            assert one.names == [splits.classes[int(label) - 1] for label in target["labels"]]
            iou = pairwise_iou(torch.from_numpy(one.objects), torch.from_numpy(one.boxes)).numpy()
            np.testing.assert_allclose(one.iou, iou, atol=1e-5)
            np.testing.assert_allclose(one.max_iou, iou.max(0), atol=1e-5)
            for taken in one.taken.values():
                assert len(set(taken.index)) == len(taken.index)
                np.testing.assert_array_equal(one.gt_index[taken.index] >= 0, taken.positive)
                assert (one.gt_index[taken.index] >= -1).all()
            check_neighbours(one)
    names_of = list(seen[root][0].taken)
    assert names_of == [setting.choices["sampler"], "random (shadow)"]
    assert seen[root][0].points == (root == "dense")


def check_neighbours(one: Any) -> None:
    for number, corners in enumerate(one.objects):
        groups = of_object(one, number)
        assert {int(i) for i in groups["positive"]} == {i for i, g in enumerate(one.gt_index) if g == number}
        for kind, code in (("negative", -1), ("ignored", -2)):
            near = set()
            for i, (x1, y1, x2, y2) in enumerate(one.boxes):
                x, y = (x1 + x2) / 2, (y1 + y2) / 2
                inside = corners[0] <= x <= corners[2] and corners[1] <= y <= corners[3]
                if one.gt_index[i] == code and (inside if one.points else one.iou[number, i] >= NEAR):
                    near.add(i)
            assert set(groups[kind].tolist()) == near
            assert (np.diff(one.iou[number][groups[kind]]) <= 0).all()


def coco_with_problems(root: Path) -> None:
    """Two images; one box without area, one of an object that sticks out."""
    (root / "images").mkdir(parents=True)
    for number in (1, 2):
        Image.fromarray(np.full((64, 64, 3), 90 * number, np.uint8)).save(root / "images" / f"{number}.png")
    boxes = [[10, 10, 20, 20], [5, 5, 0, 9], [40, 40, 60, 10]]
    for split, ids in (("train", [1]), ("val", [2])):
        value = {
            "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in ids],
            "categories": [{"id": 7, "name": "cell"}],
            "annotations": [
                {"id": k, "image_id": ids[0], "category_id": 7, "bbox": box, "area": 1, "iscrowd": int(k == 0)}
                for k, box in enumerate(boxes)
            ],
        }
        (root / f"{split}.json").write_text(json.dumps(value))


def test_every_problem_is_named_and_does_not_stop_the_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco_with_problems(tmp_path / "data")
    data = ["data=coco", f"data.root={tmp_path / 'data'}", "data.train_images=images", "data.val_images=images"]
    data += ["data.train_annotations=train.json", "data.val_annotations=val.json", f"run.root={tmp_path}"]
    assert main([*data, "--images", "1"]) == 0
    said = capsys.readouterr().out
    assert "problems in the annotations: 4" in said
    for split in ("train", "val"):
        assert f"{split}.json, object 1: box has zero area" in said
        assert f"{split}.json, object 2: box reaches 36 px over the edge" in said
    assert "train: 1 images (0 without objects), 1 objects, 1 ignored" in said
    is_legible(tmp_path / "inspect" / "data.png")
    assert (tmp_path / "inspect" / "targets_roi.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["sampler=nonesuch"], "nonesuch"),
        (["sampler.num=-1"], "num"),
        (["data=voc", "data.root=/nowhere"], "/nowhere"),
        (["analysis.shadow=[nonesuch]"], "there is no sampler 'nonesuch'"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(overrides(tmp_path, *arguments) if "data=voc" not in arguments else arguments) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("harness: ")
    assert line in error


def test_a_run_folder_without_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        of_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "detections.json")


def test_options_stand_anywhere_between_the_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = overrides(tmp_path, "sampler=nonesuch")
    assert main([first, "--images", "1", *rest]) == 2
    assert "nonesuch" in capsys.readouterr().err, "the last override was heard"


@pytest.mark.parametrize("option", ["--score=nan", "--score=1.5", "--images=0", "--images=1000"])
def test_options_out_of_range(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([option])
    assert end.value.code == 2
    assert "is not valid: " in capsys.readouterr().err


def test_a_folder_that_takes_no_sheets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").touch()
    assert main(overrides(tmp_path, f"out={tmp_path / 'taken' / 'sheets'}")) == 2
    way = f"{tmp_path / 'taken'} is in the way: it is not a folder; out=FOLDER writes the sheets somewhere else"
    assert capsys.readouterr().err == f"harness: {way}\n"


def test_what_is_no_run_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "config.yaml").write_text("x: [\n")
    for folder, said in {
        tmp_path: f"it has no config.yaml; its runs are in {tmp_path / 'runs'}: a",
        tmp_path / "nowhere": "it has no config.yaml",
        tmp_path / "runs" / "a": "config.yaml cannot be read",
    }.items():
        assert main([str(folder)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"harness: {folder}")
        assert said in line


@pytest.mark.parametrize("target", ["os.system", "torch.load", "harness.runs.folder.settle"])
def test_a_strangers_run_names_only_options_of_conf(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(f"data: {{_target_: {target}}}\nsampler: {{_target_: mine.Sampler}}\n")
    assert main([str(tmp_path)]) == 2
    assert f"data._target_='{target}' is no option of conf/; --trust" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"sampler\._target_='mine.Sampler' .* --trust mine accepts it"):
        of_folder(tmp_path, [target.rpartition(".")[0]])


def test_the_worst_images_are_shown_first() -> None:
    images = [{"id": k, "file_name": f"{k}.png"} for k in range(3)]
    objects = [{"image_id": k, "category_id": 1, "bbox": [10, 10, 20, 20], "id": k} for k in range(3)]
    annotations = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "a"}]}
    right = {"image_id": 0, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}
    far = {"image_id": 2, "category_id": 1, "bbox": [60, 60, 9, 9], "score": 0.8}
    shown = [right, far]
    found = by_image(annotations, shown, classify_errors(annotations, shown))
    assert [one.badness for one in found] == [0.0, 1.0, pytest.approx(1.8)]
    assert (found[2].wrong, found[2].missed) == ([1], [2])


def test_labels_do_not_cover_each_other() -> None:
    _, axes = drawing.figure(1, 1, "")
    place = axes[0, 0]
    drawing.show(place, np.zeros((100, 100, 3)))
    labels = drawing.Labels(place)
    for _ in range(40):
        labels.add((30, 30, 60, 60), "cat 0.95", drawing.Pen(drawing.BLUE))
    boxes = labels._taken
    assert labels.left_out == 40 - len(boxes) > 0
    assert len(boxes) >= 5
    for k, a in enumerate(boxes):
        assert all(a[3] <= b[1] or b[3] <= a[1] or a[2] <= b[0] or b[2] <= a[0] for b in boxes[:k])


@pytest.mark.parametrize(
    ("name", "drawn"),
    [("us_$1_bill", "us_$1_bill"), ("a\nb\tc", "a b c"), ("猫x", "[U+732B]x"), ("$\\frac{", "$\\frac{")],
)
def test_any_class_name_can_be_drawn(name: str, drawn: str, tmp_path: Path) -> None:
    assert drawing.plain(name) == drawn
    sheet, axes = drawing.figure(1, 1, "")
    drawing.show(axes[0, 0], np.zeros((100, 100, 3)), f"{name}: 1 object")
    drawing.Labels(axes[0, 0]).add((30, 30, 60, 60), name, drawing.Pen(drawing.BLUE))
    drawing.save(sheet, tmp_path / "a.png")


def test_masks_and_keypoints_are_drawn_where_they_are(tmp_path: Path) -> None:
    """The sheet differs from the one without them inside the mask and at the keypoint, and nowhere else."""
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[0, 8:24, 8:56] = 1
    boxes = {"boxes": torch.tensor([[8.0, 8, 56, 24]]), "labels": torch.tensor([1]), "iscrowd": torch.tensor([0])}
    plain = {**boxes, "image_id": torch.tensor(7)}
    targets = {
        "boxes": plain,
        "masks": {**plain, "masks": mask},
        "keypoints": {**plain, "keypoints": torch.tensor([[[50.0, 50.0, 2.0], [20.0, 50.0, 0.0]]])},
        "unlabeled": {**plain, "keypoints": torch.zeros(1, 2, 3)},
    }
    image, pixels = torch.full((3, 64, 64), 128, dtype=torch.uint8), {}
    for name, target in targets.items():
        path = data_sheet([(image, target)], ["disc"], tmp_path / f"{name}.png", {7: "a"})
        with Image.open(path) as drawn:
            pixels[name] = np.asarray(drawn.convert("RGB")).astype(int)

    def changed(name: str, other: str) -> tuple[float, float, float, float]:
        gray = abs(pixels[other] - 128).max(-1) < 3  # where nothing was drawn; letters have a few such pixels, too
        inside = [(gray.sum(axis) > 50).nonzero()[0] for axis in (0, 1)]
        found = (abs(pixels[name] - pixels[other]).max(-1) > 20).nonzero()[::-1]
        x, y = ((at - own[0]) / (own[-1] + 1 - own[0]) * 64 for at, own in zip(found, inside, strict=True))
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    assert changed("masks", "boxes") == pytest.approx((8, 8, 56, 24), abs=1)
    x1, y1, x2, y2 = changed("keypoints", "unlabeled")
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((50, 50), abs=1)
