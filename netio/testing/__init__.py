"""The test kit: a virtual clock, a network in memory, faults, and scenarios that replay.

For whoever tests timeouts without sleeping, netio's own tests first.
"""

from netio.testing import faults
from netio.testing._clock import VirtualLoop, new_event_loop, run
from netio.testing._leaks import LeakCheck, Leaked, check_leaks
from netio.testing._network import Host, Link, Network
from netio.testing._placement import Placement
from netio.testing._proxy import Proxy
from netio.testing._waiting import Deadlock, TooManySteps
from netio.testing._wire import WireEvent
from netio.testing.faults import assert_fired

__all__ = [
    "Deadlock",
    "Host",
    "LeakCheck",
    "Leaked",
    "Link",
    "Network",
    "Placement",
    "Proxy",
    "TooManySteps",
    "VirtualLoop",
    "WireEvent",
    "assert_fired",
    "check_leaks",
    "faults",
    "new_event_loop",
    "run",
]
