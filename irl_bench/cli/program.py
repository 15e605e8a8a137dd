"""What the small commands have in common: flags, help, quiet logs, one line for bad input."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

from absl import app, flags, logging

from irl_bench.cli import errors

HELP = frozenset({"--help", "-h", "--helpfull"})


def start(
    module: ModuleType,
    define: Callable[[], None],
    body: Callable[[flags.FlagValues], int | None],
    arguments: int = 0,
) -> NoReturn:
    """Runs a command and ends the process with its exit status.

    Args:
      module: the command's; its documentation is its help.
      define: defines its flags.
      body: does the work.
      arguments: how many arguments without a flag it takes, which `body` finds in
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
            sys.exit(errors.BAD_INPUT)
        if len(stray) > arguments:
            errors.complain(f"stray argument {stray[arguments]!r}: every option is a flag")
            sys.exit(errors.BAD_INPUT)
        return argv

    def run(argv: list[str]) -> int:
        logging.set_verbosity(logging.WARNING)
        return errors.guarded(lambda: body(flags.FLAGS))

    app.run(run, flags_parser=parse)
    raise AssertionError("app.run ends the program")


def remaining(values: flags.FlagValues) -> list[str]:
    """The arguments without a flag."""
    return list(values(sys.argv)[1:])


def called(text: str) -> str:
    """A help text with the commands spelled as this program was called."""
    if not sys.argv[0].startswith("irl-bench"):
        return text
    return (
        text.replace("python launch/expert.py", "irl-bench demonstrator")
        .replace("python launch/", "irl-bench ")
        .replace(".py ", " ")
    )


def name_of(command: str) -> str:
    """A command as it is noted down: `irl-bench NAME` or `launch/NAME.py`."""
    installed = sys.argv[0].startswith("irl-bench")
    return f"irl-bench {command}" if installed else f"launch/{command}.py"
