"""One name, one style: over the contexts of a report, in its figures and on its buttons."""

import itertools
import re

from harness.report.command import main
from harness.report.figures.style import DASHES, NUM_METHODS, color, dash, line, marker, pattern
from harness.report.method_styles import method_styles, with_names
from tests.report.folders import write_arm
from tests.report.test_page import figures_of

SECOND, THIRD = "b" * 32, "c" * 32


def test_the_first_context_has_its_baseline_in_gray_and_the_others_in_the_order_of_its_rows():
    assert method_styles([(["random", "ohem", "focal"], {"random"})]) == {"random": 0, "ohem": 1, "focal": 2}


def test_a_name_keeps_its_style_whatever_its_place():
    turned = [(["random", "a", "b", "c"], {"random"}), (["random", "c", "d", "b"], {"random"})]
    assert method_styles(turned) == {"random": 0, "a": 1, "b": 2, "c": 3, "d": 4}


def test_names_of_different_contexts_have_different_colors_while_there_are_enough():
    contexts = [(["random", "a", "b"], {"random"}), (["random", "c", "d"], {"random"}), (["random", "a", "c"], set())]
    assert len({color(style) for style in method_styles(contexts).values()}) == 5


def test_the_colors_of_one_context_are_different_also_where_the_report_has_more_names():
    names = [[f"{place}{i}" for i in range(NUM_METHODS - 1)] for place in "abc"]
    styles = method_styles([(["random", *own], {"random"}) for own in names])
    for own in names:
        assert len({color(styles[name]) for name in ["random", *own]}) == NUM_METHODS
    assert len(set(styles.values())) == len(styles)


def test_a_context_that_is_added_at_the_end_changes_no_style_before():
    contexts = [
        (["random", *(f"a{i}" for i in range(12))], {"random"}),
        (["softmax", "a3", "a11", "b"], {"softmax"}),
        (["a3", "random", "c", "softmax"], {"a3"}),
    ]
    whole = method_styles(contexts)
    for n in range(len(contexts)):
        before = method_styles(contexts[:n])
        assert before == {name: whole[name] for name in before}


def test_every_context_of_new_names_has_a_gray_baseline():
    styles = method_styles([(["random", "ohem"], {"random"}), (["softmax", "focal"], {"softmax"})])
    assert styles["random"] == styles["softmax"] == 0
    assert styles["ohem"] != styles["focal"]


def test_of_several_baselines_the_first_is_gray():
    assert method_styles([(["focal random", "ce random", "ohem"], {"ce random", "focal random"})]) == {
        "focal random": 0,
        "ce random": 1,
        "ohem": 2,
    }


def test_one_style_per_name_goes_before_a_gray_baseline():
    styles = method_styles([(["random", "ohem"], {"random"}), (["ohem", "random"], {"ohem"})])
    assert styles == {"random": 0, "ohem": 1}


def test_without_a_baseline_gray_is_the_last_color_and_none_that_a_baseline_has():
    names = [f"a{i}" for i in range(NUM_METHODS)]
    styles = method_styles([(names, ()), ([names[-1], "random"], {"random"})])
    assert color(styles[names[-1]]) == color(0)
    assert [style for style in styles.values() if style == 0] == [styles["random"]]


def test_methods_beyond_the_colors_share_one_but_no_style():
    styles = method_styles([(["random", *(f"a{i}" for i in range(40))], {"random"})])
    assert len(set(styles.values())) == 41
    assert [name for name, style in styles.items() if color(style) == color(0)] == ["random"]
    looks = {(color(style), dash(style), marker(style)) for style in styles.values()}
    assert len(looks) == 41
    for style in range(NUM_METHODS):
        other = style + NUM_METHODS
        assert color(style) == color(other)
        assert dash(style) != dash(other)
        assert marker(style) != marker(other)
        assert pattern(style) == "" != pattern(other)
        assert line(other, "m", [], [])["line"]["dash"] == dash(other) in DASHES


def test_names_that_are_there_are_not_changed():
    before = {"random": 0, "ohem": 1}
    after = with_names(before, ["random", "iou_balanced"])
    assert before == {"random": 0, "ohem": 1}
    assert after == {"random": 0, "ohem": 1, "iou_balanced": 2}


def _turned_round(root):
    """The order of the methods by mAP on one data set is turned round on the other."""
    arms = {"ohem": [0.50, 0.51], "iou_balanced": [0.45, 0.46], "matched_random": [0.42, 0.43]}
    for fingerprint, values in ((None, list(arms.values())), (SECOND, list(arms.values())[::-1])):
        other = {} if fingerprint is None else {"fingerprint": fingerprint, "data__num_train": 50}
        write_arm(root, "random", [0.30, 0.31], shadows=("ohem", "ohem_paper"), **other)
        for chosen, maps in zip(arms, values, strict=True):
            write_arm(root, chosen, maps, **other)


def _colors(figure):
    """Method -> the colors of its traces, without those of rings and bands."""
    return {
        trace["legendgroup"]: trace.get("line", {}).get("color") or trace["marker"]["color"]
        for trace in figure["data"]
        if trace.get("showlegend", True) or trace.get("marker", {}).get("symbol") == "diamond"
    }


def _buttons(text):
    return dict(re.findall(r'data-method="([^"]+)" data-color="([^"]+)"', text))


def test_a_page_shows_a_method_in_one_color_in_every_section(tmp_path):
    _turned_round(tmp_path)
    assert main([str(tmp_path), "--pictures", "0"]) == 0
    text = (tmp_path / "report" / "report.html").read_text()
    first, second = (
        _buttons(one) for one in re.findall(r'<section id="s[01]".*?(?=<section id="s\d")', text, re.DOTALL)
    )
    assert list(first) == ["random", "ohem", "iou_balanced", "matched_random"]
    assert list(second) == ["random", "matched_random", "iou_balanced", "ohem"]
    assert first == second == {name: color(i) for i, name in enumerate(first)}
    figures = figures_of(tmp_path / "report")
    told = ("differences", "errors", "classes", "curves/eval/map", "costs/train_seconds", "precision/0.5",
            "calibration", "sampling/roi/negatives", "sampling/roi/easy", "sampling/roi/loss-negative")  # fmt: skip
    for key, number in itertools.product(told, (0, 1)):
        drawn = _colors(figures[f"{number}/{key}"])
        assert {name: drawn[name] for name in first if name in drawn} == {
            name: first[name] for name in first if name != "random" or key != "differences"
        }, (number, key)
    del first["random"]
    assert _colors(figures["across-0"]) == first
    shadows = [_colors(figures[f"{number}/shadows/0/roi/negatives"]) for number in (0, 1)]
    assert shadows[0] == shadows[1]
    assert shadows[0]["ohem (shadow)"] == first["ohem"]
    assert shadows[0]["ohem_paper (shadow)"] not in {color(0), *first.values()}
