"""Checks a run: every file against its hash, and one random cell by computing it again.

irl-bench verify runs/sweep
irl-bench verify runs/sweep --again=5
irl-bench verify runs/sweep --cells=0123abcd

Exit status: 0 if all that is stored is sound, 1 if something is wrong.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from absl import flags

from irl_bench.cli import program
from irl_bench.core.settings import BadInput

WRONG = 1
"""Exit status if a file is damaged, or a cell is not what it is again."""


def define() -> None:
    """The command's flags."""
    flags.DEFINE_integer("again", 1, "random cells that are computed again", lower_bound=0)
    flags.DEFINE_string("cells", None, "compute these cells again: keys, separated by commas")
    flags.DEFINE_bool(
        "outside",
        False,
        "also compute cells again whose algorithm or world is a file from outside this package: "
        "this runs that file",
    )
    flags.DEFINE_integer("seed", None, "of the draw of cells; by default another each time")


def main(values: flags.FlagValues) -> int:
    """Verifies the folder that the one argument names, and returns the exit status."""
    from irl_bench.plan.shards import parse_keys
    from irl_bench.running import process
    from irl_bench.storage import remote
    from irl_bench.upkeep import verify

    arguments = program.remaining(values)
    if not arguments:
        raise BadInput("the folder of a run is needed; nearest: irl-bench verify runs/sweep")
    keys = () if values.cells is None else parse_keys(values.cells)
    process.configure()
    name = arguments[0]
    with remote.copied(name) as folder:
        say = lambda line: print(line.replace(str(folder), name.rstrip("/")))
        found = verify.check(folder)
        for line in found.problems:
            say(line)
        process.supervise(
            lambda stop: verify.repeat(
                found, values.again, keys, values.seed, stop, say, outside=values.outside
            )
        )
    print(verify.summary(found))
    return WRONG if found.problems else 0


def start() -> NoReturn:
    """Runs the command and ends the process."""
    program.start(sys.modules[__name__], define, main, arguments=1)
