"""Checks a run: every file against its hash, and one random cell by computing it again.

python launch/verify.py runs/sweep
"""

import _venv

if __name__ == "__main__":
    _venv.start("verify")
