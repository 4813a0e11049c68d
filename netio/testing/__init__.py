"""The test kit: a virtual clock, a network in memory, faults, and scenarios that replay.

For whoever tests timeouts without sleeping, netio's own tests first.
"""

from netio.testing._clock import VirtualLoop, new_event_loop, run
from netio.testing._leaks import LeakCheck, Leaked, check_leaks
from netio.testing._waiting import Deadlock, TooManySteps

__all__ = [
    "Deadlock",
    "LeakCheck",
    "Leaked",
    "TooManySteps",
    "VirtualLoop",
    "check_leaks",
    "new_event_loop",
    "run",
]
