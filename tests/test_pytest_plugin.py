"""The pytest plugin: tests on a virtual clock, a check for leaks, nothing where nobody asks."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import netio.testing._leaks

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
INI = """
[pytest]
asyncio_mode = {mode}
asyncio_default_fixture_loop_scope = function
"""

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run pytest on the text of a test file, with the plugin; `mode` is that of pytest-asyncio."""
    monkeypatch.setattr(netio.testing._leaks, "SETTLE_SECONDS", 0.01)

    def run_text(text: str, *arguments: str, mode: str = "auto") -> pytest.RunResult:
        pytester.makeini(INI.format(mode=mode))
        pytester.makepyfile("import asyncio, socket\nimport pytest\nimport netio.testing\n" + text)
        return pytester.runpytest("-p", "_netio_pytest", "-p", "no:cacheprovider", *arguments)

    return run_text


def outcomes(result: pytest.RunResult) -> dict[str, int]:
    counts = result.parseoutcomes()
    counts.pop("warnings", None)
    return counts


# The clock. -------------------------------------------------------------------------------------

A_DAY = """
async def a_day():
    await asyncio.sleep(86400)
    return asyncio.get_running_loop().time()
"""

MARKED = (
    A_DAY
    + """
@pytest.mark.virtual_clock
async def test_marked():
    assert await a_day() == 86400.0

async def test_that_asks(virtual_clock):
    virtual_clock.advance(14)
    assert await a_day() == virtual_clock.time() == 86414.0
    with virtual_clock.hold("nothing"):
        assert virtual_clock.timers() == []

@pytest.fixture
def indirect(virtual_clock):
    return virtual_clock

async def test_that_asks_by_a_fixture(indirect):
    assert await a_day() == indirect.time()

@pytest.mark.virtual_clock
class TestMarked:
    @pytest.mark.parametrize("days", [1, 2])
    async def test_method(self, days):
        for day in range(days):
            assert await a_day() == 86400.0 * (day + 1)
"""
)


def test_a_test_that_asks_runs_on_a_virtual_clock(run: Run) -> None:
    result = run(MARKED, "-v")
    assert outcomes(result) == {"passed": 5}
    result.stdout.fnmatch_lines(["*::test_marked PASSED*", "*::test_method?1? PASSED*"])


def test_it_does_so_in_the_strict_mode_of_pytest_asyncio(run: Run) -> None:
    assert outcomes(run("pytestmark = pytest.mark.asyncio\n" + MARKED, mode="strict")) == {
        "passed": 5
    }


@pytest.mark.parametrize("arguments", [(), ("-p", "no:asyncio")], ids=["unmarked", "absent"])
def test_it_needs_no_pytest_asyncio(run: Run, arguments: tuple[str, ...]) -> None:
    arguments = (*arguments, "-W", "ignore::pytest.PytestConfigWarning")
    assert outcomes(run(MARKED, *arguments, mode="strict")) == {"passed": 5}


def test_its_fixtures_live_on_the_same_loop(run: Run) -> None:
    text = """
    @pytest.fixture
    async def started():
        await asyncio.sleep(10)
        yield asyncio.get_running_loop()
        await asyncio.sleep(100)
        assert asyncio.get_running_loop().time() == 113

    @pytest.mark.virtual_clock
    async def test_it(started):
        await asyncio.sleep(3)
        assert asyncio.get_running_loop() is started
        assert started.time() == 13
    """
    assert outcomes(run(dedented(text))) == {"passed": 1}


def test_a_fixture_that_would_live_on_another_loop_is_refused_before_it_runs(run: Run) -> None:
    text = """
    import pytest_asyncio

    @pytest_asyncio.fixture
    async def started():
        await asyncio.sleep(86400)
        yield asyncio.get_running_loop()

    @pytest.mark.virtual_clock
    async def test_not_marked(started): ...

    @pytest.mark.asyncio
    @pytest.mark.virtual_clock
    async def test_marked(started):
        assert asyncio.get_running_loop() is started
    """
    result = run(dedented(text), mode="strict")
    assert outcomes(result) == {"passed": 1, "errors": 1}
    result.stdout.fnmatch_lines(["*would run the fixture 'started' on a loop of its own*"])


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_a_coroutine_that_unittest_runs_is_refused_unless_it_is_told_the_loop(
    run: Run, mode: str
) -> None:
    text = """
    import unittest

    class TestOfUnittest(unittest.IsolatedAsyncioTestCase):
        @pytest.mark.virtual_clock
        async def test_that_asks(self):
            assert asyncio.get_running_loop().time() == 0.0

        async def test_that_does_not(self): ...

        @pytest.mark.virtual_clock
        @pytest.mark.skip
        async def test_that_is_skipped(self): ...

    class TestThatIsTold(TestOfUnittest):
        loop_factory = netio.testing.VirtualLoop
    """
    result = run(dedented(text), "-k", "OfUnittest", mode=mode)
    assert outcomes(result) == {"passed": 1, "skipped": 1, "errors": 1, "deselected": 3}
    result.stdout.fnmatch_lines(["*virtual_clock: unittest runs this coroutine*loop_factory*"])
    if sys.version_info >= (3, 13):
        result = run(dedented(text), "-k", "IsTold", mode=mode)
        assert outcomes(result) == {"passed": 2, "skipped": 1, "deselected": 3}


def test_the_clock_of_a_test_that_is_no_coroutine_says_so(run: Run) -> None:
    result = run("def test_it(virtual_clock): virtual_clock.time()")
    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(["*RuntimeError: virtual_clock *call virtual_run*"])


def dedented(text: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in text.splitlines())


def test_other_tests_keep_their_loop(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        "import asyncio\n"
        "class Own(asyncio.SelectorEventLoop): pass\n"
        "def pytest_asyncio_loop_factories(): return {'own': Own}\n"
    )
    text = """
    def kind():
        return type(asyncio.get_running_loop()).__name__

    async def test_before():
        assert kind() == "Own"

    @pytest.mark.virtual_clock
    async def test_virtual():
        assert kind() == "VirtualLoop"

    async def test_after():
        assert kind() == "Own"
    """
    assert outcomes(run(dedented(text))) == {"passed": 3}


@pytest.mark.parametrize("own", [True, False])
def test_tests_that_share_a_loop_share_its_clock(
    run: Run, pytester: pytest.Pytester, own: bool
) -> None:
    """And a fixture of the real loop is not taken over to the virtual one, or the other way."""
    if own:
        pytester.makeconftest(
            "import asyncio\n"
            "def pytest_asyncio_loop_factories(): return {'own': asyncio.new_event_loop}\n"
        )
    text = """
    import pytest_asyncio

    pytestmark = pytest.mark.asyncio(loop_scope="module")

    @pytest_asyncio.fixture(loop_scope="module", scope="module")
    async def loop():
        yield asyncio.get_running_loop()

    def clock(loop):
        assert loop is asyncio.get_running_loop()
        return getattr(loop, "_now", "real")

    async def test_real(loop):
        assert clock(loop) == "real"

    @pytest.mark.virtual_clock
    async def test_first(loop):
        await asyncio.sleep(5)
        assert clock(loop) == 5

    @pytest.mark.virtual_clock
    async def test_second(loop):
        await asyncio.sleep(5)
        assert clock(loop) == 10

    async def test_real_again(loop):
        assert clock(loop) == "real"
    """
    assert outcomes(run(dedented(text))) == {"passed": 4}


def test_the_options_of_the_loop_are_those_of_the_marker(run: Run) -> None:
    text = """
    @pytest.mark.virtual_clock(seed=3, timers_first=True, max_steps=100, patience=0.5)
    async def test_all():
        loop = asyncio.get_running_loop()
        assert (loop._timers_first, loop._max_steps, loop._patience) == (True, 100, 0.5)
        assert loop._random is not None

    @pytest.mark.virtual_clock
    class TestOrder:
        async def test_none(self):
            assert asyncio.get_running_loop()._random is None

        @pytest.mark.virtual_clock(max_steps=10)
        async def test_the_nearest_marker_counts(self):
            assert asyncio.get_running_loop()._max_steps == 10

    @pytest.mark.virtual_clock(max_steps=100)
    async def test_that_never_ends():
        while True:
            await asyncio.sleep(0)
    """
    result = run(dedented(text))
    assert outcomes(result) == {"passed": 3, "failed": 1}
    result.stdout.fnmatch_lines(["E *TooManySteps: 100 turns of the loop*"])


def test_a_seed_can_be_given_to_a_whole_run(run: Run) -> None:
    text = """
    @pytest.mark.virtual_clock
    async def test_order():
        seen = []
        async def note(number):
            seen.append(number)
        await asyncio.gather(*map(note, range(10)))
        assert seen == list(range(10))
    """
    assert outcomes(run(dedented(text))) == {"passed": 1}
    assert outcomes(run(dedented(text), "--virtual-clock-seed=1")) == {"failed": 1}


def test_a_deadlock_fails_the_test_and_names_its_task(run: Run) -> None:
    text = """
    @pytest.mark.virtual_clock
    async def test_that_waits():
        await asyncio.Event().wait()
    """
    for arguments in ([], ["-p", "no:asyncio", "-W", "ignore::pytest.PytestConfigWarning"]):
        result = run(dedented(text), *arguments)
        assert outcomes(result) == {"failed": 1}
        result.stdout.fnmatch_lines(["E *Deadlock: nothing can run*", "*Event.wait (asyncio*"])


def test_a_test_that_is_no_coroutine_runs_one_on_a_virtual_clock(run: Run) -> None:
    text = """
    def test_it(virtual_run):
        assert virtual_run(a_day(), seed=1) == 86400.0
        assert virtual_run is netio.testing.run
    """
    assert outcomes(run(A_DAY + dedented(text))) == {"passed": 1}


# Wrong uses. ------------------------------------------------------------------------------------


def test_two_clocks_are_refused(run: Run) -> None:
    text = """
    @pytest.mark.virtual_clock
    async def test_a_run_within():
        netio.testing.run(a_day())

    async def test_a_run_within_a_real_one(virtual_run):
        virtual_run(a_day())

    def test_the_clock_of_another_loop(virtual_clock):
        async def main():
            virtual_clock.time()
        asyncio.run(main())
    """
    result = run(A_DAY + dedented(text))
    assert outcomes(result) == {"failed": 3}
    assert result.stdout.str().count("two clocks") >= 3


def test_a_mark_on_what_is_no_coroutine_is_refused_and_inherited_is_not_meant(run: Run) -> None:
    text = """
    @pytest.mark.virtual_clock
    def test_marked():
        pass

    @pytest.mark.virtual_clock
    class TestMarked:
        def test_it(self):
            pass
    """
    result = run(dedented(text))
    assert outcomes(result) == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["*virtual_clock is for coroutines; here, call virtual_run*"])


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("sed=3", "virtual_clock: got an unexpected keyword argument 'sed'"),
        ("3", "virtual_clock: too many positional arguments"),
        ("seed=[]", "virtual_clock: unhashable type"),
        ("max_steps=-3", "max_steps must be at least 1, not -3"),
        ("seed='one'", "seed must be an int, not str"),
    ],
)
def test_options_that_are_none_are_refused(run: Run, said: str, error: str) -> None:
    result = run(f"@pytest.mark.virtual_clock({said})\nasync def test_it(): pass\n")
    assert outcomes(result).get("errors") == 1
    result.stdout.fnmatch_lines([f"*{error}*"])


def test_the_runner_of_anyio_beside_it_is_refused(run: Run) -> None:
    text = """
    @pytest.mark.anyio
    @pytest.mark.virtual_clock
    async def test_both():
        pass
    """
    result = run(dedented(text), mode="strict")
    assert outcomes(result) == {"errors": 1}
    result.stdout.fnmatch_lines(["*test_both: virtual_clock and anyio would run * on two clocks*"])


def test_the_runner_of_anyio_can_be_told_the_loop(run: Run) -> None:
    text = """
    @pytest.fixture
    def anyio_backend():
        return "asyncio", {"loop_factory": netio.testing.new_event_loop}

    @pytest.mark.anyio
    async def test_it():
        assert await a_day() == 86400.0
    """
    arguments = ("-p", "no:asyncio", "-W", "ignore::pytest.PytestConfigWarning")
    assert outcomes(run(A_DAY + dedented(text), *arguments)) == {"passed": 1}


# Leaks. -----------------------------------------------------------------------------------------

LEAKING = """
held = []

async def leave_a_task():
    held.append(asyncio.create_task(asyncio.sleep(100)))

@pytest.mark.asyncio(loop_scope="module")
async def test_that_leaves_nothing_in_a_loop_of_the_module({check}):
    await asyncio.create_task(asyncio.sleep(0))

async def test_task({check}):
    await leave_a_task()

@pytest.mark.virtual_clock
async def test_task_in_virtual_time({check}):
    await leave_a_task()

@pytest.mark.asyncio(loop_scope="module")
async def test_task_in_a_loop_of_the_module({check}):
    await leave_a_task()

async def test_descriptor({check}):
    held.extend(socket.socketpair())

def test_descriptor_without_a_loop({check}):
    held.extend(socket.socketpair())

def test_what_is_dropped({check}):
    socket.socket()

@pytest.mark.allow_leaks("to see")
async def test_that_may({check}):
    held.extend(socket.socketpair())

@pytest.mark.allow_leaks("to see")
def test_that_may_without_a_loop({check}):
    held.extend(socket.socketpair())

async def test_that_leaves_nothing({check}):
    with socket.socket():
        await asyncio.create_task(asyncio.sleep(0))

async def test_that_fails({check}):
    held.extend(socket.socketpair())
    raise ZeroDivisionError

def test_that_fails_without_a_loop({check}):
    held.extend(socket.socketpair())
    raise ZeroDivisionError

def test_the_end():
    for one in held:
        if isinstance(one, socket.socket):
            one.close()
    held.clear()
"""
FOUND = {"passed": 11, "failed": 2, "errors": 6}


@pytest.mark.real_time("the tests of the run within wait, as those of its users")
def test_a_test_can_ask_to_be_checked(run: Run) -> None:
    result = run(LEAKING.format(check="netio_leak_check"))
    assert outcomes(result) == FOUND
    assert result.stdout.str().count("\nleft behind:") == 6
    result.stdout.fnmatch_lines(["*the task 'Task-* waits: sleep (asyncio*"])
    result.stdout.fnmatch_lines(["*descriptor * is open: socket:*"])
    result.stdout.fnmatch_lines(["*ResourceWarning: unclosed <socket.socket *"])


@pytest.mark.parametrize("how", ["option", "ini"])
@pytest.mark.real_time("the tests of the run within wait, as those of its users")
def test_a_whole_suite_can_be_checked(run: Run, pytester: pytest.Pytester, how: str) -> None:
    arguments = ["--netio-leak-check"] if how == "option" else ["-o", "netio_leak_check=true"]
    assert outcomes(run(LEAKING.format(check=""), *arguments)) == FOUND


def test_without_being_asked_it_checks_nothing(run: Run) -> None:
    assert outcomes(run(LEAKING.format(check=""))) == {"passed": 11, "failed": 2}


def test_a_test_that_no_other_plugin_runs_is_checked(run: Run) -> None:
    text = """
    @pytest.mark.virtual_clock
    async def test_task():
        asyncio.create_task(asyncio.sleep(100), name="left")

    @pytest.mark.virtual_clock
    async def test_nothing():
        await asyncio.sleep(100)

    @pytest.mark.allow_leaks("to see")
    @pytest.mark.virtual_clock
    async def test_that_may():
        asyncio.create_task(asyncio.sleep(100))
    """
    options = ["-p", "no:asyncio", "-W", "ignore::pytest.PytestConfigWarning"]
    result = run(dedented(text), "--netio-leak-check", *options)
    assert outcomes(result) == {"failed": 1, "passed": 2}
    result.stdout.fnmatch_lines(["*the task 'left' waits: sleep*"])


@pytest.mark.real_time("the tests of the run within wait, as those of its users")
def test_what_the_fixtures_of_a_test_leave_is_found(run: Run) -> None:
    text = """
    held = []

    @pytest.fixture(scope="module")
    def of_the_module():
        held.append(socket.socket())
        yield
        held.pop().close()

    @pytest.fixture
    async def that_leaves():
        yield
        held.append(socket.socket())

    @pytest.fixture
    def that_leaves_too():
        yield
        held.append(socket.socket())

    def test_it(of_the_module, that_leaves_too): pass
    async def test_async(of_the_module, that_leaves): pass
    def test_the_end():
        for one in held: one.close()
    """
    result = run(dedented(text), "--netio-leak-check")
    assert outcomes(result) == {"passed": 3, "errors": 2}


def test_this_suite_is_checked(request: pytest.FixtureRequest) -> None:
    assert request.config.getini("netio_leak_check")
    assert "netio_leak_check" in request.fixturenames


# Manners. ---------------------------------------------------------------------------------------


def test_it_is_light_and_does_nothing_where_nobody_asks(tmp_path: Path) -> None:
    """In a process of its own, since this one has imported everything."""
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_modules():\n"
        "    assert not {'netio', 'asyncio', 'ssl', 'pytest_asyncio'} & set(sys.modules)\n"
        "def test_fixtures(request):\n"
        "    assert not [f for f in request.fixturenames if 'netio' in f or 'virtual' in f]\n"
        "async def test_that_nobody_runs(): pass\n"
    )
    program = (
        "import sys, pytest; before = set(sys.modules); import _netio_pytest\n"
        "print('added:', *sorted(set(sys.modules) - before))\n"
        "pytest.main(['-q', '-p', '_netio_pytest', '-p', 'no:cacheprovider'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=15,
    )
    assert done.stdout.startswith("added: _netio_pytest\n"), done.stdout
    # What pytest says of a coroutine that no plugin runs, it still says.
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    assert "async def functions are not natively supported" in done.stdout


def test_each_test_has_a_network_in_memory_of_its_own(run: Run) -> None:
    text = """
    import netio

    async def shout(stream):
        async for line in stream.lines():
            await stream.write(line.upper())

    @pytest.mark.virtual_clock
    @pytest.mark.parametrize("again", [False, True])  # on the same port
    async def test_it(memory_network, again):
        async with netio.serve_tcp(shout, "localhost", 7000, network=memory_network):
            async with netio.connect_tcp("localhost", 7000, network=memory_network) as stream:
                await stream.write(b"hello\\n")
                assert await stream.read_line() == b"HELLO\\n"

    def test_the_fixture_is_the_same_within_a_test(memory_network, request):
        assert request.getfixturevalue("memory_network") is memory_network
        assert isinstance(memory_network, netio.testing.Network)
    """
    assert outcomes(run(dedented(text))) == {"passed": 3}


def test_pytest_asyncio_is_left_alone_where_nobody_asks(run: Run) -> None:
    text = """
    async def test_it(request):
        assert request.config.hook.pytest_asyncio_loop_factories.get_hookimpls() == []
        assert not [f for f in request.fixturenames if "netio" in f or "virtual" in f]
        assert not hasattr(request.node, "callspec")
        assert request.node.nodeid.endswith("::test_it")
    """
    assert outcomes(run(dedented(text))) == {"passed": 1}


@pytest.fixture
def entry_point(pytester: pytest.Pytester) -> None:
    """As it is when netio is installed."""
    info = pytester.mkdir("site") / "installed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pytest11]\nnetio = _netio_pytest\n")
    pytester.syspathinsert(info.parent)


@pytest.mark.usefixtures("entry_point")
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-p", "_netio_pytest"),
        ("-p", "netio"),
        ("-p", "netio", "-p", "_netio_pytest"),
        ("-p", "_netio_pytest", "-p", "netio"),
    ],
)
@pytest.mark.parametrize("in_conftest", [False, True])
def test_it_may_be_loaded_in_several_ways_at_once(
    pytester: pytest.Pytester, arguments: tuple[str, ...], in_conftest: bool
) -> None:
    if in_conftest:
        pytester.makeconftest("pytest_plugins = ['_netio_pytest']")
    pytester.makepyfile("def test_it(virtual_run): pass")
    result = pytester.runpytest("-p", "no:asyncio", "-p", "no:cacheprovider", *arguments)
    assert outcomes(result) == {"passed": 1}


@pytest.mark.usefixtures("entry_point")
def test_it_can_be_switched_off(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(virtual_run): pass")
    result = pytester.runpytest("-p", "no:netio", "-p", "no:asyncio", "-p", "no:cacheprovider")
    assert outcomes(result) == {"errors": 1}
    result.stdout.fnmatch_lines(["*fixture 'virtual_run' not found*"])


def test_what_pytest_tells_of_it(run: Run) -> None:
    told = run("", "--markers").stdout.str() + run("", "--fixtures").stdout.str()
    names = "virtual_clock", "allow_leaks", "virtual_run", "memory_network", "netio_leak_check"
    for name in names:
        assert name in told


def test_every_fixture_of_it_says_what_it_is_for() -> None:
    import _netio_pytest

    fixtures: dict[str, Any] = {
        name: value
        for name, value in vars(_netio_pytest).items()
        if type(value).__name__ == "FixtureFunctionDefinition"
    }
    assert set(fixtures) >= {"virtual_clock", "virtual_run", "memory_network", "netio_leak_check"}
    assert all(fixture.__doc__ for fixture in fixtures.values())


def shown_in_the_guide() -> list[str]:
    guide = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    return re.findall(r"<!-- not run: pytest runs it -->\n```python\n(.*?)```", guide, re.S)


def test_what_the_guide_shows_runs(run: Run) -> None:
    assert outcomes(run(shown_in_the_guide()[0])) == {"passed": 5}


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_what_the_guide_shows_of_hypothesis_runs(run: Run, mode: str) -> None:
    _, with_hypothesis = shown_in_the_guide()
    result = run(with_hypothesis, "--netio-leak-check", mode=mode)
    assert outcomes(result) == {"passed": 2}


def test_where_hypothesis_runs_a_coroutine_on_a_clock_of_its_own_it_is_told_how(run: Run) -> None:
    """It would refuse `virtual_run`, and what it gives to pytest is no coroutine."""
    _, with_hypothesis = shown_in_the_guide()
    arguments = "-p", "no:asyncio", "-W", "ignore::pytest.PytestWarning"
    result = run(with_hypothesis, *arguments)
    assert outcomes(result) == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["*virtual_clock is for coroutines; here, call netio.testing.run*"])


# Timelines. -------------------------------------------------------------------------------------

TIMED = """
import netio

async def read(timeout):
    near, far = netio.stream_pair()
    async with near, far:
        await near.read_exactly(8, timeout=timeout)

@pytest.mark.virtual_clock
@pytest.mark.parametrize("name", ["<b>/a", "<b>?a"])
async def test_on_a_virtual_clock(name):
    await read(2)

async def test_on_an_ordinary_one():
    await read(0.01)

def test_that_is_no_coroutine(virtual_run):
    virtual_run(read(3))

@pytest.fixture
async def opened():
    async with netio.timeout(5, name="of the fixture"):
        yield
        assert not "over"

async def test_of_which_the_fixture_fails(opened):
    pass

async def test_that_passes():
    with pytest.raises(netio.DeadlineExceeded):
        await read(0.01)

async def test_without_netio():
    assert False
"""


@pytest.mark.real_time("the tests of the run within wait, as those of its users")
def test_the_timeline_of_each_test_that_fails_is_written(run: Run, pytester: Any) -> None:
    result = run(TIMED, "--netio-timeline=here/timelines")
    assert outcomes(result) == {"failed": 5, "passed": 2, "errors": 1}
    pages = {
        path.name.rpartition("-test_")[2]: path.read_text(encoding="utf-8")
        for path in (pytester.path / "here" / "timelines").iterdir()
    }
    assert set(pages) == {
        "on_a_virtual_clock-b-a.html",
        "on_a_virtual_clock-b-a-2.html",
        "on_an_ordinary_one.html",
        "that_is_no_coroutine.html",
        "of_which_the_fixture_fails.html",
    }
    of_virtual = pages["on_a_virtual_clock-b-a-2.html"]
    assert "test_on_a_virtual_clock[&lt;b&gt;?a]" in of_virtual
    assert "2 s on a virtual clock" in of_virtual
    assert "<b>read_exactly(8)</b>" in of_virtual
    assert "on the real clock" in pages["on_an_ordinary_one.html"]
    assert "3 s on a virtual clock" in pages["that_is_no_coroutine.html"]
    assert "of the fixture" in pages["of_which_the_fixture_fails.html"]
    result.stdout.fnmatch_lines(["*- netio timeline -*", "*timelines*that_is_no_coroutine.html"])


@pytest.mark.real_time("the tests of the run within wait, as those of its users")
def test_no_timeline_is_written_when_none_is_asked_for(run: Run, pytester: Any) -> None:
    result = run(TIMED)
    assert outcomes(result) == {"failed": 5, "passed": 2, "errors": 1}
    assert not list(pytester.path.rglob("*.html"))
    assert "netio timeline" not in result.stdout.str()


@pytest.mark.parametrize("directory", ["here", "here/timelines"])
def test_a_directory_for_timelines_that_is_a_file_is_refused_at_once(
    run: Run, pytester: Any, directory: str
) -> None:
    (pytester.path / "here").write_text("")
    result = run(TIMED, f"--netio-timeline={directory}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --netio-timeline: *here is no directory"])


def test_the_name_of_a_page_is_short() -> None:
    import _netio_pytest

    timelines = _netio_pytest.Timelines(Path())
    name = timelines.name_of("tests/test_x.py::test_y[" + "ä/" * 300 + "]")
    assert len(name) <= _netio_pytest.MAX_NAME + len(".html")
    assert name.isascii()
