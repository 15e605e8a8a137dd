"""What the small commands share: flags, help, quiet logs, and one line for bad input."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

from absl import app, flags, logging

from irl_bench.cli import errors
from irl_bench.core.exits import BAD_INPUT

HELP = frozenset({"--help", "-h", "--helpfull"})


def start(
    module: ModuleType,
    define: Callable[[], None],
    body: Callable[[flags.FlagValues], int | None],
    arguments: int = 0,
) -> NoReturn:
    """Runs a command and ends the process with its exit status.

    Args:
      module: the command's module, whose docstring is its help.
      define: defines the flags.
      body: does the work and may return an exit status.
      arguments: how many positional arguments the command takes; `body` finds them in
        `remaining(values)`.
    """
    define()
    if HELP & set(sys.argv[1:]):
        text = [called(module.__doc__ or ""), flags.FLAGS.module_help(module)]
        print(*filter(None, text), sep="\n")
        sys.exit(0)
    errors.check_jax()

    def parse(argv: list[str]) -> list[str]:
        try:
            stray = flags.FLAGS(argv)[1:]
        except flags.Error as error:
            errors.complain(error)
            sys.exit(BAD_INPUT)
        if len(stray) > arguments:
            errors.complain(f"stray argument {stray[arguments]!r}: every option is a flag")
            sys.exit(BAD_INPUT)
        return argv

    def run(argv: list[str]) -> int:
        logging.set_verbosity(logging.WARNING)
        return errors.guarded(lambda: body(flags.FLAGS))

    app.run(run, flags_parser=parse)
    raise AssertionError("app.run ends the program")


def remaining(values: flags.FlagValues) -> list[str]:
    """Returns the positional arguments."""
    return list(values(sys.argv)[1:])


def called(text: str) -> str:
    """Returns a help text in which commands are spelled as this program was called."""
    if not sys.argv[0].startswith("irl-bench"):
        return text
    return (
        text.replace("python launch/expert.py", "irl-bench demonstrator")
        .replace("python launch/", "irl-bench ")
        .replace(".py ", " ")
    )


def name_of(command: str) -> str:
    """Returns a command's name in the report: `irl-bench NAME` or `launch/NAME.py`."""
    installed = sys.argv[0].startswith("irl-bench")
    return f"irl-bench {command}" if installed else f"launch/{command}.py"
