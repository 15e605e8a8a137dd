"""What the small commands share: flags, help, quiet logs, and one line for bad input."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from absl import app, flags, logging

from irl_bench.cli import absl_errors, errors
from irl_bench.cli.spelling import called
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
        # Inside `guarded`, since a reader such as `head` may close the pipe.
        sys.exit(errors.guarded(lambda: print(*filter(None, text), sep="\n", flush=True)))
    errors.check_jax()

    def parse(argv: list[str]) -> list[str]:
        offered = {flag.name: flag for flag in flags.FLAGS.get_flags_for_module(module)}
        flags.FLAGS.set_gnu_getopt(True)  # a folder may come before the flags
        try:
            stray = flags.FLAGS(argv)[1:]
        except (flags.Error, ValueError) as error:
            errors.complain(absl_errors.plain(error, offered))
            sys.exit(BAD_INPUT)
        problem = absl_errors.not_finite(offered)
        if problem:
            errors.complain(problem)
            sys.exit(BAD_INPUT)
        if len(stray) > arguments:
            hint = absl_errors.for_stray(stray[arguments], () if arguments else offered)
            why = "one folder at a time" if arguments else "every option is a flag"
            errors.complain(f"stray argument {stray[arguments]!r}: {why}; {hint}")
            sys.exit(BAD_INPUT)
        return argv

    def run(argv: list[str]) -> int:
        logging.set_verbosity(logging.WARNING)
        return errors.guarded(lambda: body(flags.FLAGS))

    app.run(run, flags_parser=parse)
    raise AssertionError("app.run ends the program")


def check_file(flag: str, path: Path, example: str) -> None:
    """Raises BadInput unless a file can be written at `path`, so that no work is lost for a wrong
    flag. Writes nothing that stays.

    Args:
      flag: the flag with which the message begins.
      path: of the file, which may exist. Missing folders are made when it is written.
      example: a name that the file may have.
    """
    from irl_bench.core.settings import BadInput

    if path.is_dir():
        raise BadInput(f"--{flag}={path} is a folder; nearest: --{flag}={path / example}")
    with _written(flag, path, example):
        if path.exists():
            with path.open("ab"):
                pass
        _make_a_file(path.parent)


def check_record(flag: str, path: Path, example: str, parts: Iterable[str] = ()) -> None:
    """As `check_file`, for a JSON file that is added to. Raises BadInput also for one that cannot
    be.

    Args:
      flag, path, example: as of `check_file`.
      parts: names of values that are mappings of mappings, if the file has them.
    """
    from irl_bench.core.settings import BadInput
    from irl_bench.storage import untrusted

    check_file(flag, path, example)
    if not path.exists():
        return
    rows = untrusted.mapped(lambda row: isinstance(row, dict))
    try:
        record = untrusted.parsed(untrusted.content(path))
        wrong = untrusted.fields(record, {}, dict.fromkeys(parts, rows))
    except (ValueError, OSError):
        wrong = "it is no JSON file"
    if wrong:
        raise BadInput(
            f"--{flag}={path} holds something else than a record ({wrong}); nearest: "
            f"--{flag}={path.with_name(example)}"
        )


def check_folder(flag: str, path: Path, example: str) -> None:
    """Raises BadInput unless files can be written into a folder, which may not exist yet. Writes
    nothing that stays.

    Args:
      flag: the flag with which the message begins.
      path: the folder.
      example: one that the flag may name.
    """
    with _written(flag, path, example):
        _make_a_file(path)


@contextlib.contextmanager
def _written(flag: str, path: Path, example: str) -> Generator[None]:
    """Turns a failed write into BadInput."""
    from irl_bench.core.settings import BadInput

    try:
        yield
    except OSError as error:
        raise BadInput(
            f"--{flag}={path} cannot be written ({error.strerror}); nearest: --{flag}={example}"
        ) from None


def _make_a_file(folder: Path) -> None:
    """Makes a file without a name in a folder or, if it does not exist, in the first one above."""
    above = next(each for each in (folder, *folder.parents) if each.exists())
    with tempfile.TemporaryFile(dir=above):
        pass


def remaining(values: flags.FlagValues) -> list[str]:
    """Returns the positional arguments."""
    return list(values(sys.argv)[1:])
