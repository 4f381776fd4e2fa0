"""One style per method name over all contexts of a report, so that a name looks the same in every section.

A style is an index that `harness.report.figures.style` turns into a color, a dash, a marker and a pattern. Index 0,
gray and solid, is for baselines. There are ``NUM_METHODS`` colors: index i and index i + ``NUM_METHODS`` share their
color, but not their dash, marker and pattern.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from harness.report.figures.style import NUM_METHODS

BASELINE = 0


def method_styles(contexts: Iterable[tuple[Sequence[str], Collection[str]]]) -> dict[str, int]:
    """The style of every method of a report.

    A name keeps the style of the first context that has it, so that a context that is added at the end changes none of
    the styles before it. That rule comes first: a baseline that another context showed as a compared method before
    keeps the style that it had there.

    Args:
        contexts: the names of each context in the order of its rows, and which of them are baselines.
    """
    styles: dict[str, int] = {}
    for names, baselines in contexts:
        styles = with_names(styles, names, baselines)
    return styles


def with_names(styles: Mapping[str, int], names: Sequence[str], baselines: Collection[str] = ()) -> dict[str, int]:
    """``styles``, and one for each name that has none yet.

    The first new baseline is gray, unless one of ``names`` is already. Any other new name takes the color that the
    fewest of ``names`` have, among these the one that the fewest names of the report have; gray only where no baseline
    has it and all other colors are taken. No two names share a style, but for baselines that never met.
    """
    found = dict(styles)
    new = [name for name in dict.fromkeys(names) if name not in found]
    heads = [name for name in new if name in baselines]
    if heads and BASELINE not in {found.get(name) for name in names}:
        found[heads[0]] = BASELINE
        new.remove(heads[0])
    here = Counter(found[name] % NUM_METHODS for name in names if name in found)
    used = Counter(style % NUM_METHODS for style in {*found.values(), BASELINE})
    shades = range(1, NUM_METHODS) if here[BASELINE] else [*range(1, NUM_METHODS), BASELINE]
    for name in new:
        shade = min(shades, key=lambda shade: (here[shade], shade == BASELINE, used[shade]))
        found[name] = shade + NUM_METHODS * used[shade]
        here[shade] += 1
        used[shade] += 1
    return found
