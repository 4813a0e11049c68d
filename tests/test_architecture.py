"""The layers of the design hold: imports point down, and only the primitive talks to the loop."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "netio"

LAYERS = {
    0: "_errors _defaults _arguments _openssl",
    1: "_readiness _scopes _stubborn _shields _holding _cancels _limits _operation _moving "
    "_stopwatch _tasks _children _turns _observing _waiting _carrying _resting",
    2: "_channel _memory _buffer _paths _datagram_channel _options _descriptor_channel "
    "_tls _engine _hello _handshake",
    3: "_stream _securing _receiving _sending _iterator _sockets _observer _statistics "
    "_connection_limits _datagram _datagram_receiving _datagram_sending _multicast _send_file "
    "_descriptors",
    4: "_resolve _network _attempts _racing _lookups _proxies _connect _server _opening _snapshot "
    "_listen _greeting _unix _unix_network _bind",
    5: "testing integrations",
    6: "__init__",
}
LAYER_OF = {module: layer for layer, modules in LAYERS.items() for module in modules.split()}

PRIMITIVE = {"_readiness"}
LOOPS = {"testing"}  # makes event loops, and so has their methods
# The parts of a loop that make something wait, and the modules that may name them.
LOOP_CALLS = {
    "add_reader": PRIMITIVE,
    "add_writer": PRIMITIVE,
    "remove_reader": PRIMITIVE,
    "remove_writer": PRIMITIVE,
    "create_future": PRIMITIVE,
    "call_later": PRIMITIVE,
    "call_at": PRIMITIVE | {"_scopes", "_stubborn"},
}

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70  # without the docstring

Tree = dict[str, ast.Module]  # by dotted name below the package: `_stream`, `testing.memory`
Edge = tuple[str, str, int]  # importer, imported, line


def parse(package: Path) -> Tree:
    tree: Tree = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        tree[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return tree


def layer_of(module: str) -> int | None:
    """A package stands in the table once, for all its modules."""
    return LAYER_OF.get(module, LAYER_OF.get(module.partition(".")[0]))


def imports(tree: Tree, package: str, packages: set[str]) -> Iterator[Edge]:
    """Each import of one module of the package by another, also those for type checking only."""
    for module, syntax in tree.items():
        here = [package, *module.split(".")]
        if module not in packages:
            here.pop()  # relative imports start at the directory of the file
        for node in ast.walk(syntax):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = here[: len(here) - node.level + 1] if node.level else []
                source = ".".join([*base, *([node.module] if node.module else [])])
                targets = [f"{source}.{alias.name}" for alias in node.names]
            else:
                continue
            for target in targets:
                if target == package or target.startswith(package + "."):
                    yield module, owner(tree, target[len(package) + 1 :]), node.lineno


def owner(tree: Tree, name: str) -> str:
    """The module that `name` is or is defined in."""
    while name and name not in tree:
        name = name.rpartition(".")[0]
    return name or "__init__"


def layer_problems(package: Path) -> list[str]:
    tree = parse(package)
    packages = {".".join(p.parent.relative_to(package).parts) for p in package.rglob("__init__.py")}
    problems = [f"{m}: not in the table of layers" for m in tree if layer_of(m) is None]
    sideways: dict[str, set[str]] = {}
    for importer, imported, line in imports(tree, package.name, packages):
        low, high = layer_of(imported), layer_of(importer)
        if low is None or high is None or importer == imported:
            continue
        if low > high:
            problems.append(
                f"{importer}:{line} (layer {high}) imports {imported} (layer {low}), upwards"
            )
        elif low == high:
            sideways.setdefault(importer, set()).add(imported)
    return problems + [f"a cycle within a layer: {' -> '.join(c)}" for c in cycles(sideways)]


def cycles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    """One cycle for each edge that closes one in a walk in depth."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> Iterator[list[str]]:
        if node in path:
            yield [*path[path.index(node) :], node]
        elif node not in done:
            for following in sorted(graph.get(node, ())):
                yield from walk(following, [*path, node])
            done.add(node)

    for start in sorted(graph):
        yield from walk(start, [])


def write_package(root: Path, **modules: str) -> Path:
    package = root / "netio"
    package.mkdir()
    for name, source in {"__init__": "", **modules}.items():
        (package / f"{name}.py").write_text(source, encoding="utf-8")
    return package


def test_imports_point_down_the_layers() -> None:
    problems = layer_problems(PACKAGE)
    assert not problems, "\n".join(problems)


def test_the_table_of_layers_names_only_modules_that_exist() -> None:
    missing = {m for m in LAYER_OF if not (PACKAGE / f"{m}.py").exists()}
    missing -= {p.parent.name for p in PACKAGE.rglob("__init__.py")}
    assert not missing


@pytest.mark.parametrize(
    "line",
    [
        "from ._stream import Stream",
        "from . import _stream",
        "from netio._stream import Stream",
        "import netio._stream",
        "import netio",
        "def late():\n    from ._stream import Stream",
        "if TYPE_CHECKING:\n    from ._stream import Stream",
    ],
)
def test_an_import_that_points_up_is_found(tmp_path: Path, line: str) -> None:
    package = write_package(tmp_path, _limits=line, _stream="from ._errors import X", _errors="")
    [problem] = layer_problems(package)
    assert problem.startswith("_limits:")
    assert problem.endswith("upwards")


def test_a_cycle_within_a_layer_is_found(tmp_path: Path) -> None:
    package = write_package(
        tmp_path,
        _stream="from . import _receiving",
        _receiving="from ._sending import send",
        _sending="import netio._stream",
    )
    [problem] = layer_problems(package)
    assert problem == "a cycle within a layer: _receiving -> _sending -> _stream -> _receiving"


def test_a_module_without_a_layer_is_found(tmp_path: Path) -> None:
    assert layer_problems(write_package(tmp_path, _misc="")) == [
        "_misc: not in the table of layers"
    ]


def test_imports_down_and_sideways_are_allowed(tmp_path: Path) -> None:
    package = write_package(
        tmp_path,
        __init__="from ._stream import Stream",
        _stream="import asyncio\nfrom ._receiving import a\nfrom ._errors import b",
        _receiving="from ._errors import b",
        _errors="import netiox",
    )
    assert layer_problems(package) == []


def loop_problems(package: Path) -> list[str]:
    return [
        f"{module}:{node.lineno} uses {node.attr}"
        for module, syntax in parse(package).items()
        if module.partition(".")[0] not in LOOPS
        for node in ast.walk(syntax)
        if isinstance(node, ast.Attribute) and module not in LOOP_CALLS.get(node.attr, {module})
    ]


def test_only_the_primitive_makes_something_wait() -> None:
    problems = loop_problems(PACKAGE)
    assert not problems, "\n".join(problems)


def test_a_second_user_of_the_loop_is_found(tmp_path: Path) -> None:
    package = write_package(
        tmp_path,
        _readiness="loop.add_reader(fd, f)",
        _scopes="loop.call_at(when, f)",
        _stream="loop.add_reader(fd, f)",
    )
    assert loop_problems(package) == ["_stream:1 uses add_reader"]


def size_problems(package: Path) -> Iterator[str]:
    for path in sorted(package.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines = source.count("\n")
        if lines > FILE_LINES_MAX:
            yield f"{path.name}: {lines} lines, more than {FILE_LINES_MAX}"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = function_lines(node)
                if length > FUNCTION_LINES_MAX:
                    yield f"{path.name}:{node.lineno} {node.name}: {length} lines of code"


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    last = node.end_lineno
    assert last is not None
    length = last - node.lineno + 1
    if ast.get_docstring(node) is not None:
        text = node.body[0]
        assert text.end_lineno is not None
        length -= text.end_lineno - text.lineno + 1
    return length


def test_no_class_takes_a_slot_that_its_base_has() -> None:
    classes = [
        thing
        for module in LAYER_OF
        for thing in vars(
            importlib.import_module(f"netio.{module}".removesuffix(".__init__"))
        ).values()
        if isinstance(thing, type) and thing.__module__.startswith("netio")
    ]
    assert len(classes) > 30
    for cls in classes:
        above = {slot for base in cls.__mro__[1:] for slot in vars(base).get("__slots__", ())}
        own = set(vars(cls).get("__slots__", ()))
        assert not own & above, f"{cls.__name__} has {own & above} twice: one hides the other"


def test_files_and_functions_stay_short() -> None:
    problems = list(size_problems(PACKAGE))
    assert not problems, "\n".join(problems)


def test_a_long_function_is_found_and_its_docstring_is_not_counted(tmp_path: Path) -> None:
    text = '    """' + "\n" * 100 + '    """\n'
    long, short = "    pass\n" * FUNCTION_LINES_MAX, "    pass\n" * (FUNCTION_LINES_MAX - 1)
    package = write_package(tmp_path, _stream=f"def long():\n{long}\ndef short():\n{text}{short}")
    assert list(size_problems(package)) == ["_stream.py:1 long: 71 lines of code"]
