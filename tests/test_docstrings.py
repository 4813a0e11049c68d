"""Every public name says what its caller must know: units, None, results, errors, cancellation."""

import asyncio
import collections.abc
import functools
import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Iterator

import netio
import netio.testing
from netio.testing.faults import Fault

PACKAGES = {
    "": netio,
    "testing.": netio.testing,
    "testing.events.": netio.testing.events,
    "testing.faults.": netio.testing.faults,
}
# A parameter of this name is a quantity, so its unit must be said. (A limit is either.)
UNITS = {
    "timeout": ("seconds",),
    "delay": ("seconds",),
    "grace": ("seconds",),
    "patience": ("seconds",),
    "seconds": ("seconds",),
    "latency": ("seconds",),
    "jitter": ("seconds",),
    "back_after": ("seconds",),
    "after_seconds": ("seconds",),
    "rate": ("bytes a second",),
    "bandwidth": ("bytes a second",),
    "margin": ("seconds",),
    "ms": ("milliseconds",),
    "n": ("bytes",),
    "max_bytes": ("bytes",),
    "limit": ("seconds", "bytes"),
}
SAYS_WHAT_STAYS = ("usable", "kept", "readable", "nothing is sent", "stays")

Function = types.FunctionType


def public_functions() -> Iterator[tuple[str, Function]]:
    """All public functions, methods and getters, under the name that a user knows them by."""
    for name, thing in public_things():
        if inspect.isclass(thing):
            for member, function in members(thing):
                yield f"{name}.{member}", function
        elif inspect.isfunction(thing):
            yield name, thing


def public_things() -> Iterator[tuple[str, object]]:
    for prefix, package in PACKAGES.items():
        for name in package.__all__:
            yield f"{prefix}{name}", getattr(package, name)


def members(cls: type) -> Iterator[tuple[str, Function]]:
    """What the class, or a private base of it within netio, defines under a public name.

    But not what a base of others has, an event loop of asyncio above all: it is documented there.
    """
    ours = cls.__module__.partition(".")[0]
    foreign = [base for base in cls.__mro__ if base.__module__.partition(".")[0] != ours]
    seen = {name for base in foreign for name in vars(base)}
    for base in cls.__mro__:
        if base in foreign:
            continue
        for name, value in vars(base).items():
            function = function_of(value)
            if function is not None and name not in seen and not name.startswith("_"):
                seen.add(name)
                yield name, function


def constructors() -> Iterator[tuple[str, Function, str]]:
    """Those that users call, and what is said of them: there, and of the class.

    They are those with a docstring. A fault is made by users in any case.
    """
    for name, thing in public_things():
        made = vars(thing).get("__init__") if inspect.isclass(thing) else None
        if inspect.isfunction(made) and (made.__doc__ or issubclass(thing, Fault)):
            yield name, made, f"{inspect.getdoc(thing)}\n{inspect.getdoc(made) or ''}"


def own_parameters(constructor: Function) -> list[inspect.Parameter]:
    """All that are not told once for all faults."""
    shared = () if constructor is Fault.__init__ else inspect.signature(Fault).parameters
    _, *parameters = inspect.signature(constructor).parameters.values()
    return [p for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in shared]


def function_of(value: object) -> Function | None:
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    elif isinstance(value, classmethod | staticmethod):
        value = value.__func__
    return value if inspect.isfunction(value) else None


def missing_parts(name: str, function: Function) -> list[str]:
    text = inspect.getdoc(function)
    if not text:
        return ["a docstring"]
    missing = [
        part
        for parameter in inspect.signature(function).parameters.values()
        for part in missing_about(function, parameter, text)
    ]
    if is_awaited(function):
        missing += missing_sections(name, function, text)
    return missing


def missing_about(function: Function, parameter: inspect.Parameter, text: str) -> Iterator[str]:
    units = UNITS.get(parameter.name, ())
    if units and not any(re.search(rf"\b{unit}\b", text) for unit in units):
        yield f"the unit of {parameter.name} ({' or '.join(units)})"
    if accepts_none(function, parameter) and not re.search(r"\bNone\b", text):
        yield f"what None means for {parameter.name}"


def missing_name(parameter: inspect.Parameter, text: str) -> Iterator[str]:
    if not re.search(rf"\b{parameter.name}\b", text):
        yield f"a word about {parameter.name}"


def missing_sections(name: str, function: Function, text: str) -> Iterator[str]:
    if not returns_none(function) and section(text, "Returns") is None:
        yield "Returns:"
    if section(text, "Cancellation") is None:
        yield "Cancellation:"
    raises = section(text, "Raises")
    if raises is None:
        yield "Raises:"
    elif name.startswith("Stream.") and not any(word in raises for word in SAYS_WHAT_STAYS):
        yield f"what stays usable, in Raises: (one of {', '.join(SAYS_WHAT_STAYS)})"


def section(text: str, title: str) -> str | None:
    """What follows `title:` at the start of a line, up to the next title at the start of one."""
    found = re.search(rf"^{title}:(.*?)(?=^[A-Z]\w+:|\Z)", text, re.MULTILINE | re.DOTALL)
    return found and " ".join(found[1].split())


# Annotations, which may be text, and name what is imported for type checking only. -------------


@functools.cache
def names_of_netio() -> dict[str, object]:
    names: dict[str, object] = {**vars(collections.abc), **vars(typing), "asyncio": asyncio}
    for module in pkgutil.walk_packages(netio.__path__, "netio."):
        if not module.name.endswith("__main__"):
            names |= vars(importlib.import_module(module.name))
    return names


def resolve(function: Function, annotation: object) -> object:
    """The type that is meant, or the text of it where a name in it cannot be found."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation.removeprefix("*"), {**names_of_netio(), **function.__globals__})
    except (NameError, TypeError, AttributeError):
        return annotation


def accepts_none(function: Function, parameter: inspect.Parameter) -> bool:
    if parameter.name == "timeout":
        return True
    annotation = resolve(function, parameter.annotation)
    if isinstance(annotation, str):
        return re.search(r"\bNone\b", annotation) is not None
    return annotation is None or types.NoneType in typing.get_args(annotation)


def is_awaited(function: Function) -> bool:
    if inspect.iscoroutinefunction(function):
        return True
    returned = resolve(function, inspect.signature(function).return_annotation)
    return hasattr(typing.get_origin(returned) or returned, "__await__")


def returns_none(function: Function) -> bool:
    returned = resolve(function, inspect.signature(function).return_annotation)
    if not inspect.iscoroutinefunction(function):
        returned = typing.get_args(returned)[-1:] or (returned,)  # Awaitable[None] and the like
        returned = returned[0]
    return returned in (None, types.NoneType)


# The tests. -----------------------------------------------------------------------------------


def test_every_public_function_says_what_its_caller_must_know() -> None:
    problems = [
        f"{name}: {part}"
        for name, function in public_functions()
        for part in missing_parts(name, function)
    ]
    assert not problems, "missing in docstrings:\n" + "\n".join(problems)


def test_every_constructor_says_what_its_caller_must_know() -> None:
    walked = list(constructors())
    assert len(walked) > 12
    problems = [
        f"{name}: {part}"
        for name, function, text in walked
        for parameter in own_parameters(function)
        for part in [*missing_about(function, parameter, text), *missing_name(parameter, text)]
    ]
    assert not problems, "missing in docstrings:\n" + "\n".join(problems)


def test_every_public_class_has_a_docstring_of_its_own() -> None:
    classes = [thing for _, thing in public_things() if inspect.isclass(thing)]
    # A dataclass without a docstring is given its signature for one.
    missing = [
        c for c in classes if (vars(c)["__doc__"] or c.__name__).startswith(f"{c.__name__}(")
    ]
    assert not missing


async def nothing_said(n: int, timeout: float | None = 1.0) -> bytes:
    """Reads."""
    return b""


def one_awaited(delay: float) -> "typing.Awaitable[bytes]":
    """Takes a delay."""
    raise NotImplementedError


async def all_said(n: int, timeout: float | None = 1.0) -> bytes:
    """Reads `n` bytes within `timeout` seconds; None means no limit.

    Returns: the bytes.
    Raises: DeadlineExceeded, when it is too late;
        what came is kept.
    Cancellation: may be repeated.
    """
    return b""


async def none_returned() -> None:
    """Waits.

    Raises: nothing.

    Cancellation: may be repeated.
    """


def test_the_parts_that_a_docstring_lacks_are_found() -> None:
    assert missing_parts("nothing_said", nothing_said) == [
        "the unit of n (bytes)",
        "the unit of timeout (seconds)",
        "what None means for timeout",
        "Returns:",
        "Cancellation:",
        "Raises:",
    ]
    assert missing_parts("one_awaited", one_awaited) == [
        "the unit of delay (seconds)",
        "Returns:",
        "Cancellation:",
        "Raises:",
    ]


def test_a_docstring_with_all_parts_is_accepted() -> None:
    assert missing_parts("Stream.all_said", all_said) == []
    assert missing_parts("none_returned", none_returned) == []


def test_a_method_of_stream_must_say_what_stays_usable() -> None:
    [problem] = missing_parts("Stream.none_returned", none_returned)
    assert problem.startswith("what stays usable")


def made_of(self: object, seconds: float, name: str | None) -> None:
    """`seconds`: how many."""


def test_a_parameter_of_which_a_constructor_says_nothing_is_found() -> None:
    name = own_parameters(made_of)[-1]
    assert [
        *missing_about(made_of, name, made_of.__doc__),
        *missing_name(name, made_of.__doc__),
    ] == [
        "what None means for name",
        "a word about name",
    ]
