"""The page stands alone, says what the numbers say, and trusts no text of a run."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from harness.report.command import main
from harness.report.figures.style import DARK, LIGHT
from harness.report.parts import Cell, Column, Table
from harness.report.views.markdown import render_markdown
from harness.report.views.terminal import render_terminal
from harness.runs.records import State
from tests.report.folders import write_arm, write_run

VOID = {"meta", "path", "rect", "circle", "line"}


class Checked(HTMLParser):
    """Collects tags and attributes; complains about what is not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID or tag == "path":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        while self.open and self.open[-1] in VOID and self.open[-1] != tag:
            self.open.pop()
        if tag in self.open or tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    write_arm(root, "random", [0.400, 0.412, 0.395, 0.404, 0.402], shadows=("ohem", "iou_balanced"))
    write_arm(root, "ohem_paper", [0.480, 0.495, 0.473, 0.483, 0.484])
    write_arm(root, "iou_balanced", [0.401, 0.410, 0.400, 0.405, 0.401], machine={"processor": "another one"})
    reason = "<script>alert('x')</script> & more"
    write_run(root, "ohem", 0, state=State.FAILED, reason=reason)
    (root / "runs" / "<b>notes").mkdir()
    assert main([str(root), "--latex"]) == 0
    return root / "report"


def _parsed(folder):
    checked = Checked()
    checked.feed((folder / "report.html").read_text())
    return checked


def test_nothing_is_loaded_from_elsewhere(page):
    text = (page / "report.html").read_text()
    names = {name for name, _ in _parsed(page).attributes}
    assert not names & {"src", "srcset", "action", "onload", "onclick"}
    links = [value for name, value in _parsed(page).attributes if name in ("href", "xlink:href")]
    assert all(value.startswith(("#", "data:image/jpeg;base64,")) for value in links)
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "url(" not in text


def test_plotly_stands_in_the_page_once_and_the_page_is_small(page):
    text = (page / "report.html").read_text()
    (packed,) = re.findall(r'id="plotly-packed">([^<]+)<', text)
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()
    assert len(text) < 6_000_000


def test_markup_is_well_formed_and_complete(page):
    checked = _parsed(page)
    assert checked.open == []
    said = " ".join(checked.text)
    for part in ("Difference in mAP", "Cost", "Learning curves", "What was sampled", "Shadow samplers",
                 "Loss, size and level of the candidates", "Errors",
                 "Precision and calibration", "Classes", "Failed or refused", "Left out", "Made with"):  # fmt: skip
        assert part in said
    assert all(value for name, value in checked.attributes if name == "aria-label")


def figures_of(folder):
    """Key -> plotly's JSON of each figure of a page."""
    text = (folder / "report.html").read_text()
    found = re.findall(
        r'<figure class="plot[^>]*data-key="([^"]+)">.*?application/json">(.*?)</script>', text, re.DOTALL
    )
    return {key: json.loads(data) for key, data in found}


def test_every_figure_is_plotlys_and_methods_have_one_color(page):
    figures = figures_of(page)
    assert len(figures) > 40
    assert {
        "0/differences",
        "0/errors",
        "0/classes",
        "0/curves/loss_classifier",
        "0/sampling/roi/negatives",
    } <= figures.keys()
    colors = {}
    for key, one in figures.items():
        for trace in one["data"]:
            drawn = trace.get("line", {}).get("color") or trace.get("marker", {}).get("color")
            if trace.get("legendgroup") in ("random", "ohem_paper", "iou_balanced") and drawn in LIGHT:
                colors.setdefault(trace["legendgroup"], set()).add(drawn)
        assert len(json.dumps(one["layout"].get("template", {}))) < 100, key  # plotly's own has 7 KB
    assert colors == {"random": {LIGHT[0]}, "ohem_paper": {LIGHT[1]}, "iou_balanced": {LIGHT[2]}}


def test_texts_of_runs_are_texts(page):
    text = (page / "report.html").read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; more" in text
    assert "&lt;b&gt;notes" in text


def test_names_stay_in_their_cells():
    """Names of classes and methods may be markup, several lines, or escapes that clear a terminal."""
    names = ["<b>&amp;", "a|b", "a\n\tb", "\x1b[2Jc"]
    part = Table([Column("class"), Column("<i>")], [[Cell(name), Cell("1")] for name in names])
    said = render_markdown([part]).splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1].strip() for line in said]
    assert cells[0] == "class"
    assert cells[2:] == ["&lt;b>&amp;amp;", r"a\|b", "a b", r"\x1b[2Jc"]
    assert "&lt;i>" in said[0]
    shown = [line.split("  ")[0].strip() for line in render_terminal([part]).splitlines()]
    assert shown[2:] == ["<b>&amp;", "a|b", "a b", r"\x1b[2Jc"]


def test_names_cannot_leave_the_figures_data(tmp_path):
    name = "</script><script>alert(1)</script>"
    write_arm(tmp_path, "random", [0.4, 0.41], heavy=False)
    write_arm(tmp_path, "ohem", [0.5, 0.51], heavy=False, choices={"sampler": name})
    assert main([str(tmp_path)]) == 0
    text = (tmp_path / "report" / "report.html").read_text()
    assert "<script>alert(1)" not in text
    effect = figures_of(tmp_path / "report")["0/differences"]
    assert effect["data"][0]["legendgroup"] == name
    assert effect["data"][0]["name"] == "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;"


def test_both_color_schemes_and_small_screens(page):
    text = (page / "report.html").read_text()
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def _luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one, other):
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag(page):
    text = (page / "report.html").read_text()
    light, dark = re.findall(r":root(?:\[[^\]]*\])? \{(.*?)\n *\}", text, re.DOTALL)[:2]
    for scheme, drawn in ((light, LIGHT), (dark, DARK)):
        colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        for name in ("fg", "muted", "better", "worse", "same", "open", "link"):
            assert _contrast(colors[name], colors["bg"]) >= 4.5, name
        assert _contrast(colors["warn-fg"], colors["warn-bg"]) >= 4.5
        for color in drawn:
            assert _contrast(color, colors["bg"]) >= 3, color


def _row(text, name):
    found = re.search(rf'<tr[^>]*>\s*<th scope="row">{name}</th>(.*?)</tr>', text, re.DOTALL)
    return found.group(1)


def test_tables_carry_their_numbers_for_sorting(page):
    text = (page / "report.html").read_text()
    row = _row(text, "ohem_paper")
    mean = (0.480 + 0.495 + 0.473 + 0.483 + 0.484) / 5
    assert f'<td class="num" data-v="{mean:.6g}">{mean:.3f}<' in row
    assert '<span class="verdict better">better</span>' in row


def test_heads_stand_as_their_columns_do_and_scores_sort_the_highest_first(page):
    text = (page / "report.html").read_text()
    assert re.search(
        r'<th scope="col" class="num"[^>]*><button type="button" data-first="descending">mAP</button>', text
    )
    assert re.search(r'<th scope="col"><button type="button" data-first="ascending">method</button>', text)


def test_compared_runs_of_different_machines_are_warned_about(page):
    said = " ".join(_parsed(page).text)
    assert "The compared runs differ in processor: EPYC (10 runs); another one (5 runs)." in said


def test_markdown_and_latex(page):
    markdown = (page / "report.md").read_text()
    assert "ohem_paper is better than random" in markdown
    assert re.search(r"\| \*\*ohem_paper\*\* +\| better +\| +0\.483 +\|", markdown)
    assert "python -m harness sampler=ohem" in markdown
    latex = (page / "report.tex").read_text()
    assert r"ohem\_paper" in latex
    assert "$+" not in latex
    # The main table, the failures and what was left out.
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 3
    body = latex.split(r"\midrule")[1].split(r"\bottomrule")[0]
    columns = len(re.search(r"tabular}\{(\w+)\}", latex).group(1))
    assert all(line.count(" & ") == columns - 1 for line in body.strip().splitlines())


def test_nothing_learned_has_no_verdict(tmp_path, capsys):
    """Scores between 0 and the margin lie within the margin, whatever was trained."""
    write_arm(tmp_path, "random", [0.001, 0.002, 0.001, 0.001, 0.002], heavy=False)
    write_arm(tmp_path, "ohem", [0.001, 0.002, 0.001, 0.003, 0.002], heavy=False)
    assert main([str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Nothing was learned: the mean mAP of every method is below 0.005" in said
    assert "is better than" not in said
    assert "the same as" not in said
    assert '<span class="verdict open">nothing learned</span>' in (tmp_path / "report" / "report.html").read_text()
    assert set(pd.read_csv(tmp_path / "report" / "summary.csv")["verdict"].dropna()) == {"nothing learned"}
    write_arm(tmp_path, "iou_balanced", [0.31, 0.30, 0.32, 0.31, 0.30], heavy=False)
    assert main([str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "ohem learned nothing, like random" in said, "as the sweeper says of this pair"
    assert "iou_balanced is better than random" in said
    assert main([str(tmp_path), "--goal", "best"]) == 0
    assert "ohem is worse than iou_balanced" in " ".join(capsys.readouterr().out.split())


def test_a_report_of_failures_alone(tmp_path):
    write_run(tmp_path, "ohem", 0, state=State.FAILED, reason="disk full")
    assert main([str(tmp_path)]) == 0
    said = " ".join(_parsed(tmp_path / "report").text)
    assert "No run has a result yet." in said
    assert "disk full" in said


def test_runs_without_telemetry_and_logs_have_no_empty_plots(tmp_path):
    write_arm(tmp_path, "random", [0.4, 0.41], heavy=False)
    write_arm(tmp_path, "ohem", [0.5, 0.51], heavy=False)
    assert main([str(tmp_path)]) == 0
    said = " ".join(_parsed(tmp_path / "report").text)
    assert "Difference in mAP" in said
    assert "What was sampled" not in said
    assert "Learning curves" not in said


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("metrics", "pr_curves", "curves", 0, "precision", 0), None),
        (("metrics", "calibration", "bins", 0, "lower"), "text"),
        (("metrics", "calibration", "bins"), 7),
        (("metrics", "per_class"), [{"category": "disc"}, 3]),
        (("metrics", "tide"), [1]),
        (("metrics", "map"), "high"),
        (("data", "fingerprint"), [1, 2]),
        (("cost",), None),
        (("sampling",), {"roi/sampled": 1}),
    ],
)
def test_parts_of_a_result_that_make_no_sense_do_not_stop_the_report(tmp_path, place, value):
    write_run(tmp_path, "random", 0, heavy=False)
    folder = write_run(tmp_path, "ohem", 0, heavy=False)
    result = json.loads((folder / "result.json").read_text())
    node = result
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    (folder / "result.json").write_text(json.dumps(result))
    assert main([str(tmp_path)]) == 0
    assert "ohem" in " ".join(_parsed(tmp_path / "report").text)


def test_spoilt_heavy_files_are_named_and_do_not_stop_the_report(tmp_path):
    folder = write_run(tmp_path, "random", 0)
    (folder / "sampling.npz").write_bytes(b"PK\x03\x04 half a file")
    (folder / "metrics.jsonl").write_text('{"iteration": 50, "loss": 1.0}\n{"iteration": 1')
    assert main([str(tmp_path)]) == 0
    assert f"{folder.name}: sampling.npz cannot be read" in " ".join(_parsed(tmp_path / "report").text)
