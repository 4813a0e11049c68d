"""The picture: bars for what each side costs, as an SVG that needs nothing from outside.

A group for each workload, a row for each side, a column for each loop. All bars of a group have
one scale, so that they can be compared across the columns as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from xml.sax.saxutils import escape

from measure import Result
from report import LOOPS, PER
from sides import TEXTS, is_ours

WIDTH, MARGIN = 1000, 20
LABELS = 290  # pixels for the names of the sides
COLUMN = (WIDTH - 2 * MARGIN - LABELS) // len(LOOPS)
BAR = COLUMN - 80  # the longest; the rest is for its number
ROW, THICK = 18, 12
GROUP_HEAD, GROUP_GAP = 24, 16

OURS, THEIRS, TEXT, FAINT = "#2563eb", "#a3adb8", "#1f2933", "#616e7c"
UNITS = {"cpu": (1e6, "us"), "wall": (1e6, "us"), "memory": (1 / 1024, "KiB")}


def plot(results: Iterable[Result], heading: str) -> str:
    """The whole file."""
    y = MARGIN
    body = []
    for line in heading.splitlines():
        y += ROW
        body.append(text(MARGIN, y, line, FAINT))
    y += 2 * ROW
    for column, loop in enumerate(LOOPS.values()):
        body.append(text(bar_start(column), y, loop, bold=True))
    for _, group in groupby(results, key=lambda result: result.workload.name):
        y += GROUP_GAP
        rows, y = draw_group(list(group), y)
        body += rows
    return "\n".join([*opening(y + MARGIN), *body, "</svg>", ""])


def opening(height: int) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" font-family="sans-serif" font-size="12">'
    )
    yield "<title>What each side costs, per operation; less is better</title>"
    yield f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'


def draw_group(results: list[Result], y: int) -> tuple[list[str], int]:
    """The bars of one workload from `y` on, and where they end."""
    workload = results[0].workload
    factor, unit = UNITS[workload.figure]
    y += GROUP_HEAD - 8
    drawn = [text(MARGIN, y, f"{workload.what}: {PER[workload.figure]}, {unit}", bold=True)]
    y += 8
    names = list(dict.fromkeys(name for result in results for name in result.samples))
    longest = max(min(result.figures(name)) for result in results for name in result.samples)
    for name in names:
        drawn.append(text(MARGIN + 10, y + ROW - 5, TEXTS[name]))
        for result in results:
            if name in result.samples:
                figure = min(result.figures(name))
                x = bar_start(list(LOOPS).index(result.loop))
                length = max(1, round(BAR * figure / longest))
                drawn.append(bar(x, y + (ROW - THICK) // 2, length, is_ours(name)))
                drawn.append(text(x + length + 5, y + ROW - 5, number(figure * factor), FAINT))
        y += ROW
    return drawn, y


def bar_start(column: int) -> int:
    return MARGIN + LABELS + column * COLUMN


def bar(x: int, y: int, length: int, ours: bool) -> str:
    fill = OURS if ours else THEIRS
    return f'<rect x="{x}" y="{y}" width="{length}" height="{THICK}" fill="{fill}"/>'


def text(x: int, y: int, content: str, fill: str = TEXT, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" fill="{fill}"{weight}>{escape(content)}</text>'


def number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
