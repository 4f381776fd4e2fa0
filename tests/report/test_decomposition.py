"""OHEM's effect taken apart: hardness and share of positives add up, with their intervals, in words."""

import numpy as np
import pytest

from harness.report.build import Options, build_report
from harness.report.decomposition import decompose
from harness.report.findings import decomposition_text
from harness.report.folders import find_folders
from harness.statistics import decide
from tests.report.folders import sampler, write_arm

RANDOM = [0.40, 0.41, 0.42, 0.40, 0.41, 0.40]
MATCHED = [0.49, 0.50, 0.50, 0.49, 0.498, 0.491]
OHEM = [0.493, 0.497, 0.506, 0.486, 0.499, 0.488]


def _decomposed(root):
    report = build_report(find_folders(root), Options())
    return decompose(report.table, report.contexts[0].section)


def _arms(root, *names):
    raised = [0.51, 0.52, 0.5, 0.5, 0.51, 0.5]
    arms = {
        "random": lambda: write_arm(root, "random", RANDOM, heavy=False),
        "ohem_paper": lambda: write_arm(root, "ohem_paper", OHEM, heavy=False),
        "matched_random": lambda: write_arm(root, "matched_random", MATCHED, heavy=False),
        "raised": lambda: write_arm(root, "random", raised, heavy=False, sampler__pos_fraction=0.625),
    }
    for name in names:
        arms[name]()


def test_the_parts_add_up_and_carry_their_intervals(tmp_path):
    _arms(tmp_path, "random", "ohem_paper", "matched_random", "raised")
    (found,) = _decomposed(tmp_path)
    parts = {part.name: part for part in found.parts}
    assert found.missing == ()
    assert parts["all of it"].mean == pytest.approx(parts["hardness"].mean + parts["share of positives"].mean)
    hardness, share = decide([np.subtract(OHEM, MATCHED)]), decide([np.subtract(MATCHED, RANDOM)])
    assert parts["hardness"].interval == pytest.approx(hardness[0].interval)
    assert parts["share of positives"].interval == pytest.approx(share[0].interval)
    assert parts["share of positives"].shown
    assert not parts["hardness"].shown
    said = " ".join(decomposition_text(found))
    assert "Only the share of positives is shown to change anything" in said
    assert "(matched_random − random) is +0.0882 [" in said
    assert "which does not exclude 0" in said
    assert "random pos_fraction=0.625 − random" in said


@pytest.mark.parametrize(
    ("arms", "missing"),
    [
        (("random", "ohem_paper"), "sampler=matched_random of ohem_paper and sampler=random with a higher"),
        (("random", "ohem_paper", "matched_random"), "sampler=random with a higher sampler.pos_fraction is missing"),
        (("ohem_paper", "matched_random"), "sampler=random and sampler=random with a higher sampler.pos_fraction are"),
    ],
)
def test_missing_arms_are_named(tmp_path, arms, missing):
    _arms(tmp_path, *arms)
    (found,) = _decomposed(tmp_path)
    assert missing in " ".join(decomposition_text(found))


def test_a_control_of_another_ohem_is_no_control(tmp_path):
    _arms(tmp_path, "random", "matched_random")  # of the paper's OHEM
    write_arm(tmp_path, "ohem", OHEM, heavy=False)
    (found,) = _decomposed(tmp_path)
    assert "sampler=matched_random of ohem" in found.missing
    write_arm(tmp_path, "matched_random", MATCHED, heavy=False, sampler__of=sampler("ohem"))
    (found,) = _decomposed(tmp_path)
    assert found.missing == ("sampler=random with a higher sampler.pos_fraction",)
    assert {part.name for part in found.parts} == {"all of it", "hardness", "share of positives"}


def test_what_is_credited_agrees_with_the_main_table(tmp_path):
    """A part whose interval barely excludes 0 alone is not shown beside others, as in the table of verdicts."""
    rises = [0.02, 0.05, 0.045, 0.03, 0.012, 0.02]
    write_arm(tmp_path, "random", [0.40] * 6, heavy=False)
    write_arm(tmp_path, "matched_random", [0.40 + rise for rise in rises], heavy=False)
    write_arm(
        tmp_path,
        "ohem_paper",
        [0.40 + rise + noise for rise, noise in zip(rises, [0.03, -0.02, 0.03, 0.01, 0.04, 0.0], strict=True)],
        heavy=False,
    )
    write_arm(tmp_path, "iou_balanced", [0.40, 0.41, 0.39, 0.40, 0.41, 0.39], heavy=False)
    (found,) = _decomposed(tmp_path)
    share = next(part for part in found.parts if part.name == "share of positives")
    section = build_report(find_folders(tmp_path), Options()).contexts[0].section
    assert section.row("matched_random").comparison.verdict == "open"
    assert share.excludes_zero
    assert not share.shown
    said = " ".join(decomposition_text(found))
    assert "Neither part alone is shown to differ from 0" in said


def test_two_seeds_are_a_hint_at_most(tmp_path):
    for name, maps in (("random", RANDOM), ("matched_random", MATCHED), ("ohem_paper", OHEM)):
        write_arm(tmp_path, name, maps[:2], heavy=False)
    (found,) = _decomposed(tmp_path)
    assert not any(part.shown for part in found.parts)
    assert "a hint at most" in " ".join(decomposition_text(found))


def test_ohem_is_taken_apart_against_its_own_baseline(tmp_path):
    _arms(tmp_path, "random", "ohem_paper", "matched_random", "raised")
    write_arm(tmp_path, "random", [0.1, 0.2, 0.1, 0.2], heavy=False, sampler__pos_fraction=0.1)
    report = build_report(find_folders(tmp_path), Options())
    section = report.contexts[0].section
    (found,) = decompose(report.table, section)
    whole = next(part for part in found.parts if part.name == "all of it")
    ohem = section.row("ohem_paper")
    assert whole.arms == f"ohem_paper − {ohem.comparison.baseline}"
    assert whole.mean == pytest.approx(ohem.comparison.mean_difference)


def test_no_ohem_no_question(tmp_path):
    _arms(tmp_path, "random", "matched_random")
    assert _decomposed(tmp_path) == []


def test_arms_that_a_sweep_names_are_taken_apart_as_well(tmp_path):
    for arm, name, maps, extra in (
        ("random", "random", RANDOM, {}),
        ("more", "random", MATCHED, {"sampler__pos_fraction": 0.625}),
        ("matched", "matched_random", MATCHED, {}),
        ("paper", "ohem_paper", OHEM, {}),
        ("half", "ohem_paper", OHEM, {"sampler__num": 32}),
        ("in_rpn", "random", RANDOM, {"rpn__sampler": sampler("ohem")}),
    ):
        choices = {"experiment/arm": arm} | ({"sampler@rpn.sampler": "ohem"} if arm == "in_rpn" else {})
        write_arm(tmp_path, name, maps, heavy=False, choices=choices, **extra)
    report = build_report(find_folders(tmp_path), Options())
    section = report.contexts[0].section
    assert {row.label for row in section.rows} == {"random", "more", "matched", "paper", "half", "in_rpn"}
    assert section.baselines == ("random",)
    assert all(row.comparison.baseline == "random" for row in section.rows if row.label != "random")
    complete, rest = decompose(report.table, section)
    assert (complete.ohem, complete.missing) == ("paper", ())
    assert {part.arms for part in complete.parts} == {
        "paper − random", "paper − matched", "matched − random", "more − random", "paper − more",
    }  # fmt: skip
    assert (rest.ohem, rest.missing) == ("half", ("sampler=matched_random of half",))
