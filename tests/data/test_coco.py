import json
from pathlib import Path
from typing import Any

import pytest

from harness.data.export import to_coco
from harness.data.records import DataError
from harness.data.sources.coco import coco
from harness.data.splits import Splits
from tests.data.conftest import WriteCoco

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 0, "name": "cat"}, {"id": 90, "name": "bird"}]


def note(key: int | str, image: int | str, category: int | str, *bbox: float, **more: Any) -> dict[str, Any]:
    return {"id": key, "image_id": image, "category_id": category, "bbox": list(bbox), "iscrowd": 0, **more}


def load(root: Path, **options: Any) -> Splits:
    paths = {f"{split}_annotations": f"{split}.json" for split in ("train", "val")}
    images = {f"{split}_images": split for split in ("train", "val")}
    return coco(str(root), **{**paths, **images, **options})


TRAIN = {
    "images": {42: (60, 40), 5: (30, 50), 1000: (20, 20)},
    "annotations": [
        note(900, 5, 7, 1, 2, 10, 20, area=55.5),
        note(12, 42, 0, 5, 5, 30, 10),
        note(13, 42, 90, 0, 0, 60, 40, iscrowd=1, segmentation={"counts": [], "size": [40, 60]}),
    ],
    "categories": CATEGORIES,
}
VAL = {"images": {1: (60, 40)}, "annotations": [note(1, 1, 0, 5, 5, 30, 10)], "categories": CATEGORIES}


def test_ids_crowds_areas_and_empty_images(write_coco: WriteCoco) -> None:
    splits = load(write_coco(train=TRAIN, val=VAL))
    assert splits.classes == ("cat", "dog", "bird")  # by ascending id
    assert splits.train.category_ids == (0, 7, 90)
    targets = [splits.train[index][1] for index in range(3)]
    assert [int(target["image_id"]) for target in targets] == [42, 5, 1000]
    assert targets[0]["boxes"].tolist() == [[5, 5, 35, 15], [0, 0, 60, 40]]
    assert targets[0]["labels"].tolist() == [1, 3]
    assert targets[0]["iscrowd"].tolist() == [0, 1]
    assert targets[0]["area"].tolist() == [300, 2400]
    assert targets[1]["area"].tolist() == [55.5]
    assert tuple(targets[2]["boxes"].shape) == (0, 4)
    assert splits.train[1][0].shape == (3, 50, 30)


def test_string_ids(write_coco: WriteCoco) -> None:
    categories = [{"id": "c", "name": "cat"}, {"id": "d", "name": "dog"}]
    images = {"x": (60, 40), "y": (60, 40)}
    content = {"images": images, "annotations": [note("n1", "y", "d", 0, 0, 9, 9)], "categories": categories}
    splits = load(write_coco(train=content), val_ratio=0.5)
    both = {split.annotations.source_ids[0]: split for split in (splits.train, splits.val)}
    assert set(both) == {"x", "y"}
    assert both["y"][0][1]["labels"].tolist() == [2]
    assert int(both["x"][0][1]["image_id"]) != int(both["y"][0][1]["image_id"])
    exported = to_coco(both["y"])
    assert exported["images"][0]["source_id"] == "y"
    assert [category["source_id"] for category in exported["categories"]] == ["c", "d"]


def test_export_gives_the_annotations_back(write_coco: WriteCoco) -> None:
    exported = to_coco(load(write_coco(train=TRAIN, val=VAL)).train)
    assert [image["id"] for image in exported["images"]] == [42, 5, 1000]
    assert exported["images"][1] == {"id": 5, "file_name": "5.jpg", "width": 30, "height": 50, "source_id": 5}
    first, crowd, last = exported["annotations"]
    assert first == {
        "id": 1,
        "image_id": 42,
        "category_id": 1,
        "bbox": [5, 5, 30, 10],
        "area": 300,
        "iscrowd": 0,
        "difficult": 0,
    }
    assert (crowd["iscrowd"], crowd["category_id"]) == (1, 3)
    assert (last["area"], last["bbox"], last["image_id"]) == (55.5, [1, 2, 10, 20], 5)
    assert exported["categories"][2] == {"id": 3, "name": "bird", "source_id": 90}
    json.dumps(exported)


def test_pycocotools_reads_the_export(write_coco: WriteCoco, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    exported = to_coco(load(write_coco(train=TRAIN, val=VAL)).train)
    truth = COCO()
    truth.dataset = exported
    truth.createIndex()
    perfect = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in exported["annotations"]
        if not a["iscrowd"]
    ]
    evaluation = COCOeval(truth, truth.loadRes(perfect), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_boxes_a_rounding_over_the_edge_are_cut_for_training_only(write_coco: WriteCoco) -> None:
    content = {**VAL, "annotations": [note(1, 1, 0, 50.2, 5, 10.6, 10)]}
    splits = load(write_coco(train=TRAIN, val=content))
    assert not splits.problems
    assert splits.val[0][1]["boxes"][0].tolist() == pytest.approx([50.2, 5, 60, 15])
    assert to_coco(splits.val)["annotations"][0]["bbox"] == pytest.approx([50.2, 5, 10.6, 10])


PROBLEMS = {
    "zero": ([note(1, 1, 0, 5, 5, 0, 10)], "train.json, object 1: box has zero area [5, 5, 0, 10]"),
    "negative": ([note(1, 1, 0, 5, 5, -3, 10)], "train.json, object 1: box is inverted [5, 5, -3, 10]"),
    "infinite": ([note(1, 1, 0, 5, 5, float("inf"), 10)], "train.json, object 1: box is not finite [5, 5, inf, 10]"),
    "float32": ([note(1, 1, 0, 59.99999999, 5, 1e-9, 9)], "train.json, object 1: box has zero area"),
    "category": ([note(1, 1, 5, 5, 5, 5, 5)], "train.json, object 1: unknown class, category_id 5 (valid: 0, 7, 90)"),
    "image": ([note(1, 99, 0, 5, 5, 5, 5)], "train.json, object 1: unknown image_id 99"),
    "twice": (
        [note(1, 1, 0, 5, 5, 5, 5), note(1, 1, 0, 9, 9, 5, 5)],
        "train.json, object 1: annotation id is there twice",
    ),
    "bbox": ([note(1, 1, 0, 5, 5, 5)], "train.json, object 1: bbox [5, 5, 5] (valid: [x, y, width, height])"),
    "text": ([note(1, 1, 0, 5, 5, 5, "a")], "train.json, object 1: bbox [5, 5, 5, 'a']"),  # type: ignore[arg-type]
    "none": ([{"id": 3, "image_id": 1, "category_id": 0}], "train.json, object 3: bbox None"),
    "area": ([note(1, 1, 0, 5, 5, 5, 5, area=-1)], "train.json, object 1: area -1 (valid: 0 or more)"),
    "noid": ([{"image_id": 1, "category_id": 0, "bbox": [1, 1, 2, 2]}], "train.json: annotations[0] has no id"),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_every_problem_is_named_with_file_and_object(write_coco: WriteCoco, kind: str) -> None:
    annotations, message = PROBLEMS[kind]
    root = write_coco(train={**VAL, "annotations": annotations}, val=VAL)
    with pytest.raises(DataError) as caught:
        load(root)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    splits = load(root, on_bad="drop")
    assert [str(problem).startswith(message) for problem in splits.problems] == [True]
    assert len(splits.train[0][1]["boxes"]) == {"twice": 1, "area": 1}.get(kind, 0)


def test_problems_of_a_shared_file_are_named_once(write_coco: WriteCoco) -> None:
    images = dict.fromkeys(range(4), (60, 40))
    content = {"images": images, "annotations": [note(1, 99, 0, 5, 5, 5, 5)], "categories": CATEGORIES}
    assert len(load(write_coco(train=content), val_ratio=0.5, on_bad="drop").problems) == 1


def test_an_image_id_twice(write_coco: WriteCoco) -> None:
    root = write_coco(train=TRAIN, val=VAL)
    content = json.loads((root / "train.json").read_text())
    content["images"].append(content["images"][0])
    (root / "train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"train.json: image 42 is listed 2 times"):
        load(root)
    assert len(load(root, on_bad="drop").train) == 3


def test_broken_files_are_refused_in_one_line(write_coco: WriteCoco, tmp_path: Path) -> None:
    root = write_coco(train=TRAIN, val=VAL)
    good = (root / "val.json").read_text()
    cases = {
        good[:-20]: "val.json is not readable JSON",
        "[" * 100_000: "val.json is not readable JSON .its values are nested too deeply",
        "[]": "val.json has no list of objects 'images'",
        '{"images": [], "annotations": {}}': "val.json has no list of objects 'annotations'",
        '{"images": [], "annotations": [], "categories": []}': "val.json: no categories",
        '{"images": [], "annotations": [], "categories": [{"id": 1}]}': r"categories\[0\] has no id or no name",
        '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}': "val.json: the split is empty",
        '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}': "twice",
    }
    for text, message in cases.items():
        (root / "val.json").write_text(text)
        with pytest.raises(DataError, match=message) as caught:
            load(root)
        assert "\n" not in str(caught.value)
    (root / "val.json").write_text(good)
    with pytest.raises(DataError, match=r"val_annotations: .*gone.json is missing; there: train.json, val.json$"):
        load(root, val_annotations="gone.json")
    with pytest.raises(DataError, match=r"images of train.json: .*gone is not a folder"):
        load(root, train_images="gone")
    with pytest.raises(DataError, match=r"root: .*gone is not a folder"):
        coco(str(tmp_path / "gone"))
    with pytest.raises(DataError, match="classes: 'fish' is not a category; valid: cat, dog, bird"):
        load(root, classes=["fish"])


def test_classes_of_another_file_are_left_out_by_its_name_and_a_split_of_them_alone_is_refused(
    write_coco: WriteCoco,
) -> None:
    """Two exports of one project may number or name their categories differently: its mAP would be that of nothing."""
    fish = {**VAL, "categories": [*CATEGORIES, {"id": 8, "name": "fish"}]}
    both = {**fish, "annotations": [note(1, 1, 8, 5, 5, 30, 10), *VAL["annotations"][1:], note(2, 1, 7, 1, 1, 9, 9)]}
    splits = load(write_coco(train=TRAIN, val=both))
    assert "left out, as train.json does not list them: 1 objects of fish (1)" in splits.notes
    alone = {**fish, "annotations": [note(1, 1, 8, 5, 5, 30, 10)]}
    says = (
        r"^val split of val\.json: none of its 1 objects is of a class that train\.json lists: they are of fish \(1\); "
    )
    with pytest.raises(DataError, match=says + "the classes: cat, dog, bird$"):
        load(write_coco(train=TRAIN, val=alone))
    with pytest.raises(DataError, match=r"none of its 1 objects is of a class that data\.classes lists"):
        load(write_coco(train=TRAIN, val=VAL), classes=["dog"])
    assert len(load(write_coco(train=TRAIN, val={**VAL, "annotations": []})).val) == 1


def test_a_class_whose_name_no_file_could_hold_is_refused(write_coco: WriteCoco) -> None:
    half = [{"id": 0, "name": "\ud800cat"}, *CATEGORIES[:1]]
    with pytest.raises(DataError, match=r"^classes: name='\\ud800cat' must be a text that UTF-8 can hold$"):
        load(write_coco(train={**TRAIN, "categories": half}, val={**VAL, "categories": half}))


def test_a_choice_of_classes_leaves_the_others_out(write_coco: WriteCoco) -> None:
    root = write_coco(train=TRAIN, val=VAL)
    splits = load(root, classes=["dog", "bird"], val_annotations="train.json", val_images="train")
    assert splits.train[1][1]["labels"].tolist() == [1]
    assert splits.train.category_ids == (7, 90)
    assert splits.problems == ()
    assert "left out, as data.classes does not list them: 2 objects of cat (2)" in splits.notes
