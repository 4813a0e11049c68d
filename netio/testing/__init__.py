"""The test kit: a virtual clock, a network in memory, faults, and scenarios that replay.

For whoever tests timeouts without sleeping, netio's own tests first.
"""

from netio._observing import mark
from netio.testing import events, faults
from netio.testing._checking import Check
from netio.testing._clock import VirtualLoop, new_event_loop, run
from netio.testing._conformance import (
    accepted_pairs,
    check_listener,
    check_stream,
    listener_checks,
    stream_checks,
)
from netio.testing._exploring import CounterExample, Exploration, explore, explore_here, replay
from netio.testing._leaks import LeakCheck, Leaked, check_leaks
from netio.testing._network import Host, Link, Network
from netio.testing._peer import Peer
from netio.testing._placement import Placement
from netio.testing._proxy import Proxy
from netio.testing._report import CheckResult, ConformanceReport, NotConforming, Verdict
from netio.testing._stage import Event, Outcome, Stage
from netio.testing._timeline import Timeline, record
from netio.testing._timeline_event import TimelineEvent
from netio.testing._waiting import Deadlock, TooManySteps
from netio.testing._wire import WireEvent
from netio.testing.faults import assert_fired

__all__ = [
    "Check",
    "CheckResult",
    "ConformanceReport",
    "CounterExample",
    "Deadlock",
    "Event",
    "Exploration",
    "Host",
    "LeakCheck",
    "Leaked",
    "Link",
    "Network",
    "NotConforming",
    "Outcome",
    "Peer",
    "Placement",
    "Proxy",
    "Stage",
    "Timeline",
    "TimelineEvent",
    "TooManySteps",
    "Verdict",
    "VirtualLoop",
    "WireEvent",
    "accepted_pairs",
    "assert_fired",
    "check_leaks",
    "check_listener",
    "check_stream",
    "events",
    "explore",
    "explore_here",
    "faults",
    "listener_checks",
    "mark",
    "new_event_loop",
    "record",
    "replay",
    "run",
    "stream_checks",
]
