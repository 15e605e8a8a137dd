"""Runtime checks of array shapes and types, enabled by an environment variable.

`@checked` compares arguments and results with their jaxtyping annotations while a function is
traced, if the environment variable IRL_BENCH_CHECK_SHAPES is set and beartype is installed. The
tests set it. Compiled code is the same with and without.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, TypeVar

from jaxtyping import jaxtyped  # pyright: ignore[reportUnknownVariableType] - partly untyped

_Function = TypeVar("_Function", bound=Callable[..., Any])

CHECKED = bool(os.environ.get("IRL_BENCH_CHECK_SHAPES"))
"""Whether `checked` checks anything in this process."""


def checked(function: _Function) -> _Function:
    """Returns `function` wrapped in a check of its annotations if CHECKED is set, else
    unchanged."""
    if not CHECKED:
        return function
    beartype = importlib.import_module("beartype").beartype
    return jaxtyped(typechecker=beartype)(function)
