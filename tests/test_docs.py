"""The documents are true: code runs, links lead somewhere, every named test is there."""

import ast
import asyncio
import inspect
import re
import subprocess
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README_LINES_MAX = 119
BLOCK_S = 10  # one block of code

# What tells of the machine that something was written on, or sends readers to one index of
# packages. Written so that this file does not hold what it looks for.
DENIED = re.compile(r"(?<![\w.])/(?:root|work)/|\bpypi\.(?:org)\b|\bpythonhosted\.(?:org)\b")


def project_files() -> list[Path]:
    """The files that are, or would be, committed."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return sorted(path for path in paths if path.is_file())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Code in documents. ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """One ```python block. `<!-- not run: why -->` or `<!-- raises: Error -->` may precede it."""

    path: Path
    line: int  # of its first line of code
    code: str
    not_run: str | None
    raises: str | None


def blocks_in(path: Path, text: str) -> Iterator[Block]:
    fence = re.compile(r"^([ \t]*)```python\b[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.M | re.S)
    for found in fence.finditer(text):
        before = text[: found.start()].rstrip().rpartition("\n")[2].strip()
        said = re.fullmatch(r"<!-- (not run|raises): (.+) -->", before)
        yield Block(
            path=path,
            line=text.count("\n", 0, found.start(2)) + 1,
            code=textwrap.dedent(found[2]),
            not_run=said[2] if said and said[1] == "not run" else None,
            raises=said[2] if said and said[1] == "raises" else None,
        )


def all_blocks() -> list[object]:
    documents = [*ROOT.glob("README.md"), *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        pytest.param(block, id=f"{name_of(path)}:{block.line}")
        for path in documents
        for block in blocks_in(path, path.read_text(encoding="utf-8"))
    ]


def run(block: Block, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """As a program of its own, but in this process; errors point into the document."""
    source = "\n" * (block.line - 1) + block.code
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(source, str(block.path), "exec", flags=flags, dont_inherit=True)
    namespace: dict[str, object] = {"__name__": "__main__"}
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, namespace)
        return

    async def main() -> None:
        await eval(code, namespace)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@pytest.mark.timeout(BLOCK_S)
@pytest.mark.own_loop
@pytest.mark.parametrize("block", all_blocks())
@pytest.mark.real_time("as the reader would run it")
def test_code_in_the_documents_runs(
    block: Block, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    if block.not_run:
        pytest.skip(block.not_run)
    if block.raises is None:
        run(block, loop_factory)
        return
    raised = "nothing"
    try:
        run(block, loop_factory)
    except Exception as error:
        raised = type(error).__name__
    assert raised == block.raises


def blocks_of(text: str) -> list[Block]:
    return list(blocks_in(ROOT / "README.md", textwrap.dedent(text)))


def test_code_is_found_with_what_is_said_about_it() -> None:
    text = """\
        Text.

        ```python
        1
        ```

        <!-- not run: needs a network -->
        ```python
        2
        ```

        ```sh
        3
        ```

        - <!-- raises: ValueError -->

          ```python
          if 4:
              5
          ```
    """
    first, second, third = blocks_of(text.replace("- <!--", "<!--"))
    assert (first.code, first.line, first.not_run, first.raises) == ("1\n", 4, None, None)
    assert (second.code, second.not_run) == ("2\n", "needs a network")
    assert (third.code, third.raises) == ("if 4:\n    5\n", "ValueError")


def test_code_with_await_and_without_runs(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    [plain] = blocks_of("```python\nassert __name__ == '__main__'; 1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        run(plain, loop_factory)
    assert caught.traceback[-1].lineno == plain.line - 1  # pytest counts from 0
    [awaits] = blocks_of("```python\nimport asyncio\nawait asyncio.sleep(0)\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError):
        run(awaits, loop_factory)


# The laws. ------------------------------------------------------------------------------------


def named_tests() -> dict[str, set[str]]:
    found = {}
    for path in (ROOT / "tests").rglob("*.py"):
        found[path.relative_to(ROOT / "tests").as_posix()] = {
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
        }
    return found


def test_every_test_that_a_law_names_exists() -> None:
    text = (ROOT / "docs" / "laws.md").read_text(encoding="utf-8")
    named = re.findall(r"`(?:(?:tests/)?([\w/]+\.py)::)?(?:\w+::)?(test_\w+)(?:\[[^`]*\])?`", text)
    assert named, "docs/laws.md names no tests"
    known = named_tests()
    everywhere = set().union(*known.values())
    missing = [
        f"{file}::{test}" if file else test
        for file, test in named
        if test not in (known.get(file, set()) if file else everywhere)
    ]
    assert not missing, "docs/laws.md names tests that are not there: " + ", ".join(missing)


# The project's files. -------------------------------------------------------------------------


def test_the_changelog_has_an_entry_for_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    version = re.escape(project["project"]["version"])
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?{version}\]?(?= |$)", changelog, re.MULTILINE)


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= README_LINES_MAX


def test_no_file_names_a_build_machine_or_an_index_of_packages() -> None:
    found = []
    for path in project_files():
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if denied := DENIED.search(line):
                found.append(f"{name_of(path)}:{number}: {denied[0]}")
    assert not found, "\n".join(found)


def test_a_path_of_a_build_machine_is_found() -> None:
    assert DENIED.search("cd " + "/".join(["", "root", ".pyenv"]))
    assert DENIED.search("https://" + ".".join(["pypi", "org"]) + "/project")
    assert not DENIED.search("https://example.org/work/1 and ./root/x")


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in project_files():
        if path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            broken += [
                f"{name_of(path)}: {t}" for t in relative_links(text) if leads_nowhere(path, t)
            ]
    assert not broken, "\n".join(broken)


def relative_links(text: str) -> list[str]:
    text = re.sub(r"^[ \t]*```.*?^[ \t]*```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    targets = re.findall(r"\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)", text)
    targets += re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, re.MULTILINE)
    return [t for t in targets if not re.match(r"[a-z][a-z+.-]*:|#", t)]


def leads_nowhere(document: Path, target: str) -> bool:
    return not (document.parent / target.partition("#")[0]).exists()


def test_only_relative_links_are_followed() -> None:
    text = "[a](b.md#c) [d](https://e) [f](#g) `[h](i)`\n```\n[j](k)\n```\n\n[l]: ../m.md\n"
    assert relative_links(text) == ["b.md#c", "../m.md"]


# The laws. ------------------------------------------------------------------------------------

LAW = re.compile(r"\b[Ll]aws? (\d+(?:(?:, | and | to |-)\d+)*)")


def laws_cited(text: str) -> set[int]:
    return {int(n) for numbers in LAW.findall(text) for n in re.findall(r"\d+", numbers)}


def test_every_law_that_is_cited_is_there() -> None:
    text = (ROOT / "docs" / "laws.md").read_text(encoding="utf-8")
    defined = {int(n) for n in re.findall(r"^\*\*(\d+)\. ", text, re.M)}
    citing = [*(ROOT / "netio").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    missing = {
        f"{name_of(path)}: law {number}"
        for path in citing
        for number in laws_cited(path.read_text(encoding="utf-8")) - defined
    }
    assert not missing


def test_citations_of_laws_are_found() -> None:
    assert laws_cited("(law 9), laws 14-16 and 19; laws 9, 10") == {9, 14, 16, 19, 10}
