"""A Redis client over any stream of netio: pipelines, and one limit for each call.

python examples/redis_client.py localhost 6379   # without an address: a stand-in for Redis
"""

import asyncio
import re
import sys
from typing import TypeAlias

import netio

Command: TypeAlias = tuple[bytes | str | float, ...]
Reply: TypeAlias = "bytes | int | RedisError | list[Reply] | None"


class RedisError(Exception):
    """The server refuses a command, and says why. The connection is as usable as before."""


def encode(command: Command) -> bytes:
    """A command as it is sent: an array of strings, which may hold any bytes."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


async def read_reply(stream: netio.Stream, timeout: netio.Timeout) -> Reply:
    """Read one reply, or a message after SUBSCRIBE; an error of the server is returned, too."""
    line = await stream.read_until(b"\r\n", keep=False, timeout=timeout)
    if line[:1] == b"+":
        return line[1:]
    if line[:1] == b"-":
        return RedisError(line[1:].decode(errors="replace"))
    if not re.fullmatch(rb":-?\d{1,19}|[$*](-1|\d{1,9})", line):
        raise netio.ConnectionLost(f"{stream!r}: this is no reply of Redis: {line[:50]!r}")
    number = int(line[1:])
    if line[:1] == b":":
        return number
    if number == -1:
        return None
    if line[:1] == b"*":
        return [await read_reply(stream, timeout) for _ in range(number)]
    return (await stream.read_exactly(number + 2, timeout=timeout))[:-2]


class Redis:
    """A connection, for one task at a time. `stream`: over TCP, TLS or a Unix socket."""

    def __init__(self, stream: netio.Stream) -> None:
        self.stream = stream
        self._unread: tuple[Command, ...] = ()  # those sent of which not all replies were read

    async def execute(self, *command: bytes | str | float, timeout: float | None = 5) -> Reply:
        """The reply to a command, within `timeout` seconds; an error of the server is raised."""
        [reply] = await self.execute_many(command, timeout=timeout)
        if isinstance(reply, RedisError):
            raise reply
        return reply

    async def execute_many(self, *commands: Command, timeout: float | None = 5) -> list[Reply]:
        """The replies to commands that are sent at once; errors of the server stand among them.

        `timeout`: seconds for all of them. When that, a cancel, or an error cuts it, later replies
        could not be told from those still due: each call then raises `netio.ConnectionLost`.
        """
        if self._unread:
            what = f"replies are still due, from that to {self._unread[0][0]!r} on; connect anew"
            raise netio.ConnectionLost(f"{self.stream!r}: {what}")
        deadline = netio.Deadline.after(timeout)
        data = b"".join(map(encode, commands))
        self._unread = commands
        await self.stream.write(data, timeout=deadline)  # Redis reads on while nobody reads replies
        replies = [await read_reply(self.stream, deadline) for _ in commands]
        self._unread = ()
        return replies


async def stand_in(stream: netio.Stream) -> None:
    """For who has no Redis at hand: a server of two commands, to which nobody pushes anything."""
    replies = {b"PING\r\n": b"+PONG\r\n", b"NONSENSE\r\n": b"-ERR unknown command\r\n"}
    async for line in stream.lines():  # a command is several
        await stream.write(replies.get(line, b""))


async def main(*address: str) -> None:
    """Talk to the server at `address`, a host and a port, or to the stand-in."""
    async with netio.serve_tcp(stand_in, "127.0.0.1", grace=0) as server:
        host, port = address or ("127.0.0.1", server.port)
        async with netio.connect_tcp(host, int(port), timeout=5) as stream:
            redis = Redis(stream)
            print("many:", await redis.execute_many(("PING",), ("NONSENSE",), ("PING",)))
            for command in [("PING",), ("NONSENSE",), ("BLPOP", "nothing", 0), ("PING",)]:
                try:
                    print("one:", await redis.execute(*command, timeout=0.2))
                except (RedisError, netio.NetioError) as error:
                    print(f"{command[0]}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
