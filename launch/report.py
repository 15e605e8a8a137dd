"""Rebuilds verdicts.json, report.html and the figures of a run, or the files of a study, from the stored cells alone.

python launch/report.py runs/first
"""

import sys
from pathlib import Path

import _venv


def main(argv: list[str]) -> int:
    from absl import logging

    from irl_bench import report
    from irl_bench.experiments import study

    logging.set_verbosity(logging.WARNING)
    if len(argv) != 2:
        print("usage: python launch/report.py OUTPUT_FOLDER", file=sys.stderr)
        return 2
    try:
        if (Path(argv[1]) / study.INDEX).exists():
            study.rebuild(Path(argv[1]))
            return 0
        made = report.rebuild(argv[1])
    except ValueError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    report.show(made.verdicts, made.sentences)
    print(f"report: {argv[1].rstrip('/')}/report.html")
    return 0


if __name__ == "__main__":
    _venv.ensure()
    from absl import app

    app.run(main)
