"""The pytest plugin `netio`: tests on a virtual clock, and a check for what they leave behind.

pytest imports this in every run where netio is installed. So it stands outside of the package, and
imports nothing of it, nor asyncio, until a test asks for it. And it adds nothing to a run, no
fixture that runs by itself and no event loop factory, in which nobody does. ``docs/testing.md`` is
the guide.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
import types
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from netio.testing import LeakCheck, Network, Timeline, VirtualLoop

#: Under which this may be loaded: by the entry point, and by ``-p`` or ``pytest_plugins``.
NAMES: Final = {"netio", "_netio_pytest"}

#: Of pytest-asyncio: how long a loop may live.
LOOP_SCOPES: Final = ("function", "class", "module", "package", "session")

FAILED: Final = pytest.StashKey[bool]()

#: Letters of the name of a page, without its ending; systems take at least 143 bytes.
MAX_NAME: Final = 120


# The plugin itself. -----------------------------------------------------------------------------


def pytest_plugin_registered(plugin: object, manager: pytest.PytestPluginManager) -> None:
    """Make it harmless to load this twice, which pytest takes for an error."""
    if plugin is sys.modules[__name__]:
        for name in NAMES:
            if not manager.has_plugin(name):
                manager.register(types.SimpleNamespace(), name)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("netio")
    group.addoption(
        "--netio-leak-check",
        action="store_true",
        default=None,
        help="fail every test that leaves descriptors, tasks, timers or unclosed things behind",
    )
    group.addoption(
        "--virtual-clock-seed",
        type=int,
        metavar="N",
        help="draw the order of what asyncio leaves open, in tests on a virtual clock",
    )
    group.addoption(
        "--netio-timeline",
        metavar="DIR",
        help="write the timeline of every test that fails, as a page in this directory",
    )
    parser.addini(
        "netio_leak_check",
        "fail every test that leaves descriptors, tasks, timers or unclosed things behind",
        type="bool",
        default=False,
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "virtual_clock(*, seed, timers_first, max_steps, patience): runs the coroutine on an event "
        "loop whose clock stands still while anything can run, and else jumps (netio)",
    )
    config.addinivalue_line(
        "markers", "allow_leaks(reason): leaves things behind on purpose; not checked (netio)"
    )
    if checks_every_test(config):
        config.pluginmanager.register(EveryTest(), "netio leak check of every test")
    directory = config.getoption("netio_timeline")
    if directory is not None:
        where = config.invocation_params.dir / directory
        there = next(path for path in (where, *where.parents) if path.exists())
        if not there.is_dir():
            raise pytest.UsageError(f"--netio-timeline: {there} is no directory")
        config.pluginmanager.register(Timelines(where), "netio timelines")


def checks_every_test(config: pytest.Config) -> bool:
    said = config.getoption("netio_leak_check")
    return bool(config.getini("netio_leak_check") if said is None else said)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, Any]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


# The clock. -------------------------------------------------------------------------------------


def loop_factory_of(item: pytest.Item, fixturenames: list[str]) -> Callable[[], VirtualLoop] | None:
    """What makes the loop of a test on a virtual clock; None: it has not asked for one."""
    marker = item.get_closest_marker("virtual_clock")
    if marker is None and "virtual_clock" not in fixturenames:
        return None
    arguments, options = (marker.args, dict(marker.kwargs)) if marker is not None else ((), {})
    options.setdefault("seed", item.config.getoption("virtual_clock_seed"))
    try:
        return loop_factory(*arguments, **options)
    except TypeError as error:
        raise pytest.UsageError(f"{item.nodeid}: virtual_clock: {error}") from None


@functools.cache
def loop_factory(*arguments: Any, **options: Any) -> Callable[[], VirtualLoop]:
    """The same for the same options: tests that share a loop are known by their factory."""
    from netio.testing import VirtualLoop

    inspect.signature(VirtualLoop).bind(*arguments, **options)
    return functools.partial(VirtualLoop, *arguments, **options)


class LoopFactories:
    """What tells pytest-asyncio the loop, registered only while it asks about such a test.

    An implementation of this hook must know a loop for every test, and pytest takes the first.
    """

    def __init__(self, factory: Callable[[], VirtualLoop]) -> None:
        self.factory = factory

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_asyncio_loop_factories(self) -> dict[str, Callable[[], VirtualLoop]]:
        return {"virtual_clock": self.factory}


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, None, None]:
    factory = loop_factory_of(metafunc.definition, metafunc.fixturenames)
    if factory is None:
        return (yield)
    if "anyio_backend" in metafunc.fixturenames:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: virtual_clock and anyio would run this test on two "
            "clocks: leave out one of them (docs/testing.md says how anyio is told the loop)"
        )
    factories, manager = LoopFactories(factory), metafunc.config.pluginmanager
    manager.register(factories)
    try:
        return (yield)
    finally:
        manager.unregister(factories)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Before it runs a test, pytest-asyncio looks whether there is any such hook.

    If so, it takes a loop of a wider scope for a new one when the next test has another factory.
    """
    manager = session.config.pluginmanager
    for item in session.items:
        factory = loop_factory_of(item, getattr(item, "fixturenames", []))
        if factory is not None:
            manager.register(LoopFactories(factory), "netio virtual clock")
            break
    checked = any("netio_leak_check" in getattr(i, "fixturenames", []) for i in session.items)
    if checked and manager.hasplugin("asyncio"):
        manager.register(checks_in_loops(), "netio leak check in loops")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse what would run a part of a test on another clock, without a word."""
    if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(item.obj):
        return
    if loop_factory_of(item, item.fixturenames) is None:
        return
    if is_of_unittest(item):
        if not is_told_the_loop(item.cls):
            pytest.fail(
                "virtual_clock: unittest runs this coroutine, on a loop of its own: give its "
                "class loop_factory = netio.testing.VirtualLoop (Python 3.13)",
                pytrace=False,
            )
    elif item.config.pluginmanager.hasplugin("asyncio") and not is_run_by_pytest_asyncio(item):
        others = ", ".join(map(repr, async_fixtures(item)))
        if others:
            pytest.fail(
                f"virtual_clock: pytest-asyncio would run the fixture {others} on a loop of its "
                "own: mark this test with pytest.mark.asyncio, too, and it is run on the same one",
                pytrace=False,
            )


def is_of_unittest(item: pytest.Function) -> bool:
    unittest = sys.modules.get("unittest")
    return unittest is not None and item.cls and issubclass(item.cls, unittest.TestCase)


def is_told_the_loop(case: Any) -> bool:
    import unittest

    # Before Python 3.13 nobody asks for it.
    asked = hasattr(unittest.IsolatedAsyncioTestCase, "loop_factory")
    return asked and getattr(case, "loop_factory", None) is not None


def async_fixtures(item: pytest.Function) -> Iterator[str]:
    for name in item.fixturenames:
        for definition in item._fixtureinfo.name2fixturedefs.get(name, ())[-1:]:
            func = inspect.unwrap(definition.func)
            if inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func):
                yield name


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test on a virtual clock, if pytest-asyncio does not."""
    factory = loop_factory_of(pyfuncitem, pyfuncitem.fixturenames)
    if factory is None or is_run_by_pytest_asyncio(pyfuncitem):
        return None
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        if any(marker.name == "virtual_clock" for marker in pyfuncitem.own_markers):
            # hypothesis refuses fixtures. It runs coroutines only where pytest-asyncio helps it.
            way = "netio.testing.run" if hasattr(pyfuncitem.obj, "hypothesis") else "virtual_run"
            pytest.fail(f"virtual_clock is for coroutines; here, call {way}", pytrace=False)
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    run_alone(pyfuncitem, factory, pyfuncitem.obj(**arguments))
    return True


def is_run_by_pytest_asyncio(item: pytest.Item) -> bool:
    if not item.config.pluginmanager.hasplugin("asyncio"):
        return False
    from pytest_asyncio import is_async_test

    if not is_async_test(item):
        return False
    if not hasattr(item.config.hook, "pytest_asyncio_loop_factories"):
        pytest.fail("virtual_clock needs pytest-asyncio 1.4 or later", pytrace=False)
    return True


def run_alone(
    item: pytest.Function,
    factory: Callable[[], VirtualLoop],
    test: Coroutine[Any, Any, object],
) -> None:
    from netio.testing import check_leaks
    from netio.testing._clock.loop import run_on

    async def checked() -> None:
        async with check_leaks(descriptors=False, warnings=False, generation=0):
            await test

    is_checked = "netio_leak_check" in item.fixturenames and not allows_leaks(item)
    with leaks_fail():
        run_on(factory, checked() if is_checked else test)


class VirtualClock:
    """The clock of the loop that runs: `time`, `advance`, `timers` and `hold` of `VirtualLoop`."""

    def time(self) -> float:
        return self._loop.time()

    def advance(self, seconds: float) -> None:
        self._loop.advance(seconds)

    def timers(self) -> list[float]:
        return self._loop.timers()

    def hold(self, reason: str) -> AbstractContextManager[None]:
        return self._loop.hold(reason)

    @property
    def _loop(self) -> VirtualLoop:
        import asyncio

        from netio.testing import VirtualLoop

        loop = asyncio._get_running_loop()
        if loop is None:
            raise RuntimeError(
                "virtual_clock is the clock of the loop that runs, and none does: it is for tests "
                "that are coroutines; elsewhere, call virtual_run"
            )
        if not isinstance(loop, VirtualLoop):
            raise RuntimeError("there are two clocks: the loop that runs is not a VirtualLoop")
        return loop


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """Has the coroutine run on a virtual clock, as the marker of this name does, and is that clock.

    Time stands still while anything can run, and jumps to the next timer when nothing can.
    """
    return VirtualClock()


@pytest.fixture
def virtual_run() -> Callable[..., Any]:
    """Runs a coroutine on a clock of its own, in a test that is none: `netio.testing.run`."""
    from netio.testing import run

    return run


@pytest.fixture
def memory_network() -> Network:
    """A network in memory of the test's own, for ``network=``: a `netio.testing.Network`."""
    from netio.testing import Network

    return Network()


# Leaks. -----------------------------------------------------------------------------------------


class EveryTest:
    """Has every test of the suite checked, its own fixtures among what is checked."""

    @pytest.fixture(autouse=True)
    def netio_leak_check_of_every_test(self, netio_leak_check: None) -> None:
        pass


@pytest.fixture
def netio_leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test if it leaves descriptors, tasks, timers or unclosed things behind.

    A test that fails is not checked, nor one that is marked `allow_leaks`.
    """
    if allows_leaks(request.node):
        yield
        return
    scope = loop_scope_of(request.node)
    if scope is not None:  # the loop has descriptors of its own, so what counts is within it
        request.getfixturevalue(f"_netio_leak_check_in_{scope}_loop")
        yield
        return
    check = new_check(request)
    with leaks_fail(), check:
        yield
        if request.node.stash.get(FAILED, False):
            check.forgive()


@contextlib.contextmanager
def leaks_fail() -> Iterator[None]:
    """Without a traceback: it would lead into this file."""
    from netio.testing import Leaked

    try:
        yield
    except Leaked as leaked:
        raise pytest.fail.Exception(str(leaked), pytrace=False) from None


def allows_leaks(item: pytest.Item) -> bool:
    return item.get_closest_marker("allow_leaks") is not None


def new_check(request: pytest.FixtureRequest) -> LeakCheck:
    from netio.testing import check_leaks

    return check_leaks(generation=1 if checks_every_test(request.config) else 2)


def loop_scope_of(item: pytest.Item) -> str | None:
    """The scope of the loop that pytest-asyncio runs `item` in; None: it does not."""
    if not item.config.pluginmanager.hasplugin("asyncio"):
        return None
    from pytest_asyncio import is_async_test

    if not is_async_test(item):
        return None
    marker = item.get_closest_marker("asyncio")
    said = marker.kwargs if marker is not None else {}
    scope = said.get("loop_scope") or said.get("scope")
    return scope or str(item.config.getini("asyncio_default_test_loop_scope"))


def checks_in_loops() -> types.ModuleType:
    """A fixture for each scope that a loop of pytest-asyncio may have, to check within the loop."""
    import pytest_asyncio

    def fixture_for(scope: Any) -> object:
        @pytest_asyncio.fixture(loop_scope=scope, name=f"_netio_leak_check_in_{scope}_loop")
        async def check_in_loop(request: pytest.FixtureRequest) -> AsyncIterator[None]:
            check = new_check(request)
            with leaks_fail():
                async with check:
                    yield
                    if request.node.stash.get(FAILED, False):
                        check.forgive()

        return check_in_loop

    holder = types.ModuleType("netio leak check in loops")
    vars(holder).update({scope: fixture_for(scope) for scope in LOOP_SCOPES})
    return holder


# Timelines. -------------------------------------------------------------------------------------


class Timelines:
    """Records every test, its fixtures included, and writes what was recorded if it fails."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.timeline: Timeline | None = None
        self.names: dict[str, str] = {}  # of the pages, and the tests that they are of

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, Any, Any]:
        from netio.testing import record

        with record() as self.timeline:
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed and self.timeline is not None and self.timeline.events:
            path = self.directory / self.name_of(item.nodeid)
            self.directory.mkdir(parents=True, exist_ok=True)
            self.timeline.write_html(path, title=item.nodeid)
            report.sections.append(("netio timeline", str(path)))
        return report

    def name_of(self, test: str) -> str:
        """A name for the file: one that any system takes, and that no other test has."""
        base = re.sub(r"[^\w.-]+", "-", test, flags=re.ASCII).strip("-")[-MAX_NAME:]
        number = 1
        while True:
            name = f"{base}.html" if number == 1 else f"{base}-{number}.html"
            if self.names.setdefault(name, test) == test:
                return name
            number += 1
