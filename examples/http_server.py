"""A tiny HTTP/1.1 server: connections are kept alive; who is slow, or sends too much, is refused.

python examples/http_server.py 8080, and then: curl -i http://127.0.0.1:8080/
"""

import asyncio
import contextlib
import email
import re
import sys
from http import HTTPStatus

import netio

LIMITS = netio.Timeouts(idle=60, write=10, total=3600)  # `idle` is for the time between requests
HEAD_SECONDS, HEAD_BYTES, FAREWELL_SECONDS = 10, 16 * 1024, 2
HEAD = re.compile(rb"([A-Z]+) \S+ HTTP/1\.([01])\r\n((?:[!#-'*+.^`|~\w-]+:[^\r\n\0]*\r\n)*)\r\n")


def judge(head: bytes) -> tuple[int, bool]:
    """The status for a request, and whether another one may follow it."""
    if not (parts := HEAD.fullmatch(head.lstrip(b"\r\n"))):
        return 400, False
    minor, fields = int(parts[2]), email.message_from_string(parts[3].decode("latin-1"))
    if not minor <= len(fields.get_all("Host", [])) <= 1:
        return 400, False
    if "Transfer-Encoding" in fields or set(fields.get_all("Content-Length", ["0"])) != {"0"}:
        return 413, False  # nothing here takes a body
    keep = minor == 1 and "close" not in fields.get("Connection", "").lower()
    return 200 if parts[1] in (b"GET", b"HEAD") else 501, keep


async def serve(stream: netio.Stream) -> None:
    """Answer one request after the other, until the client ends that, or is refused."""
    keep = True
    while keep and (head := await stream.read_some(1, timeout=None)):
        try:
            head += await stream.read_until(b"\r\n\r\n", limit=HEAD_BYTES, timeout=HEAD_SECONDS)
            status, keep = judge(head)
        except (netio.LimitExceeded, netio.DeadlineExceeded) as error:
            status, keep = 408 if isinstance(error, TimeoutError) else 431, False
        body = f"{status} {HTTPStatus(status).phrase}\r\n"
        fields = f"Content-Length: {len(body)}\r\nConnection: {'keep-alive' if keep else 'close'}"
        answer = f"HTTP/1.1 {body}{fields}\r\n\r\n"
        await stream.write((answer if head.startswith(b"HEAD ") else answer + body).encode())
    await stream.write_eof()
    async for _ in stream.chunks(timeout=netio.Deadline.after(FAREWELL_SECONDS)):
        pass  # a close with bytes unread would be a reset, which may overtake the answer


async def main(port: str = "8080") -> None:
    """Serve on `port` until Ctrl-C."""
    async with netio.serve_tcp(serve, "127.0.0.1", int(port), timeouts=LIMITS, grace=1) as server:
        print(f"listening on 127.0.0.1 port {server.port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
