"""A recording as one self-contained page: what fired and where its time went, and the waterfall.

Nothing is loaded and nothing runs: it is HTML, CSS and SVG. All text that the recording brings is
escaped, and the page forbids scripts, so that a name a peer has chosen stays a name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netio._operation import LIMIT_WORDS
from netio.testing._timeline.drawing import drawing_of
from netio.testing._timeline.shares import Piece, pieces_of, tasks_within
from netio.testing._timeline.sheet import COLOURS
from netio.testing._timeline.spans import Firing, ScopeSpan, Story
from netio.testing._timeline.words import length, safe, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netio.testing._timeline.event import Plain

MAX_FIRINGS: Final = 12
MAX_PIECES: Final = 8

_STYLE: Final = """
body { margin: 0 auto; padding: 20px 24px 40px; max-width: 1200px; background: var(--paper);
  color: var(--ink); font: 14px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 20px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 15px; margin: 26px 0 8px; }
p { margin: 4px 0; }
.about, .note, .more { color: var(--soft); }
.firing { border-left: 4px solid var(--signal); padding: 2px 0 2px 12px; margin: 10px 0 16px; }
.firing.calm { border-color: var(--line); }
.firing b { overflow-wrap: anywhere; }
.share { display: flex; height: 16px; max-width: 900px; margin: 6px 0; border-radius: 3px;
  overflow: hidden; background: var(--band); }
.share i { display: block; min-width: 2px; box-sizing: border-box;
  border-right: 1px solid var(--paper); }
.read { background: var(--read); } .write { background: var(--write); }
.connect { background: var(--connect); } .accept { background: var(--accept); }
.other { background: var(--other); }
.rest { background: repeating-linear-gradient(90deg, var(--line) 0 2px, transparent 2px 5px); }
i.hit { border: 2px solid var(--signal); }
table { border-collapse: collapse; font-size: 13px; }
td { padding: 1px 14px 1px 0; vertical-align: baseline; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.name { overflow-wrap: anywhere; }
td i { display: inline-block; width: 11px; height: 11px; border-radius: 2px;
  box-sizing: border-box; }
.scroll { overflow-x: auto; }
"""

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def page(story: Story, *, title: str, virtual: bool, left_out: int) -> str:
    """The page. `left_out`: events that the recording had no room for."""
    heading = title or "What netio waited for"
    body = [f"<h1>{safe(heading)}</h1>", f'<p class="about">{_about(story, virtual=virtual)}</p>']
    if story.events:
        drawing = drawing_of(story)
        body += [*_limits(story), "<h2>Over time</h2>"]
        body += (f'<p class="note">{safe(note)}</p>' for note in drawing.notes)
        if left_out:
            body.append(
                f'<p class="note">The recording was full: {left_out} later events are missing.</p>'
            )
        body += [f'<div class="scroll">{drawing.svg}</div>', _POINT]
    else:
        body.append(_EMPTY)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{safe(heading)}</title>\n<style>{COLOURS}{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


_POINT: Final = '<p class="more">Point at a bar, a bracket or a name for its details.</p>'
_EMPTY: Final = """<p>Nothing was recorded. While the recording ran, no scope was entered, no stream
was opened, and no operation of netio had to wait: what is there at once, buffered bytes for
instance, makes no event. Where no loop runs when the recording begins, it takes the first one on
which something of netio happens, in the same thread.</p>"""


def _about(story: Story, *, virtual: bool) -> str:
    waits = sum(len(task.waits) for task in story.tasks)
    counts = [
        _counted(len(story.tasks), "task"),
        _counted(len(story.streams), "stream"),
        _counted(waits, "wait"),
        f"{length(story.duration)} on {'a virtual' if virtual else 'the real'} clock",
    ]
    return " · ".join(counts)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


# Which limits fired, and where their time went. -------------------------------------------------


def _limits(story: Story) -> Iterator[str]:
    groups = _alike(story.firings)
    if groups:
        yield f"<h2>{_counted(len(story.firings), 'limit')} fired</h2>"
        for group in groups[:MAX_FIRINGS]:
            yield from _firing(group, story)
        if len(groups) > MAX_FIRINGS:
            rest = sum(map(len, groups[MAX_FIRINGS:]))
            yield f'<p class="note">and {rest} others, later.</p>'
        return
    yield "<h2>No limit fired</h2>"
    scopes = [scope for task in story.tasks for scope in task.scopes if scope.seconds is not None]
    # The one that came nearest to its limit tells most.
    nearest = max(scopes, key=lambda scope: _share_used(scope, story), default=None)
    if nearest is not None and _share_used(nearest, story) >= 0.01:
        used = f"used {_share_used(nearest, story):.0%} of its {length(nearest.seconds or 0.0)}"
        yield '<div class="firing calm">'
        yield f"<p>The nearest to it: {_scope_name(nearest)} in task {_b(nearest.task)} {used}.</p>"
        yield from _pieces(nearest, story)
        yield "</div>"


def _share_used(scope: ScopeSpan, story: Story) -> float:
    end = story.duration if scope.ended is None else scope.ended
    return (end - scope.began) / scope.seconds if scope.seconds else 0.0


def _alike(firings: list[Firing]) -> list[list[Firing]]:
    """Those that differ only in when they fired and in which task, in the order of the first."""
    groups: dict[tuple[object, ...], list[Firing]] = {}
    for firing in firings:
        seconds = firing.scope.seconds if firing.scope else firing.details.get("seconds")
        during = (firing.wait.operation, firing.wait.details.get("peer")) if firing.wait else None
        key = (firing.scope is None, firing.name, firing.details.get("limit"), seconds, during)
        groups.setdefault(key, []).append(firing)
    return list(groups.values())


def _firing(group: list[Firing], story: Story) -> Iterator[str]:
    firing = group[0]
    scope, wait = firing.scope, firing.wait
    if scope is None:
        words = LIMIT_WORDS.get(str(firing.details.get("limit")), "its deadline")
        what = f"{_operation(firing.name, firing.details)} reached {words}{_of_seconds(firing)}"
    else:
        limit = "" if scope.seconds is None else f" ({length(scope.seconds)})"
        during = "" if wait is None else f" during {_operation(wait.operation, wait.details)}"
        what = f"{_scope_name(scope)}{limit} fired{during}"
    when = f"at {length(firing.time)} in task {_b(firing.task)}"
    if len(group) > 1:
        when = f"{len(group)} times, first {when}, last at {length(group[-1].time)}"
    yield f'<div class="firing">\n<p>{what} {when}.</p>'
    if scope is not None:
        yield from _pieces(scope, story)
    yield "</div>"


def _of_seconds(firing: Firing) -> str:
    seconds = firing.details.get("seconds")
    return f" ({length(seconds)})" if isinstance(seconds, (int, float)) else ""


def _operation(name: str, details: dict[str, Plain]) -> str:
    """With whom, and how far it was."""
    text = _b(name)
    if details.get("peer") is not None:
        text += f" with {safe(shortened(str(details['peer']), 80))}"
    done, expected = details.get("done"), details.get("expected")
    if expected is not None:
        text += f" ({done} of {expected} bytes)"
    elif done:
        text += f" ({done} bytes)"
    return text


def _pieces(scope: ScopeSpan, story: Story) -> Iterator[str]:
    """Where the time of a scope went, if not all to one thing; and who else was at work in it."""
    pieces = pieces_of(scope, story)
    whole = sum(piece.seconds for piece in pieces)
    if len(pieces) > 1 and whole > 0:
        yield from _shares(pieces, whole)
    within = [safe(shortened(task.name, 40)) for task in tasks_within(scope, story)]
    if within:
        more = f" and {len(within) - 5} more" if len(within) > 5 else ""
        names = ", ".join(within[:5])
        yield f'<p class="more">Tasks that were started in it: {names}{more}.</p>'


def _shares(pieces: list[Piece], whole: float) -> Iterator[str]:
    shown = pieces if len(pieces) <= MAX_PIECES else _largest(pieces)
    yield '<div class="share">'
    for piece in shown:
        width = f"width:{piece.seconds / whole:.3%}"
        yield f'<i class="{_look(piece)}" style="{width}" title="{safe(piece.name)}"></i>'
    yield "</div>\n<table>"
    for piece in shown:
        times = f" ({piece.count} times)" if piece.count > 1 else ""
        yield (
            f'<tr><td><i class="{_look(piece)}"></i></td>'
            f'<td class="number">{length(piece.seconds)}</td>'
            f'<td class="number">{piece.seconds / whole:.0%}</td>'
            f'<td class="name">{safe(shortened(piece.name, 110))}{times}{_cut(piece)}</td></tr>'
        )
    yield "</table>"


def _largest(pieces: list[Piece]) -> list[Piece]:
    """The largest in the order they came in, and the others as one."""
    kept = sorted(pieces, key=lambda piece: -piece.seconds)[: MAX_PIECES - 1]
    others = [piece for piece in pieces if piece not in kept]
    rest = Piece(f"{len(others)} others", sum(p.seconds for p in others), 1, others[0].wait)
    return [piece for piece in pieces if piece in kept] + [rest]


def _cut(piece: Piece) -> str:
    how = "" if piece.wait is None else piece.wait.how
    return {"limit": ", ended by its limit", "scope": ", cut by the scope"}.get(how, "")


def _look(piece: Piece) -> str:
    if piece.wait is None:
        return "rest"
    hit = " hit" if piece.wait.how in ("limit", "scope") else ""
    return piece.wait.family + hit


def _scope_name(scope: ScopeSpan) -> str:
    return "a scope without a name" if scope.name == "scope" else f"scope {_b(scope.name)}"


def _b(text: object) -> str:
    return f"<b>{safe(shortened(str(text), 80))}</b>"
