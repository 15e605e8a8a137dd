"""The command `sweep`: runs cells as the flags ask, and writes verdicts and a report."""

from __future__ import annotations

import dataclasses
import signal
import sys
from typing import Any, NoReturn

from absl import app, flags, logging

from irl_bench.cli import distributed, errors
from irl_bench.cli.command import Command, parse
from irl_bench.cli.spelling import name_of
from irl_bench.core import folders
from irl_bench.core.exits import BAD_INPUT, INTERRUPTED
from irl_bench.core.settings import BadInput, NeedsActions
from irl_bench.running import streams

TEXTS_ALONE = frozenset({"--help", "-h", "--list"})
"""Flags that print text alone. They need no device, so JAX is not imported for them."""


def start(name: str = "sweep") -> NoReturn:
    """Runs the command, `sweep` or `train`, and ends the process."""
    folders.cache()
    if not TEXTS_ALONE & set(sys.argv):
        _prepare()
    app.run(main, flags_parser=lambda argv: parse_or_exit(argv, name))
    raise AssertionError("app.run ends the program")


def _prepare() -> None:
    """Configures JAX and the handling of signals."""
    errors.check_jax()
    import jax

    from irl_bench.running import process

    if any(word.lstrip("-").startswith("launcher") for word in sys.argv[1:]):
        # GPUs are for the processes that it starts, and JAX reserves the memory of those it sees.
        jax.config.update("jax_platforms", "cpu")
    try:
        distributed.join(sys.argv)
        process.configure()
    except BadInput as error:
        errors.complain(error)
        sys.exit(BAD_INPUT)
    for number in process.stopping_signals():  # while cells run, the runner handles them
        signal.signal(number, _interrupted)


def _interrupted(number: int, frame: Any) -> NoReturn:
    """Ends the process at a signal that arrives while no cells run."""
    del frame
    streams.tell(
        f"{signal.Signals(number).name}: stopped; finished cells are stored, run the same command "
        "to resume"
    )
    sys.exit(INTERRUPTED)


def parse_or_exit(argv: list[str], name: str = "sweep") -> Command:
    """Returns the parsed command, `sweep` or `train`; bad input ends the process."""
    logging.set_verbosity(logging.WARNING)
    # absl asks that its own flags be parsed (--pdb and the like), though they are not offered.
    flags.FLAGS(argv[:1])
    try:
        return parse(argv, name_of("sweep"), name)
    except BadInput as error:
        errors.complain(error)
        sys.exit(BAD_INPUT)


def main(command: Command) -> int:
    """Carries out a command and returns the exit status."""
    with streams.without_reader():
        return errors.guarded(lambda: carry_out(command))


def carry_out(command: Command) -> int | None:
    """Carries out a command and returns its exit status, None for 0.

    Raises:
      BadInput, StoreError: one line for the user.
    """
    try:
        return _carried_out(command)
    except NeedsActions as error:
        study, request = command.study, command.request
        if study is None:
            raise
        what = str(error).partition("; nearest: ")[0]
        near = "leave out --observation_only"
        if request.demos_from is not None:
            near = "leave out --demos_from, or take a file with actions"
        raise BadInput(f"--experiment={study.name}: {what}; nearest: {near}") from None


def _carried_out(command: Command) -> int | None:
    """Carries out a command and returns its exit status, None for 0."""
    if command.list:
        from irl_bench.cli import catalogue

        print(catalogue.listing())
        return None
    from irl_bench.cli import texts
    from irl_bench.storage import remote

    if not command.help and command.describe is None and remote.is_url(command.request.out):
        out = remote.folder(command.request.out, writing=not command.dry_run)
        request = dataclasses.replace(command.request, out=str(out))
        command = dataclasses.replace(command, request=request)
    if command.help:
        print(texts.usage(command.owners, command.name))
    elif command.describe is not None:
        print(texts.describe(command.describe))
    elif command.dry_run:
        from irl_bench.cli import dry_run

        print(dry_run.study(command) if command.study else dry_run.sweep(command))
    elif command.launcher:
        from irl_bench.cli import launcher

        return launcher.run(command)
    else:
        _compute(command)
    return None


def _compute(command: Command) -> None:
    """Runs a study or a sweep in this process."""
    if command.compile_cache:
        from irl_bench.running import process

        process.keep_compiled(folders.expand(command.request.out))
    if command.study:
        from irl_bench.studies import study

        study.run(command.study, command.request, command.demos, command.line, only=command.parts)
    else:
        from irl_bench.sweep import sweep

        sweep(command.request, command.line)
