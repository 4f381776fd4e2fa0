"""What was available and sampled: figures of each stage, and of shadow samplers beside the one that trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from harness.report.evidence import Evidence
from harness.report.figures.candidates import candidate_figures
from harness.report.figures.iou import bands_figure, easy_share_figure, negative_figure, positive_figure
from harness.report.figures.steps import Population
from harness.report.parts import Figure, Fold, Heading, Part, Table, Text
from harness.report.sampling import Sampling

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

CANDIDATES = "Loss, size and level of the candidates, and how many an image and an object has"
_OFFERED_EACH = 3  # methods up to which the available candidates of each are drawn
_IOU_NOTE = (
    "A line per method: what its sampler took. Dotted: what was available, of the baseline only where there are more "
    "than three methods. Each line adds up to 1. Negatives below IoU 0.05 hardly touch an object (easy ones in "
    "Libra R-CNN, Pang et al. 2019). truth: ground-truth boxes that joined the proposals."
)
_CANDIDATES_NOTE = (
    "A line per method: what it sampled; dotted: what the first one could have taken. Ground-truth boxes that joined "
    "the proposals are left out, except from the positives of an object."
)
_SHADOW_NOTE = "Recorded on the very same candidates; shadow samplers did not train."


def sampling_details(evidence: Evidence, number: int, numbers: Table | None) -> list[Part]:
    """All that telemetry recorded of one context; empty where it was off."""
    stages = list(dict.fromkeys(stage for one in evidence.samplings if one is not None for stage in one.stages))
    if not stages:
        return []
    drawn = list(evidence.drawn.items())
    parts: list[Part] = [Heading("What was sampled", 3), Text([_IOU_NOTE], "caption")]
    for stage in stages:
        here = [
            (one, *method)
            for one, method in zip(evidence.samplings, drawn, strict=True)
            if one is not None and stage in one.stages
        ]
        parts += _stage(stage, here, evidence.toggles, f"{number}/sampling/{stage}")
    if numbers is not None:
        parts.append(Fold("What was sampled, in numbers", [numbers]))
    return [*parts, *_shadows(evidence, number)]


def _stage(stage: str, here: Sequence[tuple[Sampling, str, int]], toggles: Mapping[str, str], key: str) -> list[Part]:
    """The figures of one stage; ``here`` holds what was recorded, the method and its style."""
    sampled = [Population(one, "sampled", label, style) for one, label, style in here]
    offered = [Population(one, "available", label, style) for one, label, style in here]
    both = [*(offered if len(here) <= _OFFERED_EACH else offered[:1]), *sampled]

    def figure(name: str, title: str, draw: Callable[[], Plot]) -> Figure:
        return Figure(f"{key}/{name}", f"{stage}: {title}", draw, methods=toggles)

    parts: list[Part] = [
        Heading(f"Stage {stage}", 4),
        figure("negatives", "negatives", partial(negative_figure, f"{stage}: negatives", stage, both)),
        figure("positives", "positives", partial(positive_figure, f"{stage}: positives", stage, both)),
    ]
    details: list[Part] = [Text([_CANDIDATES_NOTE], "caption")]
    details += [figure(name, title, draw) for name, title, draw in candidate_figures(stage, [offered[0], *sampled])]
    if max(len(one.iterations) for one, *_ in here) > 1:
        title = "negatives below IoU 0.05 over time"
        parts.append(figure("easy", title, partial(easy_share_figure, f"{stage}: {title}", stage, both)))
        mixtures: list[Part] = [
            Figure(f"{key}/bands/{one.label}", f"{stage}, {one.label}",
                   partial(bands_figure, f"{stage}, {one.label}", stage, one))
            for one in sampled
        ]  # fmt: skip
        parts.append(Fold(f"Stage {stage}: sampled negatives by IoU over time", mixtures))
    return [*parts, Fold(f"Stage {stage}: {CANDIDATES}", details)] if len(details) > 1 else parts


def _shadows(evidence: Evidence, number: int) -> list[Part]:
    """The real sampler beside its shadows, for each method whose runs recorded some."""
    parts: list[Part] = []
    for i, (one, label) in enumerate(zip(evidence.samplings, evidence.drawn, strict=True)):
        for stage in one.stages if one is not None else ():
            assert one is not None
            if one.shadows(stage):
                parts += _shadow(one, stage, label, evidence.styles, f"{number}/shadows/{i}/{stage}")
    return [Heading("Shadow samplers", 3), Text([_SHADOW_NOTE], "caption"), *parts] if parts else []


def _shadow(one: Sampling, stage: str, method: str, styles: Mapping[str, int], key: str) -> list[Part]:
    """One method beside its shadows; a shadow has the style of the method of its name where that was trained, too."""
    shadows = one.shadows(stage)
    lines = [
        Population(one, "available", "available", styles[method]),
        Population(one, "sampled", f"{method} (trained)", styles[method]),
        *(Population(one, name, f"{name} (shadow)", styles[name]) for name in shadows),
    ]
    title = f"{method}, stage {stage}: what trained, and what {len(shadows)} other sampler"
    return [
        Heading(f"{title}{'s' if len(shadows) > 1 else ''} would have taken", 4),
        Figure(f"{key}/negatives", "negatives", partial(negative_figure, "negatives", stage, lines)),
        Figure(f"{key}/positives", "positives", partial(positive_figure, "positives", stage, lines)),
        Fold(
            f"Stage {stage}: {CANDIDATES}",
            [Figure(f"{key}/{n}", t, draw) for n, t, draw in candidate_figures(stage, lines)],
        ),
    ]
