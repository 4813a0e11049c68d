"""Words and numbers as the page of a timeline shows them: times, ticks of the axis, safe text."""

from __future__ import annotations

import html
import math
import unicodedata
from typing import Final

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

# Steps of an axis in seconds, where 1, 2 and 5 of a power of ten are not what people count in.
_LONG_STEPS: Final = (
    *(10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10800, 21600, 43200, 86400),
)


def safe(text: object) -> str:
    """`text` for HTML, SVG and their attributes: a peer may have chosen it."""
    return html.escape(clean(str(text)), quote=True)


def clean(text: str) -> str:
    """`text` without what has no place in a document, or would turn the text around it round."""
    if text.isprintable():  # nearly always
        return text
    return "".join(_REPLACEMENT if _is_unsafe(char) else char for char in text)


def _is_unsafe(char: str) -> bool:
    # Control characters, halves of pairs and U+FFFE are no XML; format characters reorder a line.
    if char == "\n" or char.isprintable():
        return False
    return unicodedata.category(char) in ("Cc", "Cs", "Cf") or ord(char) & 0xFFFE == 0xFFFE


def width_of(text: str) -> float:
    """How wide `text` is, about, in widths of a Latin letter."""
    return sum(2.0 if unicodedata.east_asian_width(char) in "WF" else 1.0 for char in text)


def shortened(text: str, letters: float) -> str:
    """`text`, or its beginning and an ellipsis, in the room of so many letters."""
    if width_of(text) <= letters:
        return text
    room = letters - 1
    kept = 0
    for char in text:
        room -= width_of(char)
        if room < 0:
            break
        kept += 1
    return text[:kept].rstrip() + "\N{HORIZONTAL ELLIPSIS}" if kept else ""


def length(seconds: float) -> str:
    """A length of time as a person says it: ``0 s``, ``250 ms``, ``1.5 s``, ``2 min 30 s``."""
    if seconds < 0:
        return f"-{length(-seconds)}"
    for unit, size in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3)):
        if 0 < seconds < size * 999.5:
            return f"{_three_digits(seconds / size)} {unit}"
    if seconds < 119.5:
        return f"{_three_digits(seconds)} s"
    whole = round(seconds)
    if whole < 7200 and whole != 3600:
        return _two_units(whole, 60, "min", "s")
    whole = round(seconds / 60)
    if whole < 2 * 24 * 60:
        return _two_units(whole, 60, "h", "min")
    return _two_units(round(whole / 60), 24, "d", "h")


def _two_units(count: int, size: int, large: str, small: str) -> str:
    whole, rest = divmod(count, size)
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"


def _three_digits(number: float) -> str:
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    text = f"{number:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ticks(span: float, most: int = 9) -> list[tuple[float, str]]:
    """Where an axis from 0 to `span` seconds has its ticks, and what is written there."""
    if span <= 0:
        return [(0.0, "0 s")]
    step = _step(span / most)
    count = math.floor(span / step * (1 + 1e-9))
    return [(number * step, _tick(number, step, span)) for number in range(count + 1)]


def _step(least: float) -> float:
    if least > 10:
        for long in _LONG_STEPS:
            if long >= least:
                return float(long)
        return 86400.0 * _step_of_ten(least / 86400)
    return _step_of_ten(least)


def _step_of_ten(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _tick(number: int, step: float, span: float) -> str:
    """All ticks of an axis in one unit, and with as many digits as its step needs."""
    if number == 0:
        return "0"
    if step >= 60 and number * step < 3600:
        return f"{number * step / 60:.0f} min"
    if step >= 10:
        return length(number * step)
    unit, size = next((u for u in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)) if span >= u[1]), _NS)
    digits = max(0, -math.floor(math.log10(step / size) + 1e-9))
    return f"{number * step / size:.{digits}f} {unit}"


_NS: Final = ("ns", 1e-9)
