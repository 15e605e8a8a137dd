"""Joins the run folders of several machines into one, and writes its report.

irl-bench merge runs/a runs/b --out=runs/both
"""

from __future__ import annotations

import contextlib
import sys
from typing import NoReturn

from absl import flags

from irl_bench.cli import program
from irl_bench.core import folders
from irl_bench.core.settings import BadInput

MOST = 10_000
"""Most folders of one command."""


def define() -> None:
    """The command's flags."""
    flags.DEFINE_string("out", None, "folder of the joined run; what it holds already is kept")


def main(values: flags.FlagValues) -> None:
    """Joins the folders that the arguments name."""
    folders.cache()  # before Matplotlib looks for a folder of its own
    from irl_bench import report
    from irl_bench.storage import remote
    from irl_bench.studies import study
    from irl_bench.sweep import check_folder
    from irl_bench.upkeep.merge import merge

    sources = program.remaining(values)
    if not values.out:
        raise BadInput("--out is needed; nearest: irl-bench merge A B --out=C")
    out = remote.folder(values.out, writing=True)
    check_folder(out)
    remote.pull(out, "*.parquet")
    remote.pull(out, "*.safetensors")
    with contextlib.ExitStack() as copies:
        places = [copies.enter_context(remote.copied(source)) for source in sources]
        complete = merge(places, out)
    if not complete:
        print(f"when they are stored: irl-bench report {values.out}")
    elif (out / study.INDEX).exists():
        study.rebuild(out)
    else:
        data = report.rebuild(out)
        report.show(data.verdicts, data.sentences)
        print(f"report: {remote.shown(out / 'report.html')}")


def start() -> NoReturn:
    """Runs the command and ends the process."""
    program.start(sys.modules[__name__], define, main, arguments=MOST)
