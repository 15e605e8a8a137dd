"""Says how far a run is: cells stored and running, by whom, since when, and the expected time left.

irl-bench status runs/sweep
irl-bench status runs/sweep --watch
"""

from __future__ import annotations

import sys
import time
from typing import NoReturn

from absl import flags

from irl_bench.cli import program
from irl_bench.core import folders
from irl_bench.core.settings import BadInput


def define() -> None:
    """The command's flags."""
    flags.DEFINE_bool("watch", False, "say it again until all cells are stored")
    flags.DEFINE_float("every", 5.0, "time between two looks with --watch [s]", lower_bound=0.1)
    flags.DEFINE_bool("cells", False, "list the keys of all cells")


def main(values: flags.FlagValues) -> None:
    """Prints the status of the folder that the one argument names."""
    from irl_bench.storage import remote
    from irl_bench.upkeep.status import status

    arguments = program.remaining(values)
    if not arguments:
        raise BadInput("the folder of a run is needed; nearest: irl-bench status runs/sweep")
    name = arguments[0]
    while True:
        try:
            with remote.copied(name, results=False) as folder:
                text, complete = status(folder, values.cells)
        except BadInput as error:
            if not values.watch or not (remote.is_url(name) or folders.expand(name).is_dir()):
                raise
            text, complete = str(error).partition(";")[0], False  # it may have a plan soon
        if values.watch and sys.stdout.isatty():
            print("\x1b[2J\x1b[H", end="")
        print(text, flush=True)
        if complete or not values.watch:
            return
        try:
            time.sleep(values.every)
        except KeyboardInterrupt:
            return


def start() -> NoReturn:
    """Runs the command and ends the process."""
    program.start(sys.modules[__name__], define, main, arguments=1)
