"""Rebuilds verdicts.json, report.html and the figures of a run, or the files of a study, from the
stored cells alone.

python launch/report.py runs/first
"""

from __future__ import annotations

import sys
from typing import NoReturn

from absl import flags

from irl_bench.cli import program
from irl_bench.core import folders
from irl_bench.core.settings import BadInput


def main(values: flags.FlagValues) -> None:
    """Rebuilds the folder that the one argument names."""
    folders.cache()  # before Matplotlib looks for a folder of its own
    from irl_bench import report
    from irl_bench.studies import study

    arguments = program.remaining(values)
    if not arguments:
        raise BadInput("the folder of a run is needed; nearest: irl-bench report runs/sweep")
    folder = folders.expand(arguments[0])
    if (folder / study.INDEX).exists():
        study.rebuild(folder)
        return
    data = report.rebuild(folder)
    for line in (*data.unfinished, *data.other_rules):
        print(line)
    report.show(data.verdicts, data.sentences)
    print(f"report: {arguments[0].rstrip('/')}/report.html")


def start() -> NoReturn:
    """Runs the command and ends the process."""
    program.start(sys.modules[__name__], lambda: None, main, arguments=1)
