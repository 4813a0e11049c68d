"""Whether a text is a trace in the Trace Event Format, as Perfetto and chrome://tracing take it."""

import json
import math
from collections import defaultdict
from typing import Any

Event = dict[str, Any]

PHASES = {"X", "M", "i", "b", "e"}
METADATA = {"process_name": str, "thread_name": str, "thread_sort_index": int}


def checked_trace(text: str) -> list[Event]:
    """Its events; an AssertionError for whatever a viewer would drop or draw wrongly."""
    trace = json.loads(text, parse_constant=_no_constant)
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    events: list[Event] = trace["traceEvents"]
    for event in events:
        _check_event(event)
    timed = [event for event in events if event["ph"] != "M"]
    assert events == [e for e in events if e["ph"] == "M"] + timed, "names come first"
    times = [event["ts"] for event in timed]
    assert times == sorted(times)
    _check_names(events)
    _check_nesting(timed)
    _check_pairs(timed)
    return events


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def _check_event(event: Event) -> None:
    assert event["ph"] in PHASES, event
    assert isinstance(event["name"], str), event
    assert event["name"], event
    for key in ("pid", "tid"):
        assert type(event[key]) is int, event
        assert event[key] > 0, event  # Perfetto gives 0 no name
    assert event["pid"] != event["tid"], event  # which would make it the main thread
    for value in event["args"].values():
        assert value is None or isinstance(value, (str, int, float, bool)), event
    keys = {"ph", "name", "pid", "tid", "args"}
    if event["ph"] == "M":
        kind = METADATA[event["name"]]
        [value] = event["args"].values()
        assert type(value) is kind, event
    else:
        assert isinstance(event["cat"], str), event
        assert type(event["ts"]) in (int, float), event
        assert math.isfinite(event["ts"]), event
        assert event["ts"] >= 0, event
        keys |= {"cat", "ts"}
    if event["ph"] == "X":
        assert type(event["dur"]) in (int, float), event
        assert 0 <= event["dur"] < math.inf, event
        keys.add("dur")
    if event["ph"] == "i":
        assert event["s"] in ("t", "p", "g"), event
        keys.add("s")
    if event["ph"] in "be":
        [(key, value)] = event["id2"].items()
        assert key == "local", event
        assert isinstance(value, str), event
        keys.add("id2")
    assert set(event) == keys, event


def _check_names(events: list[Event]) -> None:
    named = [e["tid"] for e in events if e["name"] == "thread_name"]
    assert len(named) == len(set(named))
    assert {e["tid"] for e in events if e["ph"] != "M"} <= set(named)
    assert sum(e["name"] == "process_name" for e in events) == 1


def _check_nesting(events: list[Event]) -> None:
    """On each track, what begins within something ends within it."""
    tracks = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            begin, length = round(event["ts"] * 1000), round(event["dur"] * 1000)
            tracks[event["pid"], event["tid"]].append((begin, begin + length, event))
    for spans in tracks.values():
        around: list[int] = []
        for begin, end, event in spans:
            while around and around[-1] <= begin and not begin == end == around[-1]:
                around.pop()
            assert not around or end <= around[-1], f"does not nest: {event}"
            around.append(end)


def _check_pairs(events: list[Event]) -> None:
    """Each asynchronous event that begins ends, once."""
    begun = set()
    for event in events:
        key = (event["pid"], event["cat"], event["name"], str(event.get("id2")))
        if event["ph"] == "b":
            assert key not in begun, event
            begun.add(key)
        elif event["ph"] == "e":
            assert key in begun, event
            begun.remove(key)
    assert not begun
