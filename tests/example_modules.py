"""The examples as modules, for tests of what is in them."""

import functools
import importlib.util
import types
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


@functools.cache
def load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
