"""Several jobs within one deadline: at its end they are ended, waited for, and no error is lost.

python examples/end_together.py
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import netio

T = TypeVar("T")


async def all_within(seconds: float, *jobs: Coroutine[Any, Any, T]) -> list[T]:
    """The results of all jobs. At the first failure, or after `seconds`, the others are ended."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        async with netio.timeout(seconds, name="all jobs"):
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()  # raises what has failed
        return [task.result() for task in tasks]
    finally:
        # Waits until all have ended, also if we are cancelled meanwhile. What one of them raises on
        # its way out is raised here; what was on its way already is then its context.
        await netio.cancel_and_wait(*tasks, grace=2)


async def job(name: str, seconds: float, *, cleanup: float = 0.0, fails: bool = False) -> str:
    """Work for a while; cleaning up takes its time, and may fail."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        await asyncio.sleep(cleanup)
        print(f"   {name} has ended")
        if fails:
            raise OSError(f"{name}: the disk is full") from None
        raise
    return name


async def main() -> None:
    """Show what becomes of it in three cases."""
    print("in time:", await all_within(1, job("a", 0.1), job("b", 0.2)))
    try:
        await all_within(0.3, job("quick", 0.1), job("slow", 60, cleanup=0.2))
    except netio.DeadlineExceeded as error:
        print("too late:", error)
    try:
        await all_within(0.3, job("slow", 60), job("worse", 60, cleanup=0.2, fails=True))
    except OSError as error:
        print("failed on its way out:", error)
        print("   after:", error.__context__)


if __name__ == "__main__":
    asyncio.run(main())
