"""What may happen to a program under test, for `netio.testing.explore`.

An event acts at once, as one callback of the loop. These are the usual ones, and `STANDARD` has
them under the letters that schedules are written with; `data` makes those in which the peer sends
something. Any other is an `Event` of your own:

    events = {**STANDARD, "d": data(b"hello"), "x": Event("the cache is lost", lambda stage: ...)}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from netio.testing._exploring.stage import Event

__all__ = ["CANCEL", "END", "RESET", "SCOPE", "STANDARD", "TIME", "Event", "data"]


def data(data: bytes, *, noticed: bool = True) -> Event:
    """The peer sends `data`. Several of them come in the order in which they are listed.

    noticed: False: the bytes are there, and the loop has yet to notice: what waits for them is not
        woken in this moment, but by the loop, one turn later.
    """
    if not isinstance(data, (bytes, bytearray)):
        raise TypeError(f"data must be bytes, not {type(data).__name__}")
    if not data:
        raise ValueError("data must not be empty: that a peer sends nothing is no event")
    data = bytes(data)
    told = repr(data) if len(data) <= 40 else f"{len(data)} bytes, {data[:20]!r}..."
    words = f"the peer sends {told}" + ("" if noticed else ", which the loop has yet to notice")
    return Event(words, lambda stage: stage.peer.data(data, noticed=noticed), "data")


#: The task is cancelled from outside.
CANCEL: Final = Event("the task is cancelled from outside", lambda stage: stage.cancel())

#: A scope of the caller, around the program, expires. (One *in* the program is due by its time.)
SCOPE: Final = Event("a scope around the task expires", lambda stage: stage.expire())

#: The clock goes on to the next timer, which rings: the limit of an operation, the deadline of a
#: scope in the program, the end of a sleep. Needs a virtual clock.
TIME: Final = Event("the clock goes on to the next timer", lambda stage: stage.pass_time())

#: The peer says that nothing follows: the end of the stream, EOF.
END: Final = Event("the peer ends the stream", lambda stage: stage.peer.end(), "end")

#: The peer cuts the connection.
RESET: Final = Event("the peer resets the connection", lambda stage: stage.peer.reset(), "reset")

#: The letters by which these are known.
STANDARD: Final[Mapping[str, Event]] = {
    "c": CANCEL,
    "t": TIME,
    "s": SCOPE,
    "e": END,
    "r": RESET,
}
