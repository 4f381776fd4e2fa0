"""The page in a real browser: figures draw, nothing overlaps, hover, zoom, toggling, sorting and dark colors work."""

import pytest

from harness.report.command import main
from harness.report.figures.style import DARK, LIGHT
from tests.report.chromium import PROGRAM, Browser
from tests.report.folders import write_arm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed"),
]

DRAWN = "document.querySelector('.canvas .main-svg')"
FOREST = "document.querySelector('[data-key$=\"differences\"] .canvas')"
CURVE = "document.querySelector('[data-key$=\"loss_classifier\"] .canvas')"
SEEN = "[...document.querySelectorAll('.canvas')].filter((c) => c.checkVisibility())"
DRAW_ALL = f"Promise.all({SEEN}.map((c) => draw(c))).then(() => true)"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    write_arm(root, "random", [0.400, 0.412, 0.395, 0.404, 0.402], shadows=("ohem",))
    write_arm(root, "ohem_paper", [0.480, 0.495, 0.473, 0.483, 0.484])
    write_arm(root, "iou_balanced", [0.401, 0.410, 0.400, 0.405, 0.401], optimizer__lr=0.001, run__batch_size=16)
    assert main([str(root)]) == 0
    return root / "report" / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1240, 390])
def test_all_figures_draw_and_nothing_overlaps(browser, page, width, dark):
    browser.open(page, width, dark=dark)
    browser.wait(DRAWN)
    browser.evaluate(DRAW_ALL)
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
    assert browser.evaluate("[...document.querySelectorAll('.canvas')].filter((c) => c.checkVisibility())"
                            ".every((c) => c.querySelector('.main-svg'))")  # fmt: skip
    # Blocks of the page, and the labels of the forest plot, do not lie on each other.
    overlaps = """(boxes) => boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) =>
        Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1).map((b) => [a, b])).length"""
    blocks = "[...document.querySelectorAll('h1, h2, h3, h4, p, li, figcaption, .canvas, .scroll, summary')]"
    visible = f"{blocks}.filter((e) => e.checkVisibility()).map((e) => e.getBoundingClientRect())"
    assert browser.evaluate(f"({overlaps})({visible})") == 0
    labels = f"[...{FOREST}.querySelectorAll('.annotation')].map((e) => e.getBoundingClientRect())"
    assert browser.evaluate(f"{labels}.length") == 2
    assert browser.evaluate(f"({overlaps})({labels})") == 0
    inside = f"{labels}.every((box) => box.left >= -1 && box.right <= {width} + 1)"
    assert browser.evaluate(inside)
    colors = browser.evaluate("JSON.stringify([...document.querySelectorAll('.canvas')].filter((c) => c.data)"
                              ".map((c) => c.data.map((t) => [t.line?.color, t.marker?.color])))")  # fmt: skip
    assert (DARK[1] in colors, LIGHT[1] in colors) == (dark, not dark)
    assert browser.errors == []


def _middle(browser, canvas):
    browser.evaluate(f"{canvas}.scrollIntoView({{block: 'center'}})")
    browser.wait(f"{canvas}.querySelector('.nsewdrag')")
    box = browser.evaluate(f"(({{x, y, width, height}}) => [x, y, width, height])"
                           f"({canvas}.querySelector('.nsewdrag').getBoundingClientRect())")  # fmt: skip
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def test_hover_tells_the_values(browser, page):
    browser.open(page, 1240)
    browser.wait(DRAWN)
    x, y = _middle(browser, CURVE)
    browser.mouse("mouseMoved", x - 3, y)
    browser.mouse("mouseMoved", x, y)
    browser.wait(f"{CURVE}.querySelector('.hoverlayer .legend, .hoverlayer .hovertext')", 10)
    told = browser.evaluate(f"{CURVE}.querySelector('.hoverlayer').textContent")
    assert "ohem_paper" in told
    assert "random" in told


def test_a_drag_zooms(browser, page):
    browser.open(page, 1240)
    browser.wait(DRAWN)
    x, y = _middle(browser, CURVE)
    before = browser.evaluate(f"{CURVE}.layout.xaxis.range")
    browser.mouse("mouseMoved", x - 40, y - 30)
    browser.mouse("mousePressed", x - 40, y - 30, "left")
    for step in range(1, 9):
        browser.mouse("mouseMoved", x - 40 + 10 * step, y - 30 + 7 * step, "left")
    browser.mouse("mouseReleased", x + 40, y + 26, "left")
    browser.wait(f"JSON.stringify({CURVE}.layout.xaxis.range) !== JSON.stringify({before})", 10)
    low, high = browser.evaluate(f"{CURVE}.layout.xaxis.range")
    assert before[0] < low < high < before[1]


def test_a_chip_hides_its_method_everywhere(browser, page):
    browser.open(page, 1240)
    browser.wait(DRAWN)
    browser.evaluate(DRAW_ALL)
    chip = "document.querySelector('.method[data-method=ohem_paper]')"
    shown = (
        "[...document.querySelectorAll('.canvas')].filter((c) => c.data)"
        ".flatMap((c) => c.data.filter((t) => t.legendgroup === 'ohem_paper' && t.visible !== false)).length"
    )
    assert browser.evaluate(shown) > 10
    browser.evaluate(f"{chip}.click()")
    assert browser.evaluate(f"{chip}.getAttribute('aria-pressed')") == "false"
    browser.wait(f"{shown} === 0", 20)
    browser.evaluate(f"{chip}.click()")
    browser.wait(f"{shown} > 10", 20)


def test_scores_sort_the_highest_first(browser, page):
    browser.open(page, 1240)
    browser.wait("document.documentElement?.dataset.theme")  # the page's script has run
    head = "[...document.querySelectorAll('table.sortable th button')].find((b) => b.textContent === 'mAP')"
    names = "[...document.querySelector('table.sortable').tBodies[0].rows].map((r) => r.cells[0].textContent)"
    browser.evaluate(f"{head}.click()")
    assert browser.evaluate(names)[0] == "ohem_paper"
    browser.evaluate(f"{head}.click()")
    assert browser.evaluate(names)[-1] == "ohem_paper"


def test_the_button_changes_the_colors(browser, page):
    browser.open(page, 1240)
    browser.wait(DRAWN)
    color = f"{FOREST}.data.at(-1).marker.color"
    assert browser.evaluate(color) in LIGHT
    browser.evaluate("document.getElementById('theme').click()")
    browser.wait(f"{list(DARK)}.includes({color})", 20)
