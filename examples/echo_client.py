"""An echo client: sends lines, shows what comes back, and says in one line what went wrong.

python examples/echo_client.py --port 7000 hello world
"""

import argparse
import asyncio
import sys

import netio


async def echo(stream: netio.Stream, line: str, *, timeout: netio.Deadline | float) -> str:
    """Send a line and return its echo. `timeout`: seconds for each step, or a point for both."""
    await stream.write(line.encode() + b"\n", timeout=timeout)
    answer = await stream.read_until(b"\n", keep=False, timeout=timeout)
    return answer.decode(errors="replace")


async def talk(host: str, port: int, lines: list[str], seconds: float) -> None:
    """Connect within `seconds`, then give every line that much time for its way there and back."""
    async with netio.connect_tcp(host, port, timeout=seconds) as stream:
        for line in lines:
            print(f"> {line}")
            print(f"< {await echo(stream, line, timeout=netio.Deadline.after(seconds))}")


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description="An echo client.")
    parser.add_argument("lines", nargs="*", metavar="LINE", help="what to send, a line each")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=7000, help="default: %(default)s")
    parser.add_argument("--timeout", type=float, default=5, metavar="SECONDS")
    arguments = parser.parse_args()
    lines = arguments.lines or ["hello"]
    try:
        asyncio.run(talk(arguments.host, arguments.port, lines, arguments.timeout))
    except (netio.NetioError, ValueError) as error:  # the connection, or a wrong argument
        print(f"echo_client: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell has it
    return 0


if __name__ == "__main__":
    sys.exit(main())
