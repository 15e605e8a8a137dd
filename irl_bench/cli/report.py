"""Rebuilds verdicts.json, report.html and the figures of a run, or the files of a study, from the
stored cells alone.

python launch/report.py runs/first
python launch/report.py runs/first --films
python launch/report.py runs/seed_table --partial
"""

from __future__ import annotations

import sys
from typing import NoReturn

from absl import flags

from irl_bench.cli import program
from irl_bench.core import folders
from irl_bench.core.settings import BadInput


def define() -> None:
    """The command's flags."""
    flags.DEFINE_bool("partial", False, "read a study of which parts are missing")
    flags.DEFINE_bool(
        "films",
        False,
        "film BC beside DAgger, or the expert, in every world with a picture, for the report",
    )
    flags.DEFINE_string(
        "stored",
        None,
        "an earlier result of the same study, a JSON file, to which the folder adds what it lacks",
    )


def main(values: flags.FlagValues) -> None:
    """Rebuilds the folder that the one argument names."""
    folders.cache()  # before Matplotlib looks for a folder of its own
    from irl_bench import report
    from irl_bench.storage import remote
    from irl_bench.studies import study

    arguments = program.remaining(values)
    if not arguments:
        raise BadInput("the folder of a run is needed; nearest: irl-bench report runs/sweep")
    folder = remote.folder(arguments[0])
    stored = folders.expand(values.stored) if values.stored is not None else None
    if (folder / study.INDEX).exists():
        if values.films:
            raise BadInput(
                f"--films is for a run, and {arguments[0]} is a study's folder; nearest: a part of "
                "it"
            )
        study.rebuild(folder, partial=values.partial, stored=stored)
        return
    if values.partial or stored:
        flag = "--partial" if values.partial else f"--stored={values.stored}"
        raise BadInput(
            f"{flag} is for a study, and {arguments[0]} is not the folder of one; nearest: leave "
            f"out {flag.partition('=')[0]}"
        )
    data = report.rebuild(folder)
    if values.films:
        from irl_bench.films import of_run
        from irl_bench.running import process

        process.configure()
        if not of_run.write(folder, data):
            print("films: no world with a picture in which BC was trained")
        data = report.rebuild(folder)
    for line in (*data.unfinished, *data.other_rules):
        print(line)
    report.show(data.verdicts, data.sentences)
    print(f"report: {arguments[0].rstrip('/')}/report.html")


def start() -> NoReturn:
    """Runs the command and ends the process."""
    program.start(sys.modules[__name__], define, main, arguments=1)
