"""The command `irl-bench`: its subcommands are the programs of `launch/`."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Any, NoReturn, cast

COMMANDS = {
    "sweep": "run algorithms on worlds and print a verdict for each",
    "train": "train one algorithm on one world and keep what it learned",
    "report": "rebuild the report of a run from its stored cells",
    "status": "say how far a run is, and who computes it",
    "merge": "join the run folders of several machines",
    "verify": "check every file of a run, and compute a cell again",
    "demos": "write a world's demonstrations, or check a file of them",
    "demonstrator": "train or measure a world's demonstrator",
    "search": "search an algorithm's numbers",
    "render": "film an episode that several policies drive",
    "label": "serve the page on which people compare clips",
    "bench": "measure this machine's speed",
}
"""Subcommand -> what it does. Each is a module of this package with `start()`."""

COLLECTION = (50_000, 20, 50)
"""How often Python looks for cycles of objects. Importing and tracing make many objects that stay,
and at the usual rate looking through them takes a tenth of a short sweep's time."""


def main() -> NoReturn:
    """Runs `irl-bench COMMAND [FLAGS]` and ends the process."""
    from envs.names import did_you_mean
    from irl_bench import __version__
    from irl_bench.cli.errors import BAD_INPUT, complain

    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name == "--version":
        print(__version__)
        sys.exit(0)
    if name in ("--help", "-h", "help", ""):
        print("usage: irl-bench COMMAND [--FLAG=VALUE ...]\n")
        for command, text in COMMANDS.items():
            print(f"  {command:<13} {text}")
        print("\nirl-bench COMMAND --help explains a command; irl-bench sweep --list lists "
              "algorithms, worlds and studies.")  # fmt: skip
        sys.exit(0 if name else BAD_INPUT)
    if name not in COMMANDS:
        complain(f"no command {name!r}; {did_you_mean(name, COMMANDS)}")
        sys.exit(BAD_INPUT)
    sys.argv = [f"irl-bench {name}", *sys.argv[2:]]
    start(name)


def start(name: str) -> NoReturn:
    """Runs a command with the flags in `sys.argv` and ends the process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal may lack a letter: it shows a question mark
            cast("Any", stream).reconfigure(errors="replace")
    gc.set_threshold(*COLLECTION)
    importlib.import_module(f"irl_bench.cli.{name}").start()
    raise AssertionError("a command ends the process")
