"""The command `train`: one algorithm on one world, whose policy and learned reward stay in
OUT/learned.

It is `sweep` with other defaults.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from irl_bench.cli import sweep
from irl_bench.cli.errors import BAD_INPUT, complain

DEFAULTS = {"algo": "airl", "seeds": "5"}


def start() -> NoReturn:
    """Runs the command and ends the process."""
    given = {
        argument.lstrip("-").partition("=")[0]: argument.partition("=")[2]
        for argument in sys.argv[1:]
    }
    for name, default in DEFAULTS.items():
        if name not in given and not {"help", "h", "list", "describe"} & given.keys():
            sys.argv.append(f"--{name}={default}")
    if "," in given.get("algo", ""):
        first = given["algo"].partition(",")[0]
        complain(f"--algo={given['algo']}: one at a time here; nearest: {first}")
        sys.exit(BAD_INPUT)
    sweep.start()
