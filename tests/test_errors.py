"""Errors: what they are to `except`, what they carry and say, and that they survive pickling."""

import asyncio
import copy
import errno
import pickle
from typing import Any

import pytest

import netio
from netio._errors import connection_lost, format_address

SCOPE = netio.timeout(5, name="login")

# Each class with every field set to something that is not its default.
FULL: dict[str, tuple[type[netio.NetioError], dict[str, Any]]] = {
    "DeadlineExceeded": (
        netio.DeadlineExceeded,
        {
            "limit": "read",
            "operation": "read_exactly(16)",
            "seconds": 5.0,
            "elapsed": 5.25,
            "peer": ("10.0.0.7", 7000),
            "done": 3,
            "expected": 16,
            "scope": SCOPE,
            "attempts": (OSError(111, "refused"), netio.ConnectionReset("x", errno=104)),
            "partial": b"abc",
        },
    ),
    "ConnectFailed": (netio.ConnectFailed, {"attempts": (OSError(111, "refused"),)}),
    "ConnectionLost": (netio.ConnectionLost, {"errno": 110, "done": 3, "partial": b"abc"}),
    "ConnectionReset": (netio.ConnectionReset, {"errno": 104, "done": 3, "partial": b"abc"}),
    "ConnectionRefused": (netio.ConnectionRefused, {"errno": 111, "done": 0, "partial": b""}),
    "BrokenPipe": (netio.BrokenPipe, {"errno": 32, "done": 3, "partial": b"abc"}),
    "IncompleteRead": (netio.IncompleteRead, {"partial": b"abc", "expected": 16}),
    "LimitExceeded": (netio.LimitExceeded, {"limit": 10, "consumed": 12, "partial": b"abc"}),
    "StreamClosed": (netio.StreamClosed, {}),
    "StreamBusy": (netio.StreamBusy, {}),
    "StillRunning": (netio.StillRunning, {"tasks": ("worker 3", "worker 4")}),
}
BASES: dict[str, tuple[type[BaseException], ...]] = {
    "DeadlineExceeded": (TimeoutError, OSError),
    "ConnectFailed": (OSError,),
    "ConnectionLost": (ConnectionError, OSError),
    "ConnectionReset": (netio.ConnectionLost, ConnectionResetError),
    "ConnectionRefused": (netio.ConnectionLost, ConnectionRefusedError),
    "BrokenPipe": (netio.ConnectionLost, BrokenPipeError),
    "IncompleteRead": (asyncio.IncompleteReadError, EOFError),
    "LimitExceeded": (asyncio.LimitOverrunError,),
    "StreamClosed": (),
    "StreamBusy": (),
    "StillRunning": (),
}


def make(name: str) -> netio.NetioError:
    cls, fields = FULL[name]
    return cls("read_exactly(16) from 10.0.0.7:7000: what happened", **fields)


def fields_of(error: BaseException) -> dict[str, Any]:
    names = set(vars(error)) | {"errno", "args", "__notes__"}
    return {name: getattr(error, name, None) for name in names}


@pytest.mark.parametrize("name", FULL)
def test_an_error_is_also_what_code_already_catches(name: str) -> None:
    error = make(name)
    for base in (netio.NetioError, Exception, *BASES[name]):
        assert isinstance(error, base)
    assert not isinstance(error, asyncio.CancelledError)


def test_every_public_error_is_covered_here() -> None:
    public = {
        name
        for name in netio.__all__
        if isinstance(getattr(netio, name), type) and issubclass(getattr(netio, name), Exception)
    }
    assert public - {"NetioError"} <= set(FULL) | {
        "StillRunning",
        "TLSError",
        "CertificateError",
    } | {"TruncatedStream"}


@pytest.mark.parametrize("name", FULL)
def test_an_error_carries_what_it_was_made_with(name: str) -> None:
    error = make(name)
    for field, value in FULL[name][1].items():
        assert getattr(error, field) == value
    assert str(error) == "read_exactly(16) from 10.0.0.7:7000: what happened"


@pytest.mark.parametrize("name", FULL)
def test_every_field_has_a_default(name: str) -> None:
    error = FULL[name][0]("message")
    assert str(error) == "message"
    assert str(FULL[name][0]()) in ("", "None")
    for field in FULL[name][1]:
        assert hasattr(error, field)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", FULL)
def test_an_error_survives_pickling_with_all_its_fields_and_notes(name: str, protocol: int) -> None:
    error = make(name)
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert str(again) == str(error)
    before, after = fields_of(error), fields_of(again)
    if name == "DeadlineExceeded":
        assert (before.pop("scope"), after.pop("scope")) == (SCOPE, "login")
    for fields in (before, after):
        if "attempts" in fields:
            fields["attempts"] = [(type(one), fields_of(one)) for one in fields["attempts"]]
    assert after == before
    assert after["__notes__"] == ["a note"]
    third = pickle.loads(pickle.dumps(again, protocol))
    assert fields_of(third).get("scope") == fields_of(again).get("scope")


@pytest.mark.parametrize("name", FULL)
def test_an_error_can_be_copied(name: str) -> None:
    error = make(name)
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert (type(again), str(again)) == (type(error), str(error))
        assert fields_of(again).keys() == fields_of(error).keys()


def test_a_scope_is_its_name_once_pickled() -> None:
    for name in ("login", None):
        error = netio.DeadlineExceeded("x", limit="scope", scope=netio.timeout(5, name=name))
        again = pickle.loads(pickle.dumps(error))
        assert (again.limit, again.scope, again.scope_name) == ("scope", name, name)


@pytest.mark.any_clock
async def test_errors_as_they_are_raised_survive_pickling() -> None:
    near, far = netio.stream_pair()
    found: list[BaseException] = []
    for call in (
        near.read_exactly(5, timeout=0),
        near.read_until(b"x", timeout=0.001),
        near.write(bytes(1 << 22), timeout=0),
        near.write(b"x"),
        near.write_many(["text"]),  # type: ignore[list-item]
    ):
        try:
            await call
        except Exception as error:
            found.append(error)
    try:
        async with netio.timeout(0.001, name="login"):
            await near.read_some()
    except netio.DeadlineExceeded as error:
        found.append(error)
    await far.aclose()
    try:
        await near.read_exactly(5)
    except netio.NetioError as error:
        found.append(error)
    await near.aclose()
    try:
        await near.read_exactly(5)
    except netio.NetioError as error:
        found.append(error)
    assert [type(error).__name__ for error in found] == [
        "DeadlineExceeded",
        "DeadlineExceeded",
        "DeadlineExceeded",
        "ConnectionLost",
        "TypeError",
        "DeadlineExceeded",
        "IncompleteRead",
        "StreamClosed",
    ]
    for error in found:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))
        for field in ("limit", "operation", "seconds", "elapsed", "peer", "done", "expected"):
            assert getattr(again, field, None) == getattr(error, field, None)
    assert pickle.loads(pickle.dumps(found[5])).scope == "login"


def test_a_timeout_of_the_kernel_is_not_one_of_netios() -> None:
    lost = connection_lost(TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "read_some")
    assert type(lost) is netio.ConnectionLost
    assert not isinstance(lost, TimeoutError)
    assert lost.errno == errno.ETIMEDOUT
    assert str(lost) == "read_some: Connection timed out"


@pytest.mark.parametrize(
    ("number", "cls"),
    [
        (errno.ECONNRESET, netio.ConnectionReset),
        (errno.EPIPE, netio.BrokenPipe),
        (errno.ECONNREFUSED, netio.ConnectionRefused),
        (errno.ETIMEDOUT, netio.ConnectionLost),
        (errno.ENOTCONN, netio.ConnectionLost),
        (errno.EHOSTUNREACH, netio.ConnectionLost),
    ],
)
def test_the_kernels_errors_keep_number_reason_and_cause(
    number: int, cls: type[netio.ConnectionLost]
) -> None:
    cause = OSError(number, "as the kernel says it")
    first, second = (connection_lost(cause, "write(5) to x", done=2) for _ in range(2))
    assert type(first) is cls
    assert first is not second
    assert (first.errno, first.done, first.__cause__) == (number, 2, cause)
    assert str(first) == "write(5) to x: as the kernel says it"


def test_an_error_of_the_kernel_without_a_reason_still_says_something() -> None:
    assert str(connection_lost(OSError(), "x")) == "x: OSError"
    assert str(connection_lost(OSError("odd"), "x")) == "x: odd"


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("10.0.0.7", 7000), "10.0.0.7:7000"),
        (("::1", 7000, 0, 0), "[::1]:7000"),
        (("fe80::1%eth0", 1, 0, 2), "[fe80::1%eth0]:1"),
        ("/run/x.sock", "/run/x.sock"),
        (b"\0abstract", "@abstract"),
        (b"\0\xff", "@\ufffd"),
        ("", "an unnamed peer"),
        (None, "an unnamed peer"),
    ],
)
def test_addresses_are_shown_as_a_person_writes_them(address: Any, text: str) -> None:
    assert format_address(address) == text


async def test_messages_say_what_happened_to_whom_and_what_is_left() -> None:
    near, far = netio.stream_pair(limit=100)
    await far.write(b"x" * 120)

    async def message(call: Any) -> str:
        with pytest.raises(netio.NetioError) as caught:
            await call
        return str(caught.value)

    assert await message(near.read_exactly(400, timeout=0)) == (
        "read_exactly(400) from an unnamed peer: the limit of this call (0 s) was reached after "
        "0.000 s; 120 of 400 bytes are buffered and readable"
    )
    assert await message(near.read_line()) == (
        "read_line from an unnamed peer: more than the limit of 100 bytes; nothing was "
        "discarded, 120 bytes are buffered and readable"
    )
    await far.aclose()
    assert await message(near.read_exactly(400)) == (
        "read_exactly(400) from an unnamed peer: the peer ended the stream first; 120 of 400 "
        "bytes are buffered and readable"
    )
    assert await message(near.write(b"abc")) == (
        "write(3) to an unnamed peer (none of 3 bytes was sent): Broken pipe"
    )
    await near.aclose()
    assert await message(near.read_line()) == (
        "read_line from an unnamed peer: the stream was closed or detached by this side"
    )
