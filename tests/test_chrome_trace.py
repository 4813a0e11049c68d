"""A timeline is written as a trace that Perfetto opens, with everything where it was in time."""

import json
from pathlib import Path
from typing import Any

import pytest
from recordings import Main, a_fetch, a_tangle, made_up, recorded
from trace_format import Event, checked_trace

from netio.testing._timeline.chrome_trace import chrome_trace


def trace_of(main: Main, path: Path) -> list[Event]:
    recorded(main).write_chrome_trace(path / "trace.json")
    return checked_trace((path / "trace.json").read_text(encoding="utf-8"))


async def nothing() -> None:
    pass


@pytest.mark.parametrize("main", [a_fetch, a_tangle, nothing])
def test_it_keeps_to_the_format(main: Main, tmp_path: Path) -> None:
    assert trace_of(main, tmp_path)


def test_each_task_has_a_track_of_its_name_in_the_order_of_the_page(tmp_path: Path) -> None:
    events = trace_of(a_fetch, tmp_path)
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert next(iter(tracks.values())) == "client"
    assert set(tracks.values()) >= {"netio 10.0.0.1:7000", "outside tasks"}
    order = {e["tid"]: e["args"]["sort_index"] for e in events if e["name"] == "thread_sort_index"}
    assert set(order) == set(tracks)


def spans(events: list[Event], track: str) -> list[tuple[str, float, float]]:
    tracks = {e["args"]["name"]: e["tid"] for e in events if e["name"] == "thread_name"}
    found = [e for e in events if e["ph"] == "X" and e["tid"] == tracks[track]]
    return [(e["name"], e["ts"], e["dur"]) for e in found]


def test_waits_stand_in_their_scopes_in_microseconds(tmp_path: Path) -> None:
    assert spans(trace_of(a_fetch, tmp_path), "client") == [
        ("scope fetch", 0, 5_000_000),
        ("connect_tcp: lookup", 0, 250_000),
        ("read_line", 250_000, 1_000_000),
        ("read_exactly(16)", 1_750_000, 3_250_000),
    ]


def test_an_event_says_all_that_is_known(tmp_path: Path) -> None:
    events = trace_of(a_fetch, tmp_path)
    [scope] = [e for e in events if e.get("cat") == "scope"]
    assert scope["args"] == {"ended": "fired", "limit (s)": 5.0, "deadline at (s)": 5.0}
    [read] = [e for e in events if e["name"] == "read_exactly(16)"]
    assert (read["args"]["ended"], read["args"]["by"]) == ("scope", "fetch")
    assert (read["args"]["done"], read["args"]["expected"]) == (4, 16)


def test_limits_and_faults_are_moments(tmp_path: Path) -> None:
    events = trace_of(a_fetch, tmp_path)
    moments = [(e["name"], e["cat"], e["ts"]) for e in events if e["ph"] == "i"]
    assert moments[0] == ("timeout", "fault", 1_750_000)
    assert ("scope fetch fires", "limit", 5_000_000) in moments


def test_streams_cross_the_tracks(tmp_path: Path) -> None:
    events = trace_of(a_fetch, tmp_path)
    begins = [e["name"] for e in events if e["ph"] == "b"]
    assert begins == [
        "stream 1: 10.0.0.1:49152 → 10.0.0.1:7000",
        "stream 2: 10.0.0.1:7000 → 10.0.0.1:49152",
    ]


def test_what_does_not_nest_does_not_disturb_what_does(tmp_path: Path) -> None:
    events = trace_of(a_tangle, tmp_path)
    assert [name for name, _, _ in spans(events, "out_of_order")] == ["scope first"]
    assert sum(e["ph"] == "b" and e["cat"] == "scope" for e in events) == 1


def test_what_has_not_ended_goes_to_the_end(tmp_path: Path) -> None:
    story = made_up(
        (1.0, "scope entered", "t", "s", {"scope": 1}),
        (2.0, "wait began", "t", "read", {"wait": 1}),
        (3.0, "stream opened", "t", "stream 1", {"stream": 1}),
    )
    events = checked_trace(chrome_trace(story, virtual=True))
    ends = [e["ts"] + e["dur"] for e in events if e["ph"] == "X"]
    assert ends == [10_000_000] * 2
    assert [e["ts"] for e in events if e["ph"] == "e"] == [10_000_000]
    assert "still waiting" in {e["args"].get("ended") for e in events}


def test_times_that_floats_hold_badly_nest_all_the_same() -> None:
    events: list[Any] = []
    time = 0.1
    for number in range(1, 50):
        begin, time = time, time + 0.1 * number / 7
        events += [
            (begin, "scope entered", "t", "s", {"scope": number}),
            (begin, "wait began", "t", "read", {"wait": number}),
            (time, "wait ended", "t", "read", {"wait": number}),
            (time, "scope left", "t", "s", {"scope": number}),
        ]
    trace = checked_trace(chrome_trace(made_up(*events, duration=time), virtual=False))
    assert sum(e["ph"] == "X" for e in trace) == 98
    assert all(round(e["ts"] * 1000) == e["ts"] * 1000 for e in trace if e["ph"] == "X")


def test_any_name_is_written_as_text() -> None:
    name = 'a "name"\n\x07\ud800\u202e <b> 名'
    story = made_up((0.0, "mark", name, name, {name: name}))
    text = chrome_trace(story, virtual=True)
    text.encode()
    [moment] = [e for e in checked_trace(text) if e["ph"] == "i"]
    assert moment["name"] == 'a "name"\n\x07\ufffd\ufffd <b> 名'


def test_two_runs_that_did_the_same_are_written_the_same(tmp_path: Path) -> None:
    for name in ("one", "other"):
        recorded(a_tangle).write_chrome_trace(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert json.loads((tmp_path / "one").read_text("utf-8"))["otherData"]["clock"] == "virtual"


GOOD = {"ph": "X", "name": "n", "cat": "c", "pid": 1, "tid": 2, "ts": 1, "dur": 4, "args": {}}
NAMES = [
    {"ph": "M", "name": "process_name", "pid": 1, "tid": 2, "args": {"name": "p"}},
    {"ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "args": {"name": "t"}},
]


@pytest.mark.parametrize(
    "events",
    [
        [{**GOOD, "ts": -1}],
        [{**GOOD, "ts": "1"}],
        [{**GOOD, "ts": float("nan")}],
        [{**GOOD, "dur": -1}],
        [{**GOOD, "tid": "2"}],
        [{**GOOD, "tid": 3}],
        [{**GOOD, "ph": "Y"}],
        [{**GOOD, "name": ""}],
        [GOOD, {**GOOD, "ts": 2}],
        [{**GOOD, "ts": 3}, GOOD],
        [{k: v for k, v in GOOD.items() if k != "dur"} | {"ph": "b", "id2": {"local": "1"}}],
    ],
    ids=str,
)
def test_what_is_not_in_the_format_is_found(events: list[Event]) -> None:
    def text(events: list[Event]) -> str:
        return json.dumps({"traceEvents": NAMES + events, "displayTimeUnit": "ms", "otherData": {}})

    checked_trace(text([GOOD]))
    with pytest.raises(AssertionError):
        checked_trace(text(events))
