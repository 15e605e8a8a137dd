"""Rebuilds the report of a run, or the files of a study, from the stored cells alone.

python launch/report.py runs/first
"""

import _venv

if __name__ == "__main__":
    _venv.start("report")
