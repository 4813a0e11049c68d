"""The examples do what they say, as programs of their own; and the demo notices what is wrong."""

import contextlib
import http.client
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from real_time import block_until

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
LINES_MAX = 59
RUN_S = 18  # any one program
STOP_S = 5  # from Ctrl-C to the end; a server gives its handlers one second of it
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
PYTHON = [sys.executable, "-W", "error"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTHON, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )


def example(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(str(EXAMPLES / name), *arguments)


@contextlib.contextmanager
def server(name: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with subprocess.Popen(
        [*PYTHON, str(EXAMPLES / name), *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            said = re.fullmatch(r"listening on 127\.0\.0\.1 port (\d+)\n", first)
            assert said, first
            yield process, int(said[1])
        finally:
            process.kill()


def stop(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Press Ctrl-C; what the program says then, on both outputs."""
    wait_until_idle(process)
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=STOP_S)


def wait_until_idle(process: subprocess.Popen[str]) -> None:
    """Until the program sleeps in its poller, as a server that a person stops would do.

    `asyncio.run` notices a signal that comes just before that at the next event only: seconds later
    in these tests, once in some hundred runs.
    """
    state = Path(f"/proc/{process.pid}/stat")
    if not state.exists():
        time.sleep(0.2)
        return
    assert block_until(
        lambda: process.poll() is not None or state.read_text().rpartition(")")[2].split()[0] == "S"
    )


def echo_server() -> contextlib.AbstractContextManager[tuple[subprocess.Popen[str], int]]:
    return server("echo_server.py", "--port", "0")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses: bound, so that nobody else gets it, and not listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that connects, for the kernel does that, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def demo_module() -> types.ModuleType:
    """The demo as a module, to see which steps it has."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        spec = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
        sys.modules.pop("echo_client", None)
    return module


Program = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def demos() -> tuple[Program, float, dict[str, Program]]:
    """The demo, how many seconds it took, and each step done wrong.

    All at once, since they mostly wait: a demo is about limits that are reached.
    """
    with ThreadPoolExecutor(1 + len(WRONG)) as pool:
        wrong = pool.map(run_wrong, WRONG)
        started = time.monotonic()
        demo = pool.submit(example, "demo.py").result()
        seconds = time.monotonic() - started
        return demo, seconds, dict(zip(WRONG, wrong, strict=True))


@pytest.mark.once
def test_the_demo_shows_every_step_and_succeeds(
    demos: tuple[Program, float, dict[str, Program]],
) -> None:
    demo, seconds, _ = demos
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stderr == ""
    titles = re.findall(r"^\d+\. (.+)$", demo.stdout, re.MULTILINE)
    assert titles == [title for title, _ in demo_module().STEPS]
    assert not re.search(r"^ *FAILED", demo.stdout, re.MULTILINE)
    checks = re.search(r"(\d+) checks ok, 0 FAILED\n\Z", demo.stdout)
    assert checks
    assert int(checks[1]) == len(re.findall(r"^   ok ", demo.stdout, re.MULTILINE))
    assert 2 < seconds < 12


# What each step of the demo is about, done wrong: as code that runs before the demo.
WRONG = {
    "round_trip": """
        async def echo(stream, line, *, timeout):
            return line.upper()
        demo.echo_client.echo = echo
        """,
    "own_timeout": """
        async def read_exactly(self, n, *, timeout=None):
            raise TimeoutError("timed out")
        netio.Stream.read_exactly = read_exactly
        """,
    "connection_deadline": """
        netio.Deadline.after = lambda seconds: netio.Deadline.at(None)
        """,
    "nested_limits": """
        right = netio.timeout
        netio.timeout = lambda delay, name: right(0.1 if name == "one try" else delay, name=name)
        """,
    "outside_cancel": """
        right = netio.Scope.__aexit__
        async def wrong(self, kind, error, traceback):
            await right(self, kind, error, traceback)
            if kind is not None:
                raise TimeoutError
        netio.Scope.__aexit__ = wrong
        """,
    "nothing_lost": """
        async def read_exactly(self, n, *, timeout=60):
            data = b""
            while len(data) < n:
                data += await self.read_some(n - len(data), timeout=timeout)
            return data
        netio.Stream.read_exactly = read_exactly
        """,
}


def run_wrong(step: str) -> subprocess.CompletedProcess[str]:
    """The one step of the demo, over a library that has gone wrong; see `WRONG`."""
    head = f"import sys; sys.path.insert(0, {str(EXAMPLES)!r})\nimport demo, netio\n"
    head += "demo.STEP_SECONDS = 3\n"  # some fail by it only
    tail = f"demo.STEPS = [s for s in demo.STEPS if s[1].__name__ == {step!r}]\n"
    wrong = "\n".join(line[8:] for line in WRONG[step].splitlines())
    # Without asserts, so that no check can be one.
    return run("-O", "-c", f"{head}{wrong}\n{tail}sys.exit(demo.main())")


@pytest.mark.once
def test_every_step_of_the_demo_fails_when_netio_does_something_else(
    demos: tuple[Program, float, dict[str, Program]],
) -> None:
    assert [step.__name__ for _, step in demo_module().STEPS] == list(WRONG)
    for step, demo in demos[2].items():
        assert demo.returncode == 1, (step, demo.stdout, demo.stderr)
        assert re.search(r"^   FAILED  expected: ", demo.stdout, re.MULTILINE), (step, demo.stdout)


def test_client_and_server_work_together() -> None:
    with echo_server() as (_, port):
        client = example("echo_client.py", "--port", str(port), "one", "and two")
    assert client.stdout == "> one\n< one\n> and two\n< and two\n"
    assert (client.returncode, client.stderr) == (0, "")


def readable_line(client: subprocess.CompletedProcess[str]) -> str:
    """The one line in which a client that failed says why."""
    assert client.returncode == 1
    [line] = client.stderr.splitlines()
    assert line.startswith("echo_client: ")
    return line


def test_the_client_says_in_one_line_that_it_cannot_connect(closed_port: int) -> None:
    line = readable_line(example("echo_client.py", "--port", str(closed_port)))
    assert f"127.0.0.1:{closed_port}" in line
    assert "refused" in line


def test_the_client_says_in_one_line_which_limit_fired(silent_port: int) -> None:
    client = example("echo_client.py", "--port", str(silent_port), "--timeout", "0.2")
    line = readable_line(client)
    assert f"read_until from 127.0.0.1:{silent_port}" in line
    assert "the deadline was reached 0.200 s after the call began" in line


def test_the_client_says_in_one_line_that_an_argument_is_wrong() -> None:
    assert "port" in readable_line(example("echo_client.py", "--port", "70000"))


def test_ctrl_c_ends_the_server_at_once() -> None:
    with echo_server() as (process, _):
        assert stop(process) == ("", "")
        assert process.returncode == 0


def test_ctrl_c_ends_the_server_while_a_client_is_connected() -> None:
    with echo_server() as (process, port), socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"hello\n")
        assert sock.recv(64) == b"hello\n"
        assert stop(process) == ("", "")
        assert sock.recv(64) == b""
        assert process.returncode == 0


def test_the_server_says_in_one_line_that_its_port_is_taken(silent_port: int) -> None:
    server = example("echo_server.py", "--port", str(silent_port))
    assert server.returncode == 1
    [line] = server.stderr.splitlines()
    assert line.startswith("echo_server: cannot listen on 127.0.0.1")
    assert str(silent_port) in line


def test_a_program_that_is_sent_a_signal_prints_its_snapshot_and_goes_on() -> None:
    program = [*PYTHON, str(EXAMPLES / "snapshot.py")]
    with subprocess.Popen(
        program,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert f"kill -USR1 {process.pid}" in process.stdout.readline()
            wait_until_idle(process)
            for _ in range(2):
                process.send_signal(signal.SIGUSR1)
                text = os.read(process.stderr.fileno(), 65536).decode()  # it is written at once
                assert re.match(r"4 tasks, 1 scope, 3 operations; ", text)
                assert re.search(r"'client' waits in read_line from 127\.0\.0\.1:\d+ for", text)
                assert re.search(r"timeout  'request'  (29\.\d{3}|30\.000) s left", text)
            said, complaints = stop(process)
        finally:
            process.kill()
    assert (process.returncode, said, complaints) == (0, "", "")


def test_where_there_is_no_such_signal_the_program_says_so() -> None:
    program = "import signal, sys; del signal.SIGUSR1\n"
    program += f"sys.path.insert(0, {str(EXAMPLES)!r}); import snapshot; sys.exit(snapshot.main())"
    run_without = run("-c", program)
    assert run_without.returncode == 1
    assert run_without.stderr.startswith("snapshot: this system has no signal SIGUSR1")


def test_jobs_are_ended_together_and_no_error_is_lost() -> None:
    jobs = example("end_together.py")
    assert (jobs.returncode, jobs.stderr) == (0, "")
    assert without_chance(jobs.stdout).splitlines() == [
        "in time: ['a', 'b']",
        "   slow has ended",
        "too late: scope 'all jobs': the limit of 0.3 s was reached after N s",
        "   slow has ended",
        "   worse has ended",
        "failed on its way out: worse: the disk is full",
        "   after: scope 'all jobs': the limit of 0.3 s was reached after N s",
    ]


def test_the_redis_client_shows_what_it_does_where_there_is_no_redis() -> None:
    shown = example("redis_client.py")
    assert (shown.returncode, shown.stderr) == (0, "")
    many, one, error, cut, refused = without_chance(shown.stdout).splitlines()
    assert many == "many: [b'PONG', RedisError('ERR unknown command'), b'PONG']"
    assert one == "one: b'PONG'"
    assert error == "NONSENSE: RedisError: ERR unknown command"
    assert cut.startswith("BLPOP: DeadlineExceeded: read_until from 127.0.0.1:PORT: the deadline")
    assert refused.startswith("PING: ConnectionLost: ")
    assert refused.endswith("replies are still due, from that to 'BLPOP' on; connect anew")


def test_the_http_server_answers_and_ends_by_ctrl_c() -> None:
    with server("http_server.py", "0") as (process, port):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as client:
            for path in ("/", "/again"):
                client.request("GET", path)
                answer = client.getresponse()
                assert (answer.status, answer.read()) == (200, b"200 OK\r\n")
        assert stop(process) == ("", "")
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("name", "lines_max"),
    [
        ("echo_client.py", LINES_MAX),
        ("echo_server.py", LINES_MAX),
        ("end_together.py", LINES_MAX),
        ("http_server.py", 60),
        ("redis_client.py", 100),
        ("snapshot.py", LINES_MAX),
    ],
)
def test_an_example_is_short(name: str, lines_max: int) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= lines_max


def test_the_readme_shows_what_its_example_prints() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^```python\n(.*?)^```\n.*?^```text\n(.*?)^```\n", text, re.M | re.S)
    assert shown
    program = run("-c", shown[1])
    assert (program.returncode, program.stderr) == (0, "")
    assert without_chance(program.stdout) == without_chance(shown[2])


def test_the_page_on_seeing_shows_what_its_program_prints(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "seeing.md").read_text(encoding="utf-8")
    shown = re.search(r"^```python\n(.*?)^```\n.*?^```text\n(.*?)^```\n", text, re.M | re.S)
    assert shown
    (tmp_path / "app.py").write_text(shown[1], encoding="utf-8")
    program = subprocess.run(
        [*PYTHON, "app.py"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )
    assert (program.returncode, program.stderr) == (0, "")
    assert without_digits(program.stdout) == without_digits(shown[2])


def without_digits(text: str) -> str:
    """`text` without the times, and the lines of the standard library's own files."""
    text = re.sub(r"\(asyncio/tasks\.py:\d+\)", "(asyncio/tasks.py)", text)
    return re.sub(r"\d+\.\d{3} s", "N s", text)


def without_chance(text: str) -> str:
    """`text` without the ports that the system chose, and without the milliseconds."""
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    return re.sub(r"\d+\.\d{3} s", "N s", text)
