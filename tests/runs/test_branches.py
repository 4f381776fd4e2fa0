"""Whole runs of detectors of masks and keypoints: trained, evaluated by their own AP, refused on data without."""

from __future__ import annotations

import pytest
from omegaconf import open_dict

from harness.app.run_end import Stopped
from harness.app.runner import check
from harness.runs.records import read_json
from harness.runs.schema import folder
from tests.runs.conftest import Composed, Trained

FULL = ("run.iterations=2", "detector.min_size=64", "detector.max_size=64", "data.num_train=4", "data.num_val=2")


@pytest.mark.parametrize(
    ("detector", "data", "part"),
    [
        ("tiny_maskrcnn", "voc.voc", "masks"),
        ("tiny_keypointrcnn", "voc.voc", "keypoints"),
        ("tiny_keypointrcnn", "yolo.yolo", "keypoints"),
        ("tiny_keypointrcnn", "lvis.lvis", "keypoints"),
    ],
)
def test_data_without_the_part_are_refused_before_they_are_read(
    composed: Composed, detector: str, data: str, part: str
) -> None:
    config = composed(f"detector={detector}", "mode=check")
    with open_dict(config):
        config.data = {"_target_": f"harness.data.sources.{data}", "root": "/nowhere", "augment": None}
    with pytest.raises(Stopped, match=f"trains on {part}, and the data have none; choose a detector of boxes alone"):
        check(config, [str(folder("conf"))])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector", "branch"), [("maskrcnn_resnet50_fpn", "segm"), ("keypointrcnn_resnet50_fpn", "keypoints")]
)
def test_full_size_takes_two_steps(trained: Trained, detector: str, branch: str) -> None:
    own = ["detector.num_keypoints=5"] if branch == "keypoints" else []
    result = read_json(trained(f"detector={detector}", *FULL, *own) / "result.json")
    assert 0 <= result["metrics"][branch]["map"] <= 1


@pytest.mark.slow
def test_masks_are_learned_in_one_epoch(trained: Trained) -> None:
    """Of 400 of the embedded data's training images (it has 2,000)."""
    more = ["data.num_train=400", "data.num_val=40", "data.image_size=128", "detector.min_size=128"]
    result = read_json(trained("detector=tiny_maskrcnn", *more, "run.epochs=1", "run.batch_size=4") / "result.json")
    assert result["metrics"]["segm"]["map"] > 0
