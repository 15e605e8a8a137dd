"""Rebuilds verdicts.json, report.html and the figures of a run, or the files of a study, from the
stored cells alone.

python launch/report.py runs/first
"""

import sys

import _program
import _venv


def main(argv: list[str]) -> int:
    from absl import logging

    from irl_bench.core import folders

    folders.cache()  # before Matplotlib looks for a folder of its own
    from irl_bench import report
    from irl_bench.storage.cells import WriteError
    from irl_bench.studies import study

    logging.set_verbosity(logging.WARNING)
    if len(argv) != 2:
        print("usage: python launch/report.py OUTPUT_FOLDER", file=sys.stderr)
        return 2
    try:
        folder = folders.expand(argv[1])
        if (folder / study.INDEX).exists():
            study.rebuild(folder)
            return 0
        made = report.rebuild(folder)
    except ValueError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 74 if isinstance(error, WriteError) else 2
    for line in made.unfinished:
        print(line)
    report.show(made.verdicts, made.sentences)
    print(f"report: {argv[1].rstrip('/')}/report.html")
    return 0


if __name__ == "__main__":
    _venv.ensure()
    from absl import app

    _program.show_help()
    app.run(main)
