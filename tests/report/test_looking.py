"""Pictures in the report: which images are shown, what is drawn on them, and one line where they cannot be read."""

import io
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from harness.data.export import to_coco
from harness.data.sources.shapes import shapes
from harness.report.build import Options, build_report
from harness.report.command import main
from harness.report.evidence import gather
from harness.report.folders import find_folders
from tests.report.folders import write_run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    settings = {"num_train": 4, "num_val": 6, "draw_seed": 3, "cache_dir": str(tmp_path_factory.mktemp("cache"))}
    return settings, shapes(**settings, augment=None)


def _run(root, chosen, data, predict):
    """A run on real drawn data whose detections are ``predict(image, objects)``."""
    settings, splits = data
    node = {"_target_": "harness.data.sources.shapes.shapes", **settings}
    folder = write_run(root, chosen, 0, 0.5, heavy=False, fingerprint=splits.fingerprint, data=node)
    truth = to_coco(splits.val)
    detections = [
        {"image_id": image["id"], "category_id": category, "bbox": box, "score": score}
        for i, image in enumerate(truth["images"])
        for category, box, score in predict(i, [a for a in truth["annotations"] if a["image_id"] == image["id"]])
    ]
    (folder / "detections.json").write_text(json.dumps(detections))
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"{splits.fingerprint}.json").write_text(json.dumps(truth))
    return folder


def _all(image, objects):
    return [(row["category_id"], row["bbox"], 0.9) for row in objects]


def _without_image_2(image, objects):
    return [] if image == 2 else _all(image, objects)


@pytest.fixture
def pair(tmp_path, data):
    _run(tmp_path, "random", data, _without_image_2)
    _run(tmp_path, "ohem", data, _all)
    return tmp_path


def _look(root, pictures=4):
    (evidence,) = gather(build_report(find_folders(root), Options()), pictures)
    return evidence.look


def test_the_image_on_which_the_methods_differ_is_shown_as_a_pair(pair, data):
    look = _look(pair)
    assert look.notes == ()
    differing = next(gallery for gallery in look.galleries if gallery.key.endswith("differing"))
    ((told, (baseline, other)),) = differing.rows
    objects = to_coco(data[1].val)["annotations"]
    image_id = data[1].val.annotations.ids[2]
    count = sum(row["image_id"] == image_id for row in objects)
    assert f"ohem makes {count} errors fewer" in told
    assert (baseline.title, other.title) == (f"random: {count} errors", "ohem: 0 errors")
    assert {box.kind for box in baseline.boxes} == {"missed"}
    assert sorted(box.kind for box in other.boxes) == ["found"] * count + ["object"] * count
    shown = np.asarray(Image.open(io.BytesIO(baseline.jpeg)), float)
    true = data[1].val.images[2].permute(1, 2, 0).numpy().astype(float)
    assert np.abs(shown - true).mean() < 12  # JPEG


def test_the_page_has_each_image_once_and_the_matrix(pair):
    assert main([str(pair), "--pictures", "2"]) == 0
    page = (pair / "report" / "report.html").read_text()
    assert page.count('id="picture-0"') == 1
    assert page.count('href="#picture-0"') == 2
    assert "Confusion matrix: random" in page
    assert "Images on which two methods differ most" in page


def test_pictures_are_not_read_where_none_are_asked_for(pair):
    assert main([str(pair), "--pictures", "0"]) == 0
    assert "Confusion matrix" not in (pair / "report" / "report.html").read_text()


def _no_right_detection(pair, data):
    for folder in (pair / "runs").glob("*ohem*"):
        (folder / "detections.json").write_text("[]")


def _no_detections(pair, data):
    for folder in (pair / "runs").glob("*ohem*"):
        (folder / "detections.json").unlink()


def _other_data(pair, data):
    _changed(pair, num_val=5)


def _no_data(pair, data):
    _changed(pair, _target_="harness.data.sources.voc.voc", root=str(pair / "nowhere"))


def _foreign_code(pair, data):
    _changed(pair, _target_="builtins.open", file=str(pair / "written"), mode="w")


def _changed(pair, **changed):
    for folder in (pair / "runs").iterdir():
        config = yaml.safe_load((folder / "config.yaml").read_text())
        node = changed if "file" in changed else {**config["data"], **changed}
        (folder / "config.yaml").write_text(yaml.safe_dump({**config, "data": node}, sort_keys=False))


FAULTS = {
    "No confusion matrix and no pictures: ohem has no right detection with seed 0.": _no_right_detection,
    "No confusion matrix and no pictures: incomplete: no detections.json.": _no_detections,
    "No pictures: the data have changed since the runs.": _other_data,
    "No pictures: the data cannot be read (": _no_data,
    "No pictures: data._target_=builtins.open is none of the harness's data sources.": _foreign_code,
}


@pytest.mark.parametrize("line", FAULTS)
def test_what_cannot_be_shown_is_one_line(pair, data, line):
    FAULTS[line](pair, data)
    (note,) = _look(pair).notes
    assert note.startswith(line)
    assert "\n" not in note
    assert not (pair / "written").exists()
    assert main([str(pair)]) == 0
