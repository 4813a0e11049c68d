"""Programs of scopes, as trees of tuples: making one of a seed, and making a failing one smaller.

A statement is a word and what it needs; a block is a tuple of statements. Numbers are whole
seconds, few of them, so that most of what happens in a program happens at the same moments. A
limit may be the name of a `Budget`, of which a program has two.

    sleep s; cancel myself; raise
    read s limit; write s limit     waits of netio, for what its peer does in s seconds
    netio join s                    likewise, for a task that sleeps
    netio wait for kind s limit grace; cancel and wait kind s grace    likewise, for work of a kind
    wait for s limit; join s; await child s     of asyncio
    scope kind s grace block; asyncio kind s block; anyio kind s block    s may be None, or negative
    shield s block
    group block; child kind s       the child belongs to the nearest group, if there is one
    clean up block block            try, finally
    swallow block; take back block; replace how block    what to do with a CancelledError
    handle block                    lets no error pass but a CancelledError
    stubborn n s                    sleeps n times, whatever cuts it
    reschedule which s; cancel scope which s    `which` counts from the innermost scope
"""

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Statement = tuple[Any, ...]
Block = tuple[Statement, ...]

DEPTH_MAX = 5
SHRINK_RUNS_MAX = 2000

SCOPES = ("timeout", "timeout_at", "move_on_after", "move_on_at")
ASYNCIO = ("timeout", "timeout_at")
ANYIO = ("move_on_after", "fail_after")
CHILDREN = ("ends", "ends", "fails", "fails", "is cancelled", "fails when cut", "cleans up")
SECONDS = (-1, 0, 1, 1, 1, 2, 2, 3, 4, None)
BOUNDS = (-1, 0, 1, 2, 3, 4, 4, 6)  # of shields
GRACES = (None, None, None, 0, 1, 1, 2)
LIMITS = (None, None, 1, 2, 3, "short", "short", "long")  # of waits of netio
WORKS = ("ends", "ends", "fails", "cleans up", "returns late", "fails late", "fails late", "deaf")
WORK_GRACES = (None, 0, 1, 2, 3)
REPLACEMENTS = ("subclass", "group", "mixed group", "error")
# What a statement may be, as often as it is wanted.
LEAVES = ["sleep"] * 6 + ["cancel myself", "raise", "stubborn", "reschedule"]
LEAVES += ["cancel scope"] * 2
LEAVES += ["read"] * 4 + ["write", "wait for", "join", "netio join", "await child"]
LEAVES += ["netio wait for"] * 2 + ["cancel and wait"]
BRANCHES = (
    ["scope"] * 10
    + ["shield"] * 4
    + ["clean up"] * 3
    + ["asyncio", "anyio", "take back"] * 2
    + ["group"] * 3
)
BRANCHES += ["swallow", "replace", "handle"]
CHILD_TOO = ["child"] * 3
# Where an outside cancel stands among all else that is due at its moment.
FIRST, LAST, A_TICK_LATER = -1, 1, 2


class Program(NamedTuple):
    """`tasks`: of which kind. `order`: of timers due at one moment; 0 is that of being set.
    `cancels`: those from outside, when and where among what is due then."""

    tasks: str
    order: int
    cancels: tuple[tuple[int, int], ...]
    block: Block


# Making one. --------------------------------------------------------------------------------------


def random_program(seed: str) -> Program:
    rng = random.Random(seed)
    cancels = [
        (rng.randint(0, 6), rng.choice((FIRST, LAST, LAST, A_TICK_LATER)))
        for _ in range(rng.choice((0, 0, 1, 1, 2)))
    ]
    tasks = rng.choice(("c", "c", "python", "eager"))
    order = rng.choice((0, rng.randint(1, 999)))
    before, after = (random_block(rng, 1, False)[:1] * rng.randint(0, 1) for _ in range(2))
    return Program(tasks, order, tuple(cancels), (*before, random_scope(rng, 0, False), *after))


def random_block(rng: random.Random, depth: int, in_group: bool) -> Block:
    length = rng.randint(1, 3 if depth < 3 else 2)
    return tuple(random_statement(rng, depth, in_group) for _ in range(length))


def random_scope(rng: random.Random, depth: int, in_group: bool) -> Statement:
    block = random_block(rng, depth + 1, in_group)
    return "scope", rng.choice(SCOPES), rng.choice(SECONDS), rng.choice(GRACES), block


def random_statement(rng: random.Random, depth: int, in_group: bool) -> Statement:
    words = LEAVES + BRANCHES if depth < DEPTH_MAX else LEAVES
    word = rng.choice(words + CHILD_TOO if in_group else words)
    if word == "scope":
        return random_scope(rng, depth, in_group)
    if word == "shield":
        return word, rng.choice(BOUNDS), random_block(rng, depth + 1, in_group)
    if word in ("asyncio", "anyio"):
        kind = rng.choice(ASYNCIO if word == "asyncio" else ANYIO)
        return word, kind, rng.choice(SECONDS), random_block(rng, depth + 1, in_group)
    if word == "group":
        return word, (random_child(rng), *random_block(rng, depth + 1, True))
    if word == "clean up":
        cleanup = random_block(rng, depth + 2, in_group)
        return word, random_block(rng, depth + 1, in_group), cleanup
    if word == "replace":
        return word, rng.choice(REPLACEMENTS), random_block(rng, depth + 1, in_group)
    if word in ("swallow", "take back", "handle"):
        return word, random_block(rng, depth + 1, in_group)
    return random_child(rng) if word == "child" else (word, *random_arguments(rng, word))


def random_child(rng: random.Random) -> Statement:
    return "child", rng.choice(CHILDREN), rng.randint(0, 3)


def random_arguments(rng: random.Random, word: str) -> Statement:
    if word in ("sleep", "join", "netio join", "await child"):
        return (rng.randint(0, 4),)
    if word in ("read", "write"):
        return rng.choice((0, 1, 2, 2, 3, 4, 9)), rng.choice(LIMITS)
    if word == "wait for":
        return rng.choice((0, 1, 2, 2, 3, 4, 9)), rng.choice((None, None, 1, 2, 3))
    if word == "netio wait for":
        limit = rng.choice((0, 1, 2, *LIMITS))
        return rng.choice(WORKS), rng.choice((0, 1, 2, 3, 9, 9)), limit, rng.choice(WORK_GRACES)
    if word == "cancel and wait":
        return rng.choice(WORKS), rng.randint(0, 2), rng.choice(WORK_GRACES)
    if word == "stubborn":
        return rng.randint(1, 4), rng.randint(0, 2)
    if word == "reschedule":
        return rng.randint(0, 3), rng.choice((None, -1, 0, 1, 1, 2, 3))
    if word == "cancel scope":
        return rng.randint(0, 3), rng.randint(0, 3)
    return ()


# Making it smaller. -------------------------------------------------------------------------------


def shrink(program: Program, fails: Callable[[Program], bool]) -> Program:
    """The least program that still fails, as far as single steps of making it less lead there."""
    runs, tried = 0, {program}
    candidates = smaller_programs(program)
    while runs < SHRINK_RUNS_MAX:
        smaller = next(candidates, None)
        if smaller is None:
            break
        if smaller not in tried:
            tried.add(smaller)
            runs += 1
            if fails(smaller):
                program, candidates = smaller, smaller_programs(smaller)
    return program


def smaller_programs(program: Program) -> Iterator[Program]:
    for block in smaller_blocks(program.block):
        yield program._replace(block=block)
    for cancels in smaller_blocks(program.cancels):
        yield program._replace(cancels=cancels)
    for order in smaller(program.order):
        yield program._replace(order=order)
    if program.tasks != "c":
        yield program._replace(tasks="c")


def smaller_blocks(block: Block) -> Iterator[Block]:
    """Without a statement; with the blocks in it instead of it; with a smaller one."""
    for number, statement in enumerate(block):
        before, after = block[:number], block[number + 1 :]
        yield before + after
        for part in statement:
            if isinstance(part, tuple):
                yield before + part + after
        for place, part in enumerate(statement):
            for less in smaller(part):
                yield (*before, (*statement[:place], less, *statement[place + 1 :]), *after)


def smaller(part: Any) -> Iterator[Any]:
    if isinstance(part, tuple):
        yield from smaller_blocks(part)
    elif isinstance(part, int) and part:
        yield 0
        yield part - 1 if part > 0 else part + 1


def statements_in(block: Block) -> int:
    """How many statements a block has, also in the blocks within it."""
    parts = [part for statement in block for part in statement if isinstance(part, tuple)]
    return len(block) + sum(statements_in(part) for part in parts)
