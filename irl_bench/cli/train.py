"""The command `train`: trains one algorithm on one world. The policy and the learned reward stay in
OUT/learned.

It is `sweep` with other defaults.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from irl_bench.cli import sweep
from irl_bench.cli.errors import BAD_INPUT, complain

DEFAULTS = {"algo": "airl", "seeds": "5"}
"""Defaults that differ from those of `sweep`."""


def start() -> NoReturn:
    """Runs the command and ends the process."""
    flags = {
        argument.lstrip("-").partition("=")[0]: argument.partition("=")[2]
        for argument in sys.argv[1:]
    }
    for name, default in DEFAULTS.items():
        if name not in flags and not {"help", "h", "list", "describe"} & flags.keys():
            sys.argv.append(f"--{name}={default}")
    if "," in flags.get("algo", ""):
        first = flags["algo"].partition(",")[0]
        complain(f"--algo={flags['algo']}: one at a time here; nearest: {first}")
        sys.exit(BAD_INPUT)
    sweep.start()
