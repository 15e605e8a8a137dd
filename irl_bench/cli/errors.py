"""Errors of all commands: one line on stderr and an exit status.

0: done. 2: bad input. 74: a result cannot be written. 75: interrupted, with a checkpoint; the same
command resumes. Anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from irl_bench.cli.spelling import called
from irl_bench.core.exits import BAD_INPUT, UNWRITTEN

EXHAUSTED = "RESOURCE_EXHAUSTED"
"""How XLA's errors begin if a device has too little memory."""


def complain(error: Exception | str) -> None:
    """Prints an error as one line on stderr, without unprintable characters, in which commands are
    spelled as this program was called."""
    text = "".join(c if c.isprintable() or c.isspace() else "?" for c in str(error))
    text = called(" ".join(text.split()))
    if len(text) > 600:
        text = f"{text[:250]} ... {text[-300:]}"
    print(f"error: {text}", file=sys.stderr)


def guarded(body: Callable[[], int | None]) -> int:
    """Calls `body` and returns its exit status. User errors become one line on stderr."""
    from irl_bench.core.settings import BadInput
    from irl_bench.storage.files import StoreError, WriteError

    try:
        return body() or 0
    except (BadInput, StoreError) as error:
        complain(error)
        return UNWRITTEN if isinstance(error, WriteError) else BAD_INPUT
    except RuntimeError as error:
        if EXHAUSTED not in str(error):
            raise
        reason = str(error).partition(EXHAUSTED)[2].lstrip(": ").splitlines()[0].split(" [")[0]
        complain(
            f"the device has too little memory ({reason}); what was finished before is kept; "
            "nearest: --seeds_at_once=1, or fewer worlds or episodes"
        )
        return BAD_INPUT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` is no error
        return 0


def check_jax() -> None:
    """Ends the program with one line if JAX cannot read its options from the environment."""
    try:
        import jax  # noqa: F401
    except ValueError as error:
        complain(f"JAX does not start: {error}; nearest: unset that variable")
        sys.exit(BAD_INPUT)
