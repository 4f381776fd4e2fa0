"""What is one method, what it is called, and which runs are never compared."""

import pytest

from harness.report.build import Options, build_report
from harness.report.contexts import contexts_of
from harness.report.folders import ReportError, find_folders
from harness.report.frame import choice_column, read_table
from harness.report.method_names import labels
from harness.runs.records import State
from tests.report.folders import write_arm, write_run


def _report(root, **options):
    return build_report(find_folders(root), Options(**options))


def _labels(root, **options):
    return [{row.label for row in judged.section.rows} for judged in _report(root, **options).contexts]


def test_a_name_is_made_of_what_varies(tmp_path):
    write_arm(tmp_path, "random", [0.4, 0.4], heavy=False)
    write_arm(tmp_path, "random", [0.4, 0.4], heavy=False, sampler__pos_fraction=0.5)
    write_arm(tmp_path, "ohem", [0.4, 0.4], heavy=False)
    assert _labels(tmp_path) == [{"random", "random pos_fraction=0.5", "ohem"}]


def test_a_sweep_of_one_parameter_is_told_apart(tmp_path):
    for num in (16, 32, 64):
        write_arm(tmp_path, "ohem", [0.4, 0.41], heavy=False, sampler__num=num)
    assert _labels(tmp_path) == [{"ohem num=16", "ohem num=32", "ohem num=64"}]


def test_any_other_setting_makes_a_method_too(tmp_path):
    for rate in (0.001, 0.004):
        for chosen in ("random", "ohem"):
            write_arm(tmp_path, chosen, [0.4], heavy=False, optimizer__lr=rate)
    assert _labels(tmp_path) == [{"random lr=0.001", "random lr=0.004", "ohem lr=0.001", "ohem lr=0.004"}]
    write_run(tmp_path, "ohem", 0, heavy=False, choices={"sampler@rpn.sampler": "ohem"}, optimizer__lr=0.001)
    assert _labels(tmp_path) == [
        {"random", "random lr=0.004", "ohem", "ohem lr=0.004", "ohem rpn.sampler=ohem"}  # 0.001 is the usual rate now
    ]


def test_where_and_how_a_run_was_watched_makes_no_method(tmp_path):
    write_run(tmp_path, "random", 0, heavy=False)
    write_run(tmp_path, "random", 1, heavy=False, run__threads=1, run__root="/elsewhere", tracker__tags=["x"])
    write_run(tmp_path, "random", 2, heavy=False, analysis__shadow=["ohem"], choices={"tracker": "online"})
    assert _labels(tmp_path) == [{"random"}]


def test_a_key_of_a_later_version_at_its_default_makes_no_method(tmp_path):
    write_run(tmp_path, "random", 0, heavy=False)
    write_run(tmp_path, "random", 1, heavy=False, optimizer__norm_decay_mult=1.0)
    assert _labels(tmp_path) == [{"random"}]
    write_run(tmp_path, "random", 2, heavy=False, optimizer__norm_decay_mult=0.0)
    assert _labels(tmp_path) == [{"norm_decay_mult=0", "norm_decay_mult=1"}]


def test_names_are_unique_and_leave_nothing_out():
    columns = ["sampler", "assigner"]
    assert labels([{"sampler": "a", "sampler.x": None}, {"sampler": "a", "sampler.x": 0.7}], columns) == [
        "a x=null",
        "a x=0.7",
    ]
    rung = "experiment.rung"
    rungs = [{"assigner": "grid", rung: "1"}, {"assigner": "grid", rung: "2"}, {"assigner": "ota", rung: "3"}]
    assert labels(rungs, ["assigner", rung]) == ["1", "2", "3"]  # one choice that tells all apart is enough
    several = [{"sampler": s, "assigner": a, "k": k} for s in "ab" for a in "cd" for k in (1, 2)]
    assert len(set(labels(several, columns))) == 8


@pytest.mark.parametrize("asked", ["recipe=none", "recipe=null"])
def test_a_run_without_a_recipe_is_a_method_beside_those_that_have_one(tmp_path, asked):
    """As ``recipe=null,ohem`` of a sweep made them, with the sweep's own name of the baseline."""
    write_arm(tmp_path, "random", [0.4, 0.4], heavy=False)
    write_arm(tmp_path, "ohem", [0.5, 0.5], heavy=False, choices={"recipe": "ohem"})
    assert _labels(tmp_path) == [{"none", "ohem"}]
    assert [judged.section.baselines for judged in _report(tmp_path, baseline=asked).contexts] == [("none",)]


def test_other_data_detectors_and_lengths_are_never_mixed(tmp_path):
    write_arm(tmp_path, "random", [0.4, 0.4], heavy=False)
    write_arm(tmp_path, "ohem", [0.5, 0.5], heavy=False, run__iterations=800)
    write_arm(tmp_path, "ohem", [0.5, 0.5], heavy=False, fingerprint="beef" * 8, data__num_train=100)
    write_arm(tmp_path, "ohem", [0.5, 0.5], heavy=False, choices={"detector": "tiny_fcos"})
    report = _report(tmp_path)
    titles = [judged.section.context.title for judged in report.contexts]
    assert "tiny_rcnn on shapes, 2000 iterations, data.num_train=2000" in titles
    assert "tiny_rcnn on shapes, 800 iterations" in titles
    assert len(titles) == len(set(titles)) == 4
    assert all(row.comparison is None for judged in report.contexts for row in judged.section.rows)


def test_a_refused_run_is_counted_with_the_method_it_belongs_to(tmp_path):
    write_arm(tmp_path, "random", [0.4, 0.41], heavy=False)
    write_arm(tmp_path, "ohem", [0.4, 0.41], heavy=False)
    write_run(tmp_path, "ohem", 2, state=State.REFUSED, reason="no")
    write_run(tmp_path, "ohem", 2, state=State.REFUSED, reason="no", run__iterations=9)
    section = _report(tmp_path).contexts[0].section
    assert {row.label: len(row.method.stopped) for row in section.rows} == {"random": 0, "ohem": 1}


def test_methods_that_no_short_name_tells_apart_keep_their_own_scores(tmp_path):
    scales = [[[16.0], [32.0], [64.0], [128.0], [256.0], [512.0 + k]] for k in range(3)]
    for k, scale in enumerate(scales):
        write_arm(tmp_path, "random", [0.3 * (k + 1)], sampler__scales=scale, heavy=False)
    for rate in (0.0012345678, 0.0012345679):
        write_arm(tmp_path, "random", [rate], optimizer__lr=rate, heavy=False)
    section = _report(tmp_path).contexts[0].section
    assert len({row.label for row in section.rows}) == 5
    assert sorted(row.mean for row in section.rows) == pytest.approx([0.0012345678, 0.0012345679, 0.3, 0.6, 0.9])


def test_other_settings_of_the_detector_are_another_context(tmp_path):
    for channels in (64, 32):
        write_arm(tmp_path, "random", [0.4, 0.4], heavy=False, detector__channels=channels)
    write_arm(tmp_path, "ohem", [0.5, 0.5], heavy=False)
    found = _report(tmp_path).contexts
    assert [one.section.context.title for one in found] == [
        "tiny_rcnn on shapes, 2000 iterations, detector.channels=64",
        "tiny_rcnn on shapes, 2000 iterations, detector.channels=32",
    ]
    assert [{row.label for row in one.section.rows} for one in found] == [{"random", "ohem"}, {"random"}]


def test_settings_of_the_detector_that_an_experiment_writes_are_its_own(tmp_path):
    for rung, head in (("1_coupled", "coupled"), ("2_decoupled", "decoupled")):
        write_arm(tmp_path, "random", [0.4], heavy=False, choices={"experiment/rung": rung}, detector__head=head)
    (found,) = _report(tmp_path).contexts
    assert {row.label for row in found.section.rows} == {"1_coupled", "2_decoupled"}
    assert found.warnings == []


def test_a_recipe_is_the_name_of_all_that_it_writes(tmp_path):
    for recipe, loss, branch, rate in (
        ("retinanet", "l1", "none", 0.004),
        ("atss", "giou", "centerness", 0.004),
        ("atss", "giou", "centerness", 1.0),
    ):
        choices = {"recipe": recipe, "loss/regression": loss}
        changed = {"detector__quality_branch": branch, "optimizer__lr": rate}
        write_arm(tmp_path, "random", [0.4], heavy=False, choices=choices, **changed)
    (found,) = _report(tmp_path).contexts
    assert {row.label for row in found.section.rows} == {"retinanet", "atss", "atss lr=1"}
    assert found.warnings == []


def test_an_option_inside_an_option_comes_with_it(tmp_path):
    write_arm(tmp_path, "random", [0.4], heavy=False, choices={"loss/regression": "ciou"})
    inner = {"loss/regression": "inner_iou", "loss/regression@loss.regression.base": "ciou"}
    write_arm(tmp_path, "random", [0.5], heavy=False, choices=inner)
    (found,) = _report(tmp_path).contexts
    assert {row.label for row in found.section.rows} == {"ciou", "inner_iou"}


def test_unequal_settings_beside_the_compared_pieces_are_named_and_warned_of(tmp_path):
    write_arm(tmp_path, "random", [0.4, 0.4], heavy=False)
    write_arm(tmp_path, "ohem", [0.5, 0.5], heavy=False, optimizer__lr=0.001, run__batch_size=8)
    write_arm(tmp_path, "iou_balanced", [0.5, 0.5], heavy=False)
    (found,) = _report(tmp_path).contexts
    assert {row.label for row in found.section.rows} == {"random", "iou_balanced", "ohem lr=0.001 batch_size=8"}
    assert found.warnings == [
        "ohem lr=0.001 batch_size=8 also differs from random in optimizer.lr (0.001 against 0.004), run.batch_size "
        "(8 against 4): its verdict is about all settings together."
    ]


def test_a_grid_of_settings_has_no_warning(tmp_path):
    for rate in (0.001, 0.004):
        for chosen in ("random", "ohem"):
            write_arm(tmp_path, chosen, [0.4, 0.4], heavy=False, optimizer__lr=rate)
    (found,) = _report(tmp_path).contexts
    assert found.warnings == []
    pairs = {row.label: one.baseline for row, one in found.section.compared}
    assert pairs["ohem lr=0.001"] == "random lr=0.001"
    assert pairs["ohem lr=0.004"] == "random lr=0.004"


def test_a_setting_inside_the_compared_pieces_is_a_note(tmp_path):
    write_arm(tmp_path, "random", [0.4, 0.4], heavy=False)
    write_arm(tmp_path, "ohem", [0.5, 0.5], heavy=False, sampler__num=128)
    (found,) = _report(tmp_path).contexts
    assert {row.label for row in found.section.rows} == {"random", "ohem"}
    assert found.warnings == []
    assert found.notes == ["Inside the compared pieces, methods and baselines also differ in sampler.num."]


def test_different_data_never_have_one_heading(tmp_path):
    for fingerprint, number in (("a" * 32, 10), ("b" * 32, 10), ("c" * 32, 20)):
        write_run(tmp_path, "random", 0, heavy=False, fingerprint=fingerprint, data__num_train=number)
    titles = [one.section.context.title for one in _report(tmp_path).contexts]
    assert len(set(titles)) == 3
    assert all("data.num_train=" in title for title in titles)
    assert sum(", data aaaaaaaa" in title or ", data bbbbbbbb" in title for title in titles) == 2


def test_a_failure_is_shown_once_and_no_more_when_the_run_succeeded(tmp_path):
    write_run(tmp_path, "random", 0, heavy=False)
    write_run(tmp_path, "random", 0, state=State.FAILED, reason="disk full", heavy=False)
    for reason in ("loss is nan", "loss is nan again"):
        write_run(tmp_path, "ohem", 1, state=State.FAILED, reason=reason, heavy=False)
    frame = _report(tmp_path).table.frame
    assert list(frame["state"]) == ["failed", "done"]
    assert list(frame["reason"]) == ["loss is nan again", ""]


def test_names_of_settings_that_are_written_alike_are_numbered():
    assert labels([{"optimizer.lr": 1}, {"optimizer.lr": "1"}], []) == ["lr=1", "lr=1 #2"]


def test_other_rules_of_evaluation_are_never_mixed(tmp_path):
    for chosen, small in (("random", 18), ("ohem", 32)):
        ranges = {"small": [0, small**2], "medium": [small**2, 9216], "large": [9216, 1e10]}
        write_arm(tmp_path, chosen, [0.4, 0.5], heavy=False, evaluator__area_ranges=ranges)
    judged = _report(tmp_path).contexts
    assert len(judged) == 2
    assert all("evaluator.area_ranges.small" in one.section.context.title for one in judged)


def test_grouping_on_request(tmp_path):
    for beta in (0.1, 0.5):
        write_arm(tmp_path, "random", [0.4], heavy=False, loss__regression__beta=beta)
        write_arm(tmp_path, "ohem", [0.5], heavy=False, loss__regression__beta=beta)
    assert _labels(tmp_path, group_by=("sampler",)) == [{"random", "ohem"}]
    assert _labels(tmp_path, group_by=("sampler", "loss")) == _labels(tmp_path)
    assert _labels(tmp_path, group_by=("loss.regression.beta",)) == [{"smooth_l1 beta=0.1", "smooth_l1 beta=0.5"}]
    found = _report(tmp_path, group_by=("sampler",)).contexts[0]
    section = found.section
    assert found.warnings == ["The grouping merges runs that differ in loss.regression.beta."]
    assert any("2 runs with 1 seeds" in note for note in section.notes)
    with pytest.raises(ReportError, match="--group-by banana: no run has such a setting; there are sampler, assigner"):
        _report(tmp_path, group_by=("banana",))


def test_columns_of_choices():
    assert choice_column("loss/classification@rpn.loss.classification") == "rpn.classification"
    assert choice_column("loss/regression") == "regression"
    assert choice_column("augment@data.augment") == "data.augment"


def test_a_folder_of_refusals_has_no_context(tmp_path):
    write_run(tmp_path, "random", 0, state=State.REFUSED, reason="no")
    assert contexts_of(read_table(find_folders(tmp_path))) == []
