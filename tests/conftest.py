"""How every test runs: on which loop, with which seed, for how long, and leaving nothing behind."""

import asyncio
import contextlib
import functools
import gc
import inspect
import io
import os
import random
import shutil
import signal
import sys
import typing
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_timeout
from hypothesis import settings
from real_time import counted
from schedules import SHARES

HERE = Path(__file__).parent
LOOP_VARIANTS = ("stock", "debug", "eager", "uvloop")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Phase = Generator[None, None, None]  # a wrapper of one phase of a test

collect_ignore = ["benchmarks"]

settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("netio")
    group.addoption(
        "--loop",
        choices=LOOP_VARIANTS,
        default="stock",
        help="the event loop that every test runs on (default: stock)",
    )
    group.addoption(
        "--foreign-required",
        action="store_true",
        help="fail, instead of skip, a test of tests/foreign whose program is not installed",
    )
    group.addoption(
        "--one-of-many",
        action="store_true",
        help="beside a run without this option: leave out what is shown `once`, and play a share "
        "of the orders on the stock loop, too (another one on each Python)",
    )


@pytest.hookimpl(tryfirst=True)  # before hypothesis takes its seed, and pytest-asyncio its mode
def pytest_configure(config: pytest.Config) -> None:
    # Complains now, and not in every test, when there is no such loop. The first uvloop opens
    # descriptors for the whole process: before the first test, so that it is not blamed for them.
    loop_factory_of(config.getoption("--loop"))().close()
    if config.getoption("--one-of-many"):
        SHARES["stock"] = 3
    # A background job of a shell ignores Ctrl-C, and so would the programs that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--loop") == "eager":
        config.pluginmanager.register(EagerLoops())
    if config.getoption("--loop") == "debug":
        # pytest-asyncio tells its runner, which tells the loop that our factory made.
        config.option.asyncio_debug = True
    if config.option.hypothesis_seed is None and not settings().derandomize:
        config.option.hypothesis_seed = str(random.randrange(2**32))


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.option.hypothesis_seed
    how = "derandomized" if seed is None else f"repeat with --hypothesis-seed={seed}"
    return f"netio: loop {config.getoption('--loop')}; random tests: {how}"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    if exitstatus != pytest.ExitCode.OK:  # with -q there was no header
        terminalreporter.write_line(pytest_report_header(config))


# The loop. ------------------------------------------------------------------------------------


def loop_factory_of(variant: str) -> LoopFactory:
    if variant == "debug":
        return new_debug_loop
    if variant == "eager":
        if sys.version_info < (3, 12):
            raise pytest.UsageError("--loop=eager: asyncio has eager tasks since Python 3.12")
        return new_eager_loop
    if variant == "uvloop":
        try:
            import uvloop
        except ImportError:
            raise pytest.UsageError("--loop=uvloop: pip install --group loops") from None
        return uvloop.new_event_loop
    return asyncio.new_event_loop


def new_debug_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


def new_eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


class EagerLoops:
    """Has the tasks of each loop be eager, of a virtual one, too."""

    @pytest.hookimpl(wrapper=True)
    def pytest_asyncio_loop_factories(self) -> Generator[None, Any, dict[str, LoopFactory]]:
        return {name: eagerly(make) for name, make in (yield).items()}


@functools.cache  # tests that share a loop are known by its factory
def eagerly(make: LoopFactory) -> LoopFactory:
    def new_loop() -> asyncio.AbstractEventLoop:
        loop = make()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    return new_loop


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    variant = config.getoption("--loop")
    kept, left_out = [], []
    for item in items:
        elsewhere = runs_the_same_on_the_stock_loop(item, variant) or shown_once(item)
        (left_out if elsewhere else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def shown_once(item: pytest.Item) -> bool:
    """By one run, which is not this one; other people's programs have runs of their own."""
    marker = item.get_closest_marker("once") or item.get_closest_marker("foreign")
    return item.config.getoption("--one-of-many") and marker is not None


def runs_the_same_on_the_stock_loop(item: pytest.Item, variant: str) -> bool:
    """On its own loop, which has nothing of this variant of it; the stock one is enough for it."""
    if variant == "stock":
        return False
    asks = {"loop_variant", "loop_factory"}.intersection(getattr(item, "fixturenames", ()))
    if item.get_closest_marker("asyncio") is None and not asks:  # no coroutine: makes its own loops
        return True
    if item.get_closest_marker("own_loop") is not None:
        return True
    if variant == "eager" and item.get_closest_marker("begins_later") is not None:
        return True
    # A virtual clock is a loop, and not uvloop. Debug mode and eager tasks it has, the same on each
    # Python, and slow: one of them plays these.
    return (
        (variant == "uvloop" or sys.version_info[:2] != (3, 13))
        and item.get_closest_marker("virtual_clock") is not None
        and inspect.iscoroutinefunction(getattr(item, "obj", None))
        and not asks
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    # What was imported stays: let no search for garbage, of which tests make many, go through it.
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories(config: pytest.Config) -> dict[str, LoopFactory]:
    variant = config.getoption("--loop")
    return {variant: loop_factory_of(variant)}


@pytest.fixture(scope="session")
def loop_variant(pytestconfig: pytest.Config) -> str:
    """The value of `--loop`."""
    return pytestconfig.getoption("--loop")


@pytest.fixture(scope="session")
def loop_factory(loop_variant: str) -> LoopFactory:
    """For a test that is no coroutine: `with asyncio.Runner(loop_factory=loop_factory)`."""
    return loop_factory_of(loop_variant)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> None:
    """`any_clock` is the virtual one where the loop has one; the other loops keep their own."""
    marks = getattr(obj, "pytestmark", [])
    if stock(collector.config) and any(mark.name == "any_clock" for mark in marks):
        pytest.mark.virtual_clock(obj)  # before pytest asks for the loop


def stock(config: pytest.Config) -> bool:
    return config.getoption("--loop") == "stock"


# Real time. -----------------------------------------------------------------------------------


@contextlib.contextmanager
def waits_for_a_reason(item: pytest.Item) -> Iterator[None]:
    """A test that waits in real time says why; not on loops on which `any_clock` is real."""
    marker = item.get_closest_marker("real_time")
    if marker is not None and not (marker.args and isinstance(marker.args[0], str)):
        pytest.fail("a test that waits says why: @pytest.mark.real_time('the reason')")
    other_programs = item.get_closest_marker("foreign") is not None
    if marker is not None or other_programs or not stock(item.config):
        yield
        return
    with counted() as waits:
        yield
    if waits.seconds:
        pytest.fail(
            f"waited {waits.seconds:.4f} s of real time. Either nothing of the kernel's is tested: "
            "@pytest.mark.virtual_clock, or any_clock; or say why: @pytest.mark.real_time('...')",
            pytrace=False,
        )


# Hanging. -------------------------------------------------------------------------------------


class Hung(KeyboardInterrupt):
    """Raised in a test whose time is over.

    A loop lets no other exception out of its callbacks than this kind and SystemExit: what
    pytest-timeout raises itself is only logged by uvloop, and the test goes on hanging.
    """


def pytest_timeout_set_timer(
    item: pytest.Item, settings: pytest_timeout.Settings
) -> typing.Literal[True] | None:
    if not hasattr(signal, "SIGALRM"):
        return None  # pytest-timeout has another way

    def time_is_over(signum: int, frame: object) -> None:
        raise Hung(f"hangs: not over after {settings.timeout} seconds\n{stacks_of_tasks()}")

    signal.signal(signal.SIGALRM, time_is_over)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> typing.Literal[True] | None:
    if not hasattr(signal, "SIGALRM"):
        return None
    signal.setitimer(signal.ITIMER_REAL, 0)
    return True


def stacks_of_tasks() -> str:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return ""
    text = io.StringIO()
    for task in asyncio.all_tasks(loop):
        task.print_stack(file=text)
    return text.getvalue()


@contextlib.contextmanager
def hung_is_failed() -> Iterator[None]:
    try:
        yield
    except Hung as hung:  # which would stop pytest, as ^C does
        pytest.fail(str(hung))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Phase:
    require_programs(item)
    with hung_is_failed():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Phase:
    with hung_is_failed(), waits_for_a_reason(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Phase:
    with hung_is_failed():
        return (yield)


# Other people's programs. ---------------------------------------------------------------------


def require_programs(item: pytest.Item) -> None:
    marker = item.get_closest_marker("foreign")
    if marker is None:
        if HERE / "foreign" in item.path.parents:
            pytest.fail("a test in tests/foreign says what it needs: @pytest.mark.foreign('socat')")
        return
    missing = [program for program in marker.args if shutil.which(program) is None]
    if missing and item.config.getoption("--foreign-required"):
        pytest.fail(f"not installed, and --foreign-required was given: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
