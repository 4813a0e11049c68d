"""The sheet that a waterfall is drawn on: colours, the axis of time, text that fits, the legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netio.testing._timeline.spans import FAMILIES
from netio.testing._timeline.words import length, safe, shortened, ticks, width_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netio.testing._timeline.spans import Story

WIDTH: Final = 1200.0
LEFT: Final = 230.0  # of the plot; the names stand before it
RIGHT: Final = 1180.0
TOP: Final = 34.0

_LETTER: Final = 6.3  # the width of one in pixels, about; system fonts are a little narrower

# A recording that ends a little before a deadline is drawn until then: what was left is seen.
_BEYOND_THE_END: Final = 1.25

COLOURS: Final = """
:root { --paper: #ffffff; --ink: #1b1f24; --soft: #667080; --line: #dfe3e8; --band: #f5f7f9;
  --read: #7fb2e5; --write: #74c7b4; --connect: #b9a2e0; --accept: #ccd3da; --other: #d5cfc0;
  --signal: #d3263a; --fault: #b0439f; --stream: #9aa5b1; --onbar: #10151a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181c; --ink: #e4e7eb; --soft: #98a2ae; --line: #30363d; --band: #1b1f24;
  --read: #3f78b3; --write: #2f8a77; --connect: #7a61ad; --accept: #4a535d; --other: #5d574a;
  --signal: #ff6270; --fault: #e184d3; --stream: #66717d; --onbar: #ffffff; } }
"""

_STYLE: Final = """
.waterfall { font: 11px system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
.waterfall .paper { fill: var(--paper); }
.waterfall text { fill: var(--ink); }
.waterfall .soft, .waterfall .tick { fill: var(--soft); }
.waterfall .name { font-weight: 600; }
.waterfall .small { font-size: 10px; }
.waterfall .onbar { fill: var(--onbar); }
.waterfall .signal { fill: var(--signal); }
.waterfall .grid { stroke: var(--line); stroke-width: 1; }
.waterfall .band { fill: var(--band); }
.waterfall .life { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 1 3; }
.waterfall .read { fill: var(--read); } .waterfall .write { fill: var(--write); }
.waterfall .connect { fill: var(--connect); } .waterfall .accept { fill: var(--accept); }
.waterfall .other { fill: var(--other); } .waterfall .stream { fill: var(--stream); }
.waterfall .hatch { fill: url(#netio-hatch); stroke: var(--signal); stroke-width: 1.5; }
.waterfall .beside { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.waterfall .through { pointer-events: none; }
.waterfall .hatch-line { stroke: var(--signal); stroke-width: 2; }
.waterfall .open { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 2 2; }
.waterfall .cancelled { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 4 2; }
.waterfall .failed { stroke: var(--fault); stroke-width: 2; }
.waterfall .bracket { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.waterfall .bracket.fired { stroke: var(--signal); stroke-width: 2; }
.waterfall .ahead { stroke: var(--soft); stroke-dasharray: 1 3; }
.waterfall .due { fill: var(--paper); stroke: var(--soft); }
.waterfall .due.by-hand { fill: var(--soft); }
.waterfall .due.fired { fill: var(--signal); stroke: var(--signal); }
.waterfall .moment { stroke: var(--signal); stroke-width: 1; stroke-dasharray: 3 3; opacity: .6; }
.waterfall .over { stroke: var(--soft); stroke-width: 1; }
.waterfall .mark { fill: var(--ink); } .waterfall .fault { fill: var(--fault); }
.waterfall g:hover > rect, .waterfall g:hover > path { filter: brightness(1.15); }
"""

_HATCH: Final = (
    '<defs><pattern id="netio-hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><line class="hatch-line" x1="0" y1="0" x2="0" y2="6"/>'
    "</pattern></defs>"
)


class Sheet:
    """Where things are put: x by time, y by what was put before.

    Attributes:
        y: where the next row begins.
        span: what the axis covers, in seconds.
    """

    def __init__(self, story: Story) -> None:
        self.y = TOP
        self.end = story.duration
        self.span = _span(story)
        self._bands: list[str] = []
        self._parts: list[str] = []

    def x(self, time: float) -> float:
        """Where `time` is; at the border of the plot for what is beyond it."""
        share = time / self.span if self.span > 0 else 0.0
        return LEFT + (RIGHT - LEFT) * min(max(share, 0.0), 1.0)

    def put(self, part: str) -> None:
        """Add a shape."""
        self._parts.append(part)

    def titled(self, title: str, *shapes: str) -> None:
        """Add shapes that tell what they are when they are pointed at."""
        self.put(f"<g><title>{safe(title)}</title>{''.join(shapes)}</g>")

    def band(self, top: float, height: float) -> None:
        """Set off a row, behind everything."""
        place = f'y="{top:.1f}" width="{WIDTH:.0f}" height="{height:.1f}"'
        self._bands.append(f'<rect class="band" x="0" {place}/>')

    def wide(self, text: str) -> float:
        """How wide `text` is in pixels, about."""
        return width_of(text) * _LETTER

    def fitting(self, room: float, *texts: str) -> str:
        """What fits into `room` pixels: one of `texts`, or the beginning of the last; or ``""``."""
        for text in texts:
            if width_of(text) * _LETTER <= room:
                return text
        text = shortened(texts[-1], room / _LETTER)
        return text if len(text) >= 4 else ""

    def text(self, x: float, y: float, room: float, *texts: str, style: str = "") -> float:
        """Write what is `fitting`; how many pixels it has taken."""
        text = self.fitting(room, *texts)
        if text:
            style = f' class="{style}"' if style else ""
            self.put(f'<text x="{x:.1f}" y="{y:.1f}"{style}>{safe(text)}</text>')
        return self.wide(text)

    def svg(self, moments: list[float]) -> str:
        """All of it, with the axis; a line goes through all rows at each of `moments`."""
        bottom = self.y
        _legend(self)
        lines = [*self._bands, *_axis(self, bottom, moments)]
        return (
            '<svg class="waterfall" xmlns="http://www.w3.org/2000/svg" role="img" '
            'aria-label="Waits and scopes of each task over time" '
            f'width="{WIDTH:.0f}" height="{self.y:.0f}" '
            f'viewBox="0 0 {WIDTH:.0f} {self.y:.0f}">\n<style>{COLOURS}{_STYLE}</style>\n'
            f'{_HATCH}<rect class="paper" width="100%" height="100%"/>\n'
            + "\n".join([*lines, *self._parts])
            + "\n</svg>\n"
        )


def _span(story: Story) -> float:
    """Until the end, or a little more for a deadline that was not far."""
    last = max((task.last for task in story.tasks), default=0.0)
    end = max(story.duration, last)
    deadlines = [s.deadline for task in story.tasks for s in task.scopes if s.deadline is not None]
    near = [deadline for deadline in deadlines if deadline <= end * _BEYOND_THE_END]
    return max([end, *near])


def _axis(sheet: Sheet, bottom: float, moments: list[float]) -> Iterator[str]:
    for time, text in ticks(sheet.span):
        x = sheet.x(time)
        yield f'<path class="grid" d="M{x:.1f} {TOP - 8:.1f}V{bottom:.1f}"/>'
        place = f'x="{x:.1f}" y="{TOP - 14:.1f}"'
        yield f'<text class="tick" {place} text-anchor="middle">{text}</text>'
    for x in sorted({round(sheet.x(moment), 1) for moment in moments}):
        yield f'<path class="moment" d="M{x:.1f} {TOP - 8:.1f}V{bottom:.1f}"/>'
    if sheet.end < sheet.span:
        title = f"<title>the recording ended at {length(sheet.end)}</title>"
        x = sheet.x(sheet.end)
        yield f'<g>{title}<path class="over" d="M{x:.1f} {TOP - 8:.1f}V{bottom:.1f}"/>'
        yield f'<text class="tick" x="{x + 3:.1f}" y="{TOP - 1:.1f}">end</text></g>'


def triangle(x: float, y: float, style: str) -> str:
    """It points down, to a deadline on the line of a scope at height `y`."""
    return f'<path class="{style}" d="M{x - 4.5:.1f} {y - 9:.1f}h9l-4.5 8z"/>'


def diamond(x: float, y: float, style: str) -> str:
    """A moment, around this point."""
    return f'<path class="{style}" d="M{x:.1f} {y - 5:.1f}l4.5 5l-4.5 5l-4.5 -5z"/>'


def _legend(sheet: Sheet) -> None:
    y = sheet.y + 16
    x = 10.0
    names = {"connect": "lookup, connect", "other": "other wait"}
    for family in (*FAMILIES, "other"):
        x = _swatch(sheet, x, y, names.get(family, family), family)
    x = _swatch(sheet, x, y, "ended by a limit", "read", "hatch")
    x = _swatch(sheet, x, y, "cancelled", "read cancelled")
    x = _swatch(sheet, x, y, "failed, or ended by the peer", "read failed")
    _swatch(sheet, x, y, "still waiting at the end", "read open")
    x, y = 10.0, y + 20
    sheet.put(f'<path class="bracket" d="M{x} {y + 3}v7h22v-7"/>')
    x = _legend_text(sheet, x + 28, y, "scope: from entering to leaving")
    sheet.put(triangle(x + 5, y + 11, "due"))
    x = _legend_text(sheet, x + 14, y, "its deadline, not reached")
    sheet.put(triangle(x + 5, y + 11, "due fired"))
    x = _legend_text(sheet, x + 14, y, "its deadline, at which it fired")
    sheet.put(diamond(x + 5, y + 6, "fault"))
    x = _legend_text(sheet, x + 14, y, "a fault fired")
    sheet.put(diamond(x + 5, y + 6, "mark"))
    x = _legend_text(sheet, x + 14, y, "a mark")
    sheet.put(f'<path class="life" d="M{x:.1f} {y + 6}h22"/>')
    _legend_text(sheet, x + 28, y, "at work, or waiting for something else")
    sheet.y = y + 24


def _swatch(sheet: Sheet, x: float, y: float, text: str, *styles: str) -> float:
    for style in styles:
        place = f'x="{x:.1f}" y="{y:.1f}" width="18" height="12" rx="2"'
        sheet.put(f'<rect class="{style}" {place}/>')
    return _legend_text(sheet, x + 23, y, text)


def _legend_text(sheet: Sheet, x: float, y: float, text: str) -> float:
    sheet.put(f'<text class="soft" x="{x:.1f}" y="{y + 10:.1f}">{text}</text>')
    return x + width_of(text) * (_LETTER - 0.2) + 16
