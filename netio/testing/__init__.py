"""The test kit: a virtual clock, a network in memory, faults, and scenarios that replay.

For whoever tests timeouts without sleeping, netio's own tests first.
"""

from netio._observing import mark
from netio.testing import events, faults
from netio.testing._clock.loop import VirtualLoop, new_event_loop, run
from netio.testing._clock.waiting import Deadlock, TooManySteps
from netio.testing._conformance.checking import Check
from netio.testing._conformance.conformance import (
    accepted_pairs,
    accepting_checks,
    check_accepting,
    check_datagrams,
    check_listener,
    check_stream,
    datagram_checks,
    listener_checks,
    stream_checks,
)
from netio.testing._conformance.report import CheckResult, ConformanceReport, NotConforming, Verdict
from netio.testing._exploring.explorer import (
    CounterExample,
    Exploration,
    explore,
    explore_here,
    replay,
)
from netio.testing._exploring.peer import Peer
from netio.testing._exploring.stage import Event, Outcome, Stage
from netio.testing._leaks import LeakCheck, Leaked, check_leaks
from netio.testing._network.network import Host, Link, Network
from netio.testing._network.placement import Placement
from netio.testing._network.proxy import Proxy
from netio.testing._network.wire import WireEvent
from netio.testing._timeline.event import TimelineEvent
from netio.testing._timeline.timeline import Timeline, record
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
    "accepting_checks",
    "assert_fired",
    "check_accepting",
    "check_datagrams",
    "check_leaks",
    "check_listener",
    "check_stream",
    "datagram_checks",
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
