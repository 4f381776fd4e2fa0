from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.checks import box_problem, check_split
from harness.data.columns import columns
from harness.data.dataset import DetectionDataset
from harness.data.images import FileImages
from harness.data.probing import Probe
from harness.data.records import Box, ImageRecord, ObjectRecord, Parsed
from tests.data.conftest import write_image

side = st.one_of(
    st.floats(-30, 90, width=64),
    st.sampled_from([0.0, 40.0, 60.0, 59.9999999999, 60.0000001, -1e-12, float("nan"), float("inf"), -float("inf")]),
)


@settings(max_examples=60, deadline=None)
@given(boxes=st.lists(st.tuples(side, side, side, side), max_size=6))
def test_degenerate_boxes_never_come_out(tmp_path_factory, boxes: list[tuple[float, float, float, float]]) -> None:  # type: ignore[no-untyped-def]
    path = Path(tmp_path_factory.getbasetemp()) / "image.png"
    if not path.exists():
        write_image(path, 60, 40)
    objects = tuple(ObjectRecord(index, Box(*box), box, "cat") for index, box in enumerate(boxes))
    record = ImageRecord(0, 0, path.name, path, "notes.json", 60, 40, objects)
    checked = check_split(Parsed("train", (record,)), ["cat"], [Probe(60, 40)])
    dataset = DetectionDataset(columns(checked.images, ["cat"]), FileImages([str(path)]), ["cat"])
    found = dataset[0][1]["boxes"]
    assert torch.isfinite(found).all()
    assert (found[:, 2:] > found[:, :2]).all()
    assert (found >= 0).all()
    assert (found <= torch.tensor([60.0, 40.0, 60.0, 40.0])).all()
    dropped = [problem for problem in checked.problems if problem.outcome == "dropped"]
    assert len(found) + len(dropped) == len(boxes)


def test_box_problem() -> None:
    assert box_problem(Box(0, 0, 60, 40), 60, 40) is None
    assert box_problem(Box(-0.5, 0, 60.5, 40), 60, 40) is None
    assert box_problem(Box(59, 39, 60, 40), 60, 40) is None
    assert box_problem(Box(5, 5, 4, 9), 60, 40) == "box is inverted"
    assert box_problem(Box(5, 5, 5, 9), 60, 40) == "box has zero area"
    assert box_problem(Box(5, 5, np.nextafter(5, 6), 9), 60, 40) == "box has zero area"  # only in float32
    assert box_problem(Box(float("nan"), 5, 6, 9), 60, 40) == "box is not finite"
    assert "outside" in str(box_problem(Box(60, 5, 66, 9), 60, 40))
    assert "outside" in str(box_problem(Box(-9, 5, 0, 9), 60, 40))
