"""What is one method, what it is called, and which runs are never compared."""

import pytest

from harness.report.build import Options, build_report
from harness.report.contexts import contexts_of
from harness.report.folders import ReportError, find_folders
from harness.report.frame import choice_column, read_table
from harness.report.methods import labels
from harness.runs.records import State
from tests.report.folders import write_arm, write_run


def _report(root, **options):
    return build_report(find_folders(root), Options(**options))


def _labels(root, **options):
    return [{row.label for row in judged.section.rows} for judged in _report(root, **options).judged]


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


def test_other_data_detectors_and_lengths_are_never_mixed(tmp_path):
    write_arm(tmp_path, "random", [0.4, 0.4], heavy=False)
    write_arm(tmp_path, "ohem", [0.5, 0.5], heavy=False, run__iterations=800)
    write_arm(tmp_path, "ohem", [0.5, 0.5], heavy=False, fingerprint="beef" * 8, data__num_train=100)
    write_arm(tmp_path, "ohem", [0.5, 0.5], heavy=False, choices={"detector": "tiny_fcos"})
    report = _report(tmp_path)
    titles = [judged.section.context.title for judged in report.judged]
    assert "tiny_rcnn on shapes, 2000 iterations, data.num_train=2000" in titles
    assert "tiny_rcnn on shapes, 800 iterations" in titles
    assert len(titles) == len(set(titles)) == 4
    assert all(row.comparison is None for judged in report.judged for row in judged.section.rows)


def test_a_refused_run_is_counted_with_the_method_it_belongs_to(tmp_path):
    write_arm(tmp_path, "random", [0.4, 0.41], heavy=False)
    write_arm(tmp_path, "ohem", [0.4, 0.41], heavy=False)
    write_run(tmp_path, "ohem", 2, state=State.REFUSED, reason="no")
    write_run(tmp_path, "ohem", 2, state=State.REFUSED, reason="no", run__iterations=9)
    section = _report(tmp_path).judged[0].section
    assert {row.label: len(row.method.stopped) for row in section.rows} == {"random": 0, "ohem": 1}


def test_methods_that_no_short_name_tells_apart_keep_their_own_scores(tmp_path):
    anchors = [[[16.0], [32.0], [64.0], [128.0], [256.0], [512.0 + k]] for k in range(3)]
    for k, sizes in enumerate(anchors):
        write_arm(tmp_path, "random", [0.3 * (k + 1)], detector__anchors=sizes, heavy=False)
    for rate in (0.0012345678, 0.0012345679):
        write_arm(tmp_path, "random", [rate], optimizer__lr=rate, heavy=False)
    section = _report(tmp_path).judged[0].section
    assert len({row.label for row in section.rows}) == 5
    assert sorted(row.mean for row in section.rows) == pytest.approx([0.0012345678, 0.0012345679, 0.3, 0.6, 0.9])


def test_names_of_settings_that_are_written_alike_are_numbered():
    assert labels([{"optimizer.lr": 1}, {"optimizer.lr": "1"}], []) == ["lr=1", "lr=1 #2"]


def test_other_rules_of_evaluation_are_never_mixed(tmp_path):
    for chosen, small in (("random", 18), ("ohem", 32)):
        ranges = {"small": [0, small**2], "medium": [small**2, 9216], "large": [9216, 1e10]}
        write_arm(tmp_path, chosen, [0.4, 0.5], heavy=False, evaluator__area_ranges=ranges)
    judged = _report(tmp_path).judged
    assert len(judged) == 2
    assert all("evaluator.area_ranges.small" in one.section.context.title for one in judged)


def test_grouping_on_request(tmp_path):
    for beta in (0.1, 0.5):
        write_arm(tmp_path, "random", [0.4], heavy=False, loss__regression__beta=beta)
        write_arm(tmp_path, "ohem", [0.5], heavy=False, loss__regression__beta=beta)
    assert _labels(tmp_path, group_by=("sampler",)) == [{"random", "ohem"}]
    assert _labels(tmp_path, group_by=("sampler", "loss")) == _labels(tmp_path)
    assert _labels(tmp_path, group_by=("loss.regression.beta",)) == [{"smooth_l1 beta=0.1", "smooth_l1 beta=0.5"}]
    section = _report(tmp_path, group_by=("sampler",)).judged[0].section
    assert any("merges runs that differ in loss.regression.beta" in note for note in section.notes)
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
