"""The page of a timeline is one valid document, says where the time went, and stays readable."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from recordings import Main, a_fetch, a_tangle, made_up, recorded, story

from netio.testing._timeline.drawing import MAX_SHAPES, MAX_TASKS, drawing_of
from netio.testing._timeline.page import page
from netio.testing._timeline.sheet import COLOURS, LEFT, RIGHT, WIDTH
from netio.testing._timeline.spans import Story
from netio.testing._timeline.words import clean, length, safe, shortened, ticks, width_of

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "br"}
MANY = MAX_SHAPES * 3 // 2
HOSTILE = "</title></text><script>alert('1')</script>\"><b>&amp;\x00\u202e\ud800"


class Checked(HTMLParser):
    """Fails for elements that are not closed in order; collects elements, links and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [v or "" for k, v in attrs if k in ("href", "src", "xlink:href", "action")]
        assert not [k for k, _ in attrs if k.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def html(story: Story, *, title: str = "", left_out: int = 0) -> str:
    text = page(story, title=title, virtual=True, left_out=left_out)
    text.encode()
    return text


def words(text: str) -> str:
    """What is to be read on a page, without what is shown of what is pointed at."""
    text = re.sub(r"<(style|title)>.*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", text))


def svg_of(story: Story) -> ElementTree.Element:
    return ElementTree.fromstring(drawing_of(story).svg)


def many_waits(count: int, *, tasks: int = 1, hit: bool = False) -> Story:
    """Waits of one second each, one after another, in `tasks` that begin together."""
    events = []
    for number in range(count):
        task, time = f"task {number % tasks}", float(number // tasks)
        how = "cancelled" if hit else "ready"
        wait = {"wait": number, "outcome": how, "done": 0}
        if hit:
            events.append((time, "scope entered", task, "s", {"scope": number, "seconds": 1.0}))
        events.append((time, "wait began", task, "read", wait))
        if hit:
            events.append((time + 1, "scope fired", task, "s", {"scope": number}))
        events.append((time + 1, "wait ended", task, "read", wait))
        if hit:
            left = {"scope": number, "caught": True}
            events.append((time + 1, "scope left", task, "s", left))
    return made_up(*events, duration=count / tasks)


async def nothing() -> None:
    pass


@pytest.mark.parametrize("main", [a_fetch, a_tangle, nothing])
def test_it_is_one_valid_document_that_needs_nothing_else(main: Main, tmp_path: Path) -> None:
    recorded(main).write_html(tmp_path / "page.html", title="a test")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    checked = Checked(text)
    assert text.startswith("<!doctype html>")
    assert "script" not in checked.seen
    assert checked.links == []
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#netio-hatch"}
    assert set(re.findall(r"https?://[^\s\"<]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text
    assert "@import" not in text


@pytest.mark.parametrize("main", [a_fetch, a_tangle])
def test_two_runs_that_did_the_same_give_the_same_page(main: Main, tmp_path: Path) -> None:
    for name in ("one", "other"):
        recorded(main).write_html(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


# What it says. --------------------------------------------------------------------------------


def test_it_says_first_which_limit_fired_and_what_had_used_up_its_time(tmp_path: Path) -> None:
    recorded(a_fetch).write_html(tmp_path / "page.html", title="test_fetch")
    text = words((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert text.index("test_fetch") < text.index("1 limit fired") < text.index("Over time")
    assert (
        "scope fetch (5 s) fired during read_exactly(16) with 10.0.0.1:7000 (4 of 16 bytes) "
        "at 5 s in task client ."
    ) in text
    for line in (
        "250 ms 5% connect_tcp: lookup, peer server:7000",
        "1 s 20% read_line, peer 10.0.0.1:7000",
        "3.25 s 65% read_exactly(16), peer 10.0.0.1:7000, cut by the scope",
        "500 ms 10% not waiting in netio",
    ):
        assert line in text


def test_the_shares_of_a_deadline_are_the_whole() -> None:
    widths = re.findall(r"width:([\d.]+)%", html(story(a_fetch)))
    assert sum(map(float, widths)) == pytest.approx(100, abs=0.01)


def test_the_limit_of_an_operation_is_named_as_its_error_does() -> None:
    details = {"limit": "read", "seconds": 60.0, "elapsed": 60.0, "peer": "h:1", "done": 3}
    told = made_up((60.0, "timed out", "t", "read_line", details), duration=60.0)
    assert ("read_line with h:1 (3 bytes) reached the connection's read limit (1 min)") in words(
        html(told)
    ).replace("60 s", "1 min")


def test_limits_that_fired_alike_are_told_once() -> None:
    text = words(html(many_waits(50, tasks=2, hit=True)))
    assert "50 limits fired" in text
    assert "50 times, first at 1 s in task task 0 , last at 25 s" in text


def test_without_a_limit_that_fired_the_one_that_was_nearest_is_told() -> None:
    told = made_up(
        (0.0, "scope entered", "t", "far", {"scope": 1, "seconds": 100.0}),
        (0.0, "scope entered", "t", "near", {"scope": 2, "seconds": 5.0}),
        (4.0, "scope left", "t", "near", {"scope": 2}),
        (4.0, "scope left", "t", "far", {"scope": 1}),
    )
    text = words(html(told))
    assert "No limit fired" in text
    assert "scope near in task t used 80% of its 5 s" in text


def test_many_pieces_are_told_as_the_largest_and_the_rest() -> None:
    events: list[object] = [(0.0, "scope entered", "t", "s", {"scope": 1, "seconds": 66.0})]
    time = 0.0
    for number in range(1, 12):
        wait = {"wait": number, "outcome": "ready"}
        events.append((time, "wait began", "t", f"read({number})", wait))
        time += number
        events.append((time, "wait ended", "t", f"read({number})", wait))
    events += [(time, "scope fired", "t", "s", {"scope": 1})]
    text = words(html(made_up(*events, duration=time)))  # type: ignore[arg-type]
    assert "11 s 17% read(11)" in text
    assert "4 others" in text
    assert "read(4)" not in text.partition("Over time")[0]


def test_an_empty_recording_says_so(tmp_path: Path) -> None:
    recorded(nothing).write_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Nothing was recorded" in text
    assert "<svg" not in text


def test_a_recording_that_was_full_says_so() -> None:
    assert "12 later events are missing" in html(many_waits(1), left_out=12)


def test_everything_happening_at_once_is_drawn() -> None:
    wait = {"wait": 1, "outcome": "ready"}
    told = made_up(
        (0.0, "wait began", "t", "read", wait), (0.0, "wait ended", "t", "read", wait), duration=0.0
    )
    assert "0 s" in words(html(told))
    assert bars(told) == ["read"]


# What it was given by others. -----------------------------------------------------------------


def test_names_stay_names() -> None:
    told = made_up(
        (0.0, "task seen", HOSTILE, HOSTILE, {"within": None}),
        (0.0, "scope entered", HOSTILE, HOSTILE, {"scope": 1, "seconds": 5.0, "deadline": 5.0}),
        (0.0, "stream opened", HOSTILE, "s", {"stream": 1, "local": HOSTILE, "peer": HOSTILE}),
        (1.0, "wait began", HOSTILE, HOSTILE, {"wait": 1, "peer": HOSTILE}),
        (2.0, "mark", HOSTILE, HOSTILE, {HOSTILE: HOSTILE}),
        (5.0, "scope fired", HOSTILE, HOSTILE, {"scope": 1}),
        (5.0, "wait ended", HOSTILE, HOSTILE, {"wait": 1, "outcome": "failed", "error": HOSTILE}),
        (5.0, "timed out", HOSTILE, HOSTILE, {"limit": HOSTILE, "peer": HOSTILE, "elapsed": 4.0}),
        (6.0, "fault", "", HOSTILE, {}),
    )
    text = html(told, title=HOSTILE)
    checked = Checked(text)
    assert not checked.seen & {"script", "b>"}
    assert "alert('1')" in "".join(checked.texts)
    ElementTree.fromstring(drawing_of(told).svg)
    assert not set("\x00\u202e") & set(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<b>&\"'", "a&lt;b&gt;&amp;&quot;&#x27;"),
        ("a\x00\x1b\u202eb\ud800\ufffe", "a\ufffd\ufffd\ufffdb\ufffd\ufffd"),
        ("naïve 名前 😀\nnext", "naïve 名前 😀\nnext"),
    ],
)
def test_text_is_made_safe(text: str, expected: str) -> None:
    assert safe(text) == expected
    assert clean(clean(text)) == clean(text)


def test_a_long_name_is_cut_and_in_full_where_one_points() -> None:
    name = "a name that goes on " * 20
    told = made_up((0.0, "mark", name.strip(), "here", {}))
    root = svg_of(told)
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert any(text.startswith("a name") and len(text) < 40 for text in texts)
    assert name.strip() not in texts
    assert any(name.strip() in (title.text or "") for title in root.iter(f"{SVG}title"))


@pytest.mark.parametrize("text", ["", "abc", "名前名前", "a" * 50])
@pytest.mark.parametrize("room", [0, 1, 3.5, 10, 100])
def test_shortened_text_fits(text: str, room: float) -> None:
    short = shortened(text, room)
    assert width_of(short) <= max(room, 0)
    assert short == text or width_of(text) > room


# How it is drawn. -----------------------------------------------------------------------------


@pytest.mark.parametrize("main", [a_fetch, a_tangle])
def test_everything_is_drawn_within_the_plot(main: Main) -> None:
    root = svg_of(story(main))
    height = float(root.get("height", ""))
    for rect in root.iter(f"{SVG}rect"):
        if rect.get("class") in ("band", "paper"):
            continue
        x, y = float(rect.get("x", "")), float(rect.get("y", ""))
        assert x >= 0
        assert x + float(rect.get("width", "")) <= RIGHT + 2
        assert 0 <= y < height
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x", "")) <= WIDTH


def test_a_bar_is_where_its_time_is() -> None:
    wait = {"wait": 1, "outcome": "ready"}
    told = made_up((2.5, "wait began", "t", "read", wait), (7.5, "wait ended", "t", "read", wait))
    rect = svg_of(told).find(f".//{SVG}rect[@class='read']")
    assert rect is not None
    span = RIGHT - LEFT
    assert float(rect.get("x", "")) == pytest.approx(LEFT + span / 4, abs=0.1)
    assert float(rect.get("width", "")) == pytest.approx(span / 2, abs=0.1)


def bars(story: Story) -> list[str]:
    """The style of each bar; those of the legend stand in no group."""
    return [rect.get("class", "") for rect in svg_of(story).findall(f".//{SVG}g/{SVG}rect")]


@pytest.mark.parametrize(
    ("how", "style"),
    [
        ("ready", "read"),
        ("cancelled", "read cancelled"),
        ("failed", "read failed"),
        ("end", "read failed"),
        ("closed", "read"),
        (None, "read open"),
    ],
)
def test_a_bar_looks_as_its_wait_ended(how: str | None, style: str) -> None:
    events = [(1.0, "wait began", "t", "read", {"wait": 1})]
    if how is not None:
        events.append((2.0, "wait ended", "t", "read", {"wait": 1, "outcome": how}))  # type: ignore[dict-item]
    assert bars(made_up(*events)) == [style]


def test_a_limit_has_the_signal_colour_and_a_line_through_all_rows() -> None:
    root = svg_of(many_waits(1, hit=True))
    hatched = root.findall(f".//{SVG}g/{SVG}rect[@class='hatch']")
    assert len(hatched) == 1
    assert len(root.findall(f".//{SVG}path[@class='moment']")) == 1
    assert len(root.findall(f".//{SVG}g/{SVG}path[@class='due fired']")) == 1


def test_a_deadline_that_was_not_reached_is_drawn_if_it_is_not_far() -> None:
    def triangles(deadline: float) -> int:
        entered = {"scope": 1, "seconds": deadline, "deadline": deadline}
        told = made_up(
            (0.0, "scope entered", "t", "s", entered), (9.0, "scope left", "t", "s", entered)
        )
        return len(svg_of(told).findall(f".//{SVG}g/{SVG}path[@class='due']"))

    assert [triangles(seconds) for seconds in (9.5, 12, 100)] == [1, 1, 0]


def test_what_is_too_small_to_be_told_apart_is_joined_and_said() -> None:
    told = many_waits(MANY)
    drawing = drawing_of(told)
    assert drawing.svg.count("<rect") < MAX_SHAPES + 50
    [note] = drawing.notes
    assert note.startswith(f"{MANY} waits and scopes are drawn as ")
    counts = [int(n) for n in re.findall(r"<title>(\d+) from", drawing.svg)]
    alone = drawing.svg.count("<title>read\n")
    assert sum(counts) + alone == MANY


def test_also_limits_beyond_number_are_joined() -> None:
    told = many_waits(MANY, hit=True)
    svg = drawing_of(told).svg
    assert svg.count("<g>") < MAX_SHAPES + 50
    assert "of them ended by a limit" in svg
    assert len(html(told)) < 4_000_000


def test_tasks_beyond_number_are_left_out_and_said_but_not_those_that_tell_most() -> None:
    events = []
    for number in range(MAX_TASKS * 3):
        wait = {"wait": number, "outcome": "ready"}
        events.append((0.0, "wait began", f"task {number}", "read", wait))
        events.append((1.0, "wait ended", f"task {number}", "read", wait))
    last = f"task {MAX_TASKS * 3 - 1}"
    events.append((1.0, "timed out", last, "read", {"limit": "call", "elapsed": 1.0}))
    drawing = drawing_of(made_up(*events))
    assert f"{MAX_TASKS * 2} of {MAX_TASKS * 3} tasks are not drawn: no limit" in drawing.notes[0]
    assert f">{last}<" in drawing.svg
    assert ">task 0<" in drawing.svg
    assert f">task {MAX_TASKS}<" not in drawing.svg


def test_scopes_beyond_depth_and_streams_beyond_number_are_said() -> None:
    events = [(0.0, "scope entered", "t", "s", {"scope": n}) for n in range(30)]
    events += [(0.0, "stream opened", "t", "s", {"stream": n}) for n in range(100)]
    notes = drawing_of(made_up(*events)).notes
    assert any("nested 30 deep" in note for note in notes)
    assert any("40 of 100 streams are not drawn" in note for note in notes)


def test_each_colour_has_one_for_the_dark() -> None:
    light, dark = COLOURS.split("@media")
    names = re.findall(r"--\w+", light)
    assert sorted(names) == sorted(re.findall(r"--\w+", dark))
    assert len(names) == len(set(names))


# Numbers. -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (1e-9, "1 ns"),
        (2.5e-6, "2.5 µs"),
        (0.25, "250 ms"),
        (0.99949, "999 ms"),
        (0.9996, "1 s"),
        (9.999, "10 s"),
        (59.94, "59.9 s"),
        (150, "2 min 30 s"),
        (3600, "1 h"),
        (3660, "61 min"),
        (9000, "2 h 30 min"),
        (86399, "24 h"),
        (400_000, "4 d 15 h"),
        (-1.5, "-1.5 s"),
    ],
)
def test_a_length_of_time_is_told_as_a_person_does(seconds: float, text: str) -> None:
    assert length(seconds) == text


@pytest.mark.parametrize(
    "span", [0, 1e-9, 3e-7, 1e-3, 0.07, 0.25, 1, 4.35, 59.9, 61, 119, 300, 5000, 86400, 1e6, 3e8]
)
def test_an_axis_has_some_ticks_that_differ(span: float) -> None:
    found = ticks(span)
    assert found[0][0] == 0
    assert 1 <= len(found) <= 11
    assert len(found) >= 4 or span == 0
    assert len({text for _, text in found}) == len(found)
    assert all(0 <= time <= span * 1.001 for time, _ in found)


def test_the_picture_in_the_documents_is_what_is_drawn_now() -> None:
    """If not: ``PYTHONPATH=. python tests/recordings.py > docs/testing-timeline.svg``."""
    picture = Path(__file__).parent.parent / "docs" / "testing-timeline.svg"
    assert picture.read_text(encoding="utf-8") == drawing_of(story(a_fetch)).svg
