"""An echo server: sends every line back. Stop it with Ctrl-C.

python examples/echo_server.py --port 7000
"""

import argparse
import asyncio
import contextlib
import logging

import netio

# A client that sends nothing for so long is sent away. Every limit here is in seconds.
LIMITS = netio.Timeouts(read=30, write=10)


async def echo(stream: netio.Stream) -> None:
    """Serve one connection; the server closes it when this returns or raises."""
    async for line in stream.lines():
        await stream.write(line)


async def serve(host: str, port: int) -> None:
    """Serve until cancelled. Handlers that are still busy then have one second to finish."""
    async with netio.serve_tcp(echo, host, port, timeouts=LIMITS, grace=1) as server:
        for address in server.addresses:
            if isinstance(address, tuple):
                print(f"listening on {address[0]} port {address[1]}", flush=True)
        await server.serve_forever()


def main() -> str | None:
    """Return what went wrong, for `sys.exit`."""
    parser = argparse.ArgumentParser(description="An echo server.")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=7000, help="0: a free one")
    arguments = parser.parse_args()
    # One line for each connection that its peer, or a limit, has ended.
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(serve(arguments.host, arguments.port))
        except (OSError, ValueError) as error:  # can't listen, or a wrong argument
            return f"echo_server: {getattr(error, 'strerror', None) or error}"
    return None


if __name__ == "__main__":
    raise SystemExit(main())
