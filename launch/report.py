"""Rebuilds verdicts.json, report.html and the figures of a run from its stored cells alone.

python launch/report.py runs/first
"""

import sys

import _venv


def main(argv: list[str]) -> int:
    from irl_bench import report

    if len(argv) != 2:
        print("usage: python launch/report.py OUTPUT_FOLDER", file=sys.stderr)
        return 2
    try:
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
