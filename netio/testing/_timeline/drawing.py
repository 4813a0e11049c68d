"""The waterfall of a recording, as one SVG: a row for each task, and one for each stream.

A task has a lane for each depth of its scopes, drawn as brackets, one for its waits, drawn as
bars, and one for marks, if it has any. What ended by a limit has the signal colour. What there is
too much of is joined where it is too small to be seen anyway, and left out where it would have
rows beyond number; what was left out is said in `Drawing.notes`.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from netio.testing._timeline import about as about
from netio.testing._timeline.sheet import LEFT, RIGHT, WIDTH, Sheet, diamond, triangle
from netio.testing._timeline.spans import ScopeSpan, WaitSpan
from netio.testing._timeline.words import length, safe, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netio.testing._timeline.spans import Moment, Story, StreamSpan, TaskSpan

# What a browser draws at once and scrolls without delay.
MAX_TASKS: Final = 100
MAX_STREAMS: Final = 60
MAX_DEPTH: Final = 12
MAX_SHAPES: Final = 4000  # waits and scopes; and again as many marks
MAX_MOMENTS: Final = 12  # lines through all rows; more of them tell nothing

_LANE: Final = 22.0
_GAP: Final = 10.0

_BORDERS: Final = {"": " open", "cancelled": " cancelled", "failed": " failed", "end": " failed"}

SpanT = TypeVar("SpanT", WaitSpan, ScopeSpan)


@dataclasses.dataclass(slots=True)
class Drawing:
    """An SVG, and what could not be drawn in it, in sentences."""

    svg: str
    notes: list[str]


@dataclasses.dataclass(slots=True)
class _Joined(Generic[SpanT]):
    """One wait or scope, or several that are too small to be told apart, from x to x."""

    begin: float
    end: float
    spans: list[SpanT]

    @property
    def hit(self) -> bool:
        return any(span.hit for span in self.spans)


@dataclasses.dataclass(slots=True)
class _Row:
    """What is drawn of a task: its scopes by depth, and its waits."""

    task: TaskSpan
    scopes: list[list[_Joined[ScopeSpan]]]
    waits: list[_Joined[WaitSpan]]

    @property
    def shapes(self) -> int:
        return len(self.waits) + sum(map(len, self.scopes))


def drawing_of(story: Story) -> Drawing:
    """Draw `story`."""
    sheet = Sheet(story)
    notes: list[str] = []
    rows = _rows(sheet, _chosen_tasks(story, notes), notes)
    _outside_tasks(sheet, story.moments)
    for number, row in enumerate(rows):
        top = sheet.y
        _draw_task(sheet, row)
        if number % 2 == 0:
            sheet.band(top, sheet.y - top)
    _streams(sheet, story, notes)
    moments = {firing.time for firing in story.firings}
    return Drawing(sheet.svg(sorted(moments) if len(moments) <= MAX_MOMENTS else []), notes)


# What is drawn, where there is too much. --------------------------------------------------------


def _chosen_tasks(story: Story, notes: list[str]) -> list[TaskSpan]:
    """All tasks, or those in which a limit fired, those that go on, and the earliest others."""
    tasks = [task for task in story.tasks if task.scopes or task.waits or task.moments]
    if len(tasks) < len(story.tasks):
        count = len(story.tasks) - len(tasks)
        which = "A task that" if count == 1 else f"{count} tasks that"
        notes.append(f"{which} neither had a scope nor had to wait {_is(count)} not drawn.")
    if len(tasks) <= MAX_TASKS:
        return tasks
    fired = {firing.task for firing in story.firings}
    order = sorted(
        range(len(tasks)), key=lambda n: (tasks[n].name not in fired, not tasks[n].open, n)
    )
    left_out = [tasks[n] for n in order[MAX_TASKS:]]
    also_fired = sum(task.name in fired for task in left_out)
    notes.append(
        f"{len(left_out)} of {len(tasks)} tasks are not drawn: "
        + (f"limits fired in {also_fired} of them" if also_fired else "no limit fired in them")
        + f". The first of them is “{shortened(left_out[0].name, 60)}”."
    )
    return [tasks[n] for n in sorted(order[:MAX_TASKS])]


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _rows(sheet: Sheet, tasks: list[TaskSpan], notes: list[str]) -> list[_Row]:
    """Each wait and each scope by itself or, where these are too many, joined with its like."""
    near = 0.0
    while True:
        rows = [_row(sheet, task, near) for task in tasks]
        drawn = sum(row.shapes for row in rows)
        if drawn <= MAX_SHAPES or near > RIGHT:
            break
        near = max(1.0, near * 1.5)
    if near:
        count = sum(len(task.waits) + len(task.scopes) for task in tasks)
        notes.append(
            f"{count} waits and scopes are drawn as {drawn}: what is shorter than "
            f"{length(near * sheet.span / (RIGHT - LEFT))} is joined with what is beside it."
        )
    deepest = max((s.depth + 1 for task in tasks for s in task.scopes), default=0)
    if deepest > MAX_DEPTH:
        notes.append(f"Scopes are nested {deepest} deep; the outer {MAX_DEPTH} are drawn.")
    return rows


def _row(sheet: Sheet, task: TaskSpan, near: float) -> _Row:
    depths = min(max((s.depth + 1 for s in task.scopes), default=0), MAX_DEPTH)
    scopes = ([s for s in task.scopes if s.depth == depth] for depth in range(depths))
    waits = _joined(sheet, task.waits, near)
    return _Row(task, [_joined(sheet, lane, near) for lane in scopes], waits)


def _joined(sheet: Sheet, spans: Sequence[SpanT], near: float) -> list[_Joined[SpanT]]:
    """Small ones less than `near` pixels apart are one; at first not those that tell of a limit."""
    joined: list[_Joined[SpanT]] = []
    for span in spans:
        end = sheet.end if span.ended is None else span.ended
        one = _Joined(sheet.x(span.began), sheet.x(end), [span])
        if joined and near:
            last = joined[-1]
            small = one.end - one.begin < near and last.end - last.begin < 4 * near
            alike = near >= 16 or (one.hit == last.hit and span.ended is not None)
            if small and alike and one.begin - last.end < near:
                last.end = max(last.end, one.end)
                last.spans.append(span)
                continue
        joined.append(one)
    return joined


# Tasks. -----------------------------------------------------------------------------------------


def _draw_task(sheet: Sheet, row: _Row) -> None:
    task = row.task
    top = sheet.y + 4
    _label(sheet, task.name, top + 13, 10 + 14 * min(task.level, 6), about.of_task(task))
    for lane in row.scopes:
        for scopes, free in _with_room(lane):
            _draw_scope(sheet, scopes, top + 17, free)
        top += _LANE
    first, last = sheet.x(task.first), sheet.x(sheet.end if task.open else task.last)
    sheet.put(f'<path class="life" d="M{first:.1f} {top + 9.5:.1f}H{max(last, first + 1):.1f}"/>')
    for waits, room in _with_room(row.waits):
        _draw_wait(sheet, waits, top, room)
    top += _LANE
    marks = [moment for moment in task.moments if not moment.of_wait]
    if marks:
        _draw_marks(sheet, marks, top + 9.5)
        top += _LANE
    sheet.y = top + _GAP - 4


def _with_room(lane: list[_Joined[SpanT]]) -> list[tuple[_Joined[SpanT], float]]:
    """Each with the pixels from its beginning to that of the next one."""
    begins = [*(joined.begin for joined in lane), WIDTH]
    rooms = [after - before for before, after in itertools.pairwise(begins)]
    return list(zip(lane, rooms, strict=True))


def _label(sheet: Sheet, name: str, y: float, indent: float, title: str) -> None:
    short = shortened(name, (LEFT - indent - 12) / 6.9)  # in bold letters
    text = f'<text class="name" x="{indent:.0f}" y="{y:.1f}">{safe(short)}</text>'
    sheet.titled(title, text)


def _draw_scope(sheet: Sheet, joined: _Joined[ScopeSpan], line: float, room: float) -> None:
    """A bracket, or several in one; its deadline, if there is room for it, and whether it fired."""
    scope, alone = joined.spans[0], len(joined.spans) == 1
    x0, x1 = joined.begin, joined.end
    closing = "" if scope.ended is None else f"V{line - 6:.1f}"
    bracket = f'<path class="bracket" d="M{x0:.1f} {line - 6:.1f}V{line:.1f}H{x1:.1f}{closing}"/>'
    shapes = [bracket]
    x = None  # of the triangle
    if alone and scope.fired is not None:
        x, style = sheet.x(scope.fired), "by-hand" if scope.by_hand else "fired"
        shapes.append(f'<path class="bracket {style}" d="M{x:.1f} {line:.1f}H{x1:.1f}{closing}"/>')
        shapes.append(triangle(x, line, f"due {style}"))
    elif joined.hit:
        x = x0
        shapes.append(f'<path class="bracket fired" d="M{x:.1f} {line:.1f}H{x1:.1f}{closing}"/>')
        shapes.append(triangle(x, line, "due fired"))
    elif alone and scope.deadline is not None and scope.deadline <= sheet.span:
        due = sheet.x(scope.deadline)
        if due <= x0 + room:  # else others are there
            shapes.append(f'<path class="ahead" d="M{x1:.1f} {line:.1f}H{due:.1f}"/>')
            shapes.append(triangle(due, line, "due"))
            x = due
    if alone:
        title, texts = about.of_scope(scope), about.beside_scope(scope)
    else:
        title = about.of_many(joined.spans, [scope.name for scope in joined.spans])
        texts = [f"{len(joined.spans)} scopes"]
    sheet.titled(title, *shapes)
    _scope_text(sheet, joined, x, line - 5, room, texts)


def _scope_text(
    sheet: Sheet,
    joined: _Joined[ScopeSpan],
    triangle_at: float | None,
    y: float,
    room: float,
    texts: list[str],
) -> None:
    """Over the bracket up to its triangle, or behind both, where there is more room."""
    style = "signal" if joined.hit else ""
    begin = joined.begin + 8
    end = joined.begin + room - 8
    if triangle_at is not None and triangle_at > joined.begin:
        before, behind = triangle_at - 6 - begin, max(joined.end, triangle_at) + 8
        if sheet.wide(texts[0]) > before and end - behind > before:
            begin = behind
        else:
            end = triangle_at - 6
    sheet.text(begin, y, end - begin, *texts, style=style)


def _draw_wait(sheet: Sheet, joined: _Joined[WaitSpan], top: float, room: float) -> None:
    """A bar, with its name in it, or beside it, if there is room."""
    wait = joined.spans[0]
    x, width = joined.begin, max(joined.end - joined.begin, 1.5)
    place = f'x="{x:.1f}" y="{top + 1:.1f}" width="{width:.1f}" height="17" rx="2"'
    border = "" if joined.hit else _BORDERS.get(wait.how, "")
    shapes = [f'<rect class="{wait.family}{border}" {place}/>']
    if joined.hit:
        shapes.append(f'<rect class="hatch" {place}/>')
    if len(joined.spans) == 1:
        title, texts = about.of_wait(wait), about.beside_wait(wait)
    else:
        title = about.of_many(joined.spans, [wait.operation for wait in joined.spans])
        texts = [f"{len(joined.spans)} waits"]
    sheet.titled(title, *shapes)
    inside = sheet.fitting(width - 10, *texts)
    if inside:
        text = f'<text class="onbar" x="{x + 5:.1f}" y="{top + 13.5:.1f}">{safe(inside)}</text>'
        if joined.hit:  # a hatched ground makes text hard to read
            place = f'x="{x + 3:.1f}" y="{top + 2.5:.1f}" height="14" rx="2"'
            size = min(sheet.wide(inside) + 4, width - 6)
            sheet.put(f'<rect class="{wait.family} through" {place} width="{size:.1f}"/>')
        sheet.put(text)
    elif sheet.wide(texts[-1]) <= room - width - 10:
        style = "beside signal" if joined.hit else "beside soft"
        sheet.text(x + width + 4, top + 13.5, room - width - 10, *texts, style=style)


# Marks and faults. ------------------------------------------------------------------------------


def _outside_tasks(sheet: Sheet, moments: list[Moment]) -> None:
    if moments:
        _label(sheet, "outside tasks", sheet.y + 17, 10, "what happened in no task")
        _draw_marks(sheet, moments, sheet.y + 13.5)
        sheet.y += _LANE + _GAP


def _draw_marks(sheet: Sheet, moments: list[Moment], y: float) -> None:
    """Diamonds with their names, as far as these have room."""
    xs = [sheet.x(moment.time) for moment in moments]
    free_from = 0.0
    for number, moment in enumerate(moments[:MAX_SHAPES]):
        x = xs[number]
        style = {"fault": "fault", "limit": "signal"}.get(moment.category, "mark")
        sheet.titled(about.of_moment(moment), diamond(x, y, style))
        following = next((other for other in xs[number + 1 : number + 9] if other > x + 9), WIDTH)
        if x < free_from:
            continue
        wide = sheet.wide(moment.name)
        if x + 8 + wide > WIDTH and x - 8 - wide > free_from:  # at the right end: to the left
            sheet.text(x - 8 - wide, y + 4, wide, moment.name)
            free_from = x + 8
        else:
            free_from = x + 8 + sheet.text(x + 8, y + 4, following - x - 14, moment.name)


# Streams. ---------------------------------------------------------------------------------------


def _streams(sheet: Sheet, story: Story, notes: list[str]) -> None:
    streams = story.streams[:MAX_STREAMS]
    if len(story.streams) > len(streams):
        count = len(story.streams)
        notes.append(f"{count - len(streams)} of {count} streams are not drawn, the latest ones.")
    if not streams:
        return
    sheet.y += 6
    sheet.put(f'<text class="soft" x="10" y="{sheet.y + 12:.1f}">STREAMS</text>')
    sheet.y += 18
    for stream in streams:
        _draw_stream(sheet, stream)


def _draw_stream(sheet: Sheet, stream: StreamSpan) -> None:
    x0 = sheet.x(stream.opened or 0.0)
    x1 = sheet.x(sheet.end if stream.closed is None else stream.closed)
    y = sheet.y
    name = shortened(f"{stream.number}  {stream.title}", (LEFT - 22) / 5.7)  # in small letters
    style = "stream open" if stream.closed is None else "stream"
    place = f'x="{x0:.1f}" y="{y + 4:.1f}" width="{max(x1 - x0, 1.5):.1f}" height="6" rx="2"'
    label = f'<text class="small" x="10" y="{y + 11:.1f}">{safe(name)}</text>'
    sheet.titled(about.of_stream(stream), label, f'<rect class="{style}" {place}/>')
    text = about.beside_stream(stream)
    wide = sheet.wide(text)
    if x1 + 5 + wide <= WIDTH:
        sheet.text(x1 + 5, y + 11, wide, text, style="soft")
    elif x0 - 5 - wide >= LEFT:
        sheet.text(x0 - 5 - wide, y + 11, wide, text, style="soft")
    sheet.y += 16
