"""Which scores an assigner sees where a head has a branch beside its classes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.assigners.building_blocks.usable_predictions import read_predictions
from harness.assigners.simota import SimOTAAssigner
from harness.assigners.task_aligned import TaskAlignedAssigner
from harness.coders import DeltaCoder
from harness.core.structures import Activation, Candidates, Predictions
from harness.criterion.heads import Geometry, HeadSpec, Outputs
from harness.losses.classification.focal import FocalLoss
from harness.losses.terms import Branch
from harness.testing.assignment_scenes import scene


def head(branch: Branch) -> HeadSpec:
    return HeadSpec(
        stage="dense",
        num_classes=3,
        columns=3,
        first_column=0,
        background=None,
        activation=Activation.SIGMOID,
        geometry=Geometry.ANCHORS,
        coder=DeltaCoder((1.0, 1.0, 1.0, 1.0)),
        branch=branch,
    )


@pytest.mark.parametrize("branch", Branch)
def test_the_class_alone_and_with_its_branch(branch: Branch) -> None:
    logits, deltas, of_branch = torch.randn(2, 5, 3), torch.zeros(2, 5, 4), torch.randn(2, 5)
    boxes = torch.tensor([0.0, 0.0, 8.0, 8.0]).expand(2, 5, 4)
    outputs = Outputs(logits, deltas, None if branch is Branch.NONE else of_branch)
    found = head(branch).predictions(outputs, boxes, FocalLoss())
    classes, factor = logits.sigmoid(), of_branch.sigmoid().unsqueeze(-1)
    if branch is Branch.NONE:
        torch.testing.assert_close(found.scores, classes)
        assert found.class_scores is None
        return
    torch.testing.assert_close(found.scores, (classes * factor).sqrt())
    # An objectness branch learns the background in the place of the classes.
    alone = classes * factor if branch is Branch.OBJECTNESS else classes
    torch.testing.assert_close(found.class_scores, alone)


def test_each_assigner_reads_the_scores_of_its_reference() -> None:
    truth, candidates = scene(3, objects=4)
    predictions = candidates.predictions_for("the test")
    other = torch.rand(predictions.scores.shape, generator=torch.Generator().manual_seed(0))
    both = candidates.predicted(replace(predictions, class_scores=other))
    alone = candidates.predicted(Predictions(other, predictions.boxes))
    assert torch.equal(read_predictions(both, "the test").scores, other)
    assert torch.equal(read_predictions(both, "the test", joint=True).scores, predictions.scores)

    def same(assigner: SimOTAAssigner | TaskAlignedAssigner, one: Candidates, two: Candidates) -> bool:
        return torch.equal(assigner(truth, one).gt_index, assigner(truth, two).gt_index)

    assert same(TaskAlignedAssigner(), both, alone)
    assert not same(TaskAlignedAssigner(), both, candidates)
    assert same(SimOTAAssigner(), both, candidates)
    assert not same(SimOTAAssigner(), both, alone)
