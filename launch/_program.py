"""What the small programs here have in common: one line and an exit status for bad input, absl's flags, quiet logs."""

import sys

import _venv


def start(define, body):
    """Runs `body(values) -> exit status or None` with the flags that `define(flags)` defines."""
    _venv.ensure()
    from absl import app, flags

    define(flags)
    if {"--help", "-h", "--helpfull"} & set(sys.argv[1:]):
        print(sys.modules["__main__"].__doc__, flags.FLAGS.module_help(sys.modules["__main__"]), sep="\n")
        sys.exit(0)
    app.run(lambda argv: _guarded(body, flags.FLAGS), flags_parser=_parse)


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

    from irl_bench.algos.config import BadInput
    from irl_bench.store import StoreError, WriteError

    logging.set_verbosity(logging.WARNING)
    try:
        return body(values)
    except (BadInput, StoreError) as error:
        _end(error, 74 if isinstance(error, WriteError) else 2)


def _end(error, status=2):
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    sys.exit(status)
