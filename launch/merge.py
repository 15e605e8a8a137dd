"""Joins the run folders of several machines into one, and writes its report.

python launch/merge.py runs/a runs/b --out=runs/both
"""

import _venv

if __name__ == "__main__":
    _venv.start("merge")
