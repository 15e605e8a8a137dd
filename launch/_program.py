"""What the small programs here have in common: one line and an exit status for bad input, absl's
flags, quiet logs."""

import sys

import _venv


def start(define, body):
    """Runs `body(values) -> exit status or None` with the flags that `define(flags)` defines."""
    _venv.ensure()
    from absl import app, flags

    define(flags)
    show_help()
    app.run(lambda argv: _guarded(body, flags.FLAGS), flags_parser=_parse)


def show_help():
    """Ends the program with its text and its flags, and status 0, if it was asked for help;
    absl's own status is 1."""
    from absl import flags

    if {"--help", "-h", "--helpfull"} & set(sys.argv[1:]):
        program = sys.modules["__main__"]
        print(program.__doc__, flags.FLAGS.module_help(program), sep="\n")
        sys.exit(0)


def _parse(argv):
    from absl import flags

    try:
        stray = flags.FLAGS(argv)[1:]
    except flags.Error as error:
        _end(error)
    if stray:
        _end(f"stray argument {stray[0]!r}: every option is a flag")
    return argv


def _guarded(body, values):
    from absl import logging

    from irl_bench.core.settings import BadInput
    from irl_bench.storage.cells import StoreError, WriteError

    logging.set_verbosity(logging.WARNING)
    try:
        return body(values)
    except (BadInput, StoreError) as error:
        _end(error, 74 if isinstance(error, WriteError) else 2)


def _end(error, status=2):
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    sys.exit(status)
