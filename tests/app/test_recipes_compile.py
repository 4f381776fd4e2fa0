"""The target path of a recipe compiles without a graph break, with its branches, terms and box weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.core.structures import Candidates, GroundTruth
from harness.criterion.heads import Outputs
from harness.criterion.stage import Selection
from harness.experiment.pieces import build, build_pieces
from harness.training.streams import Streams
from tests.app.test_recipes import composed
from tests.detectors.dense_parity import images, scene


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "detector"), [("gfl", "tiny_retinanet"), ("vfnet", "tiny_fcos")])
def test_it_compiles(recipe: str, detector: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed(recipe, detector)
    streams = Streams(0, torch.device("cpu"))
    model = build_pieces(config, []).equip(build(config.detector, "detector", num_classes=6), streams)
    criterion = model.criteria["dense"]
    seen: list[tuple[GroundTruth, Candidates, Outputs]] = []
    select = criterion.select

    def spy(truth: GroundTruth, candidates: Candidates, predict: object) -> Selection:
        seen.append((truth, candidates, predict()))  # type: ignore[operator]
        return select(truth, candidates, predict)  # type: ignore[arg-type]

    monkeypatch.setattr(criterion, "select", spy)
    model.train()
    expected = model(images(), scene("ordinary"))
    monkeypatch.undo()
    truth, candidates, outputs = seen[0]

    def losses(logits: Tensor, deltas: Tensor, refined: Tensor | None) -> dict[str, Tensor]:
        given = Outputs(logits, deltas, None, refined)
        selection = criterion.select(truth, candidates, given.detach)
        found: dict[str, Tensor] = criterion(given.take(selection.sample), selection)
        return found

    compiled = torch.compile(losses, fullgraph=True, backend="eager")
    found = compiled(outputs.logits, outputs.deltas, outputs.refined)
    for value, wanted in zip(found.values(), expected.values(), strict=True):
        torch.testing.assert_close(value, wanted.detach())
