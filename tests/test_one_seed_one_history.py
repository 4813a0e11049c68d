"""One seed is one history: of a run with every kind of fault, here and elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import fault_history
import pytest
from fault_history import Run, digests

from netio.testing import faults

ROOT = Path(__file__).parent.parent

SEED = 124  # one with which all faults fire
OTHER_SEEDS = (87, 154, 30)
RUNS = 1000

# All faults there are, so that a new one is not forgotten here.
KINDS = {getattr(faults, name) for name in faults.__all__} - {faults.Fault, faults.assert_fired}


def elsewhere(python: Path | str, hash_seed: int, seed: int) -> str:
    """The digest of a run in another process."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    ran = subprocess.run(
        [python, fault_history.__file__, str(seed), "1"],
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def other_pythons() -> list[Path]:
    """Where other versions have an environment for the tests."""
    return sorted((ROOT / ".venvs").glob("*/bin/python"))


@pytest.mark.once
@pytest.mark.timeout(90)
def test_a_run_with_all_faults_is_the_same_every_time() -> None:
    run = Run(SEED)
    run.digest()
    assert {type(fault) for fault in run.faults} == KINDS
    assert len(KINDS) >= 10
    assert all(fault.fired for fault in run.faults)
    assert len(run.network.events) > 120
    assert len(run.history) > 12
    assert run.timeline is not None
    told = {event.name for event in run.timeline.events if event.kind == "fault"}
    assert told == {kind.name for kind in KINDS}
    assert len(digests(SEED, RUNS)) == 1


def test_another_seed_is_another_history() -> None:
    assert len({Run(seed).digest() for seed in (SEED, *OTHER_SEEDS)}) == 1 + len(OTHER_SEEDS)


@pytest.mark.parametrize("hash_seed", [1, 2])
def test_another_process_has_the_same_history(hash_seed: int) -> None:
    assert elsewhere(sys.executable, hash_seed, SEED) == Run(SEED).digest()


@pytest.mark.skipif(not other_pythons(), reason="no other Python is set up in .venvs")
def test_another_python_has_the_same_history() -> None:
    expected = Run(SEED).digest()
    assert {elsewhere(python, 3, SEED) for python in other_pythons()} == {expected}
