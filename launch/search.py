"""Searches an algorithm's numbers; all candidates are trained side by side in one program.

python launch/search.py --algo=gail --space=learning_rate:1e-4:1e-3:log --candidates=8
"""

import _venv

if __name__ == "__main__":
    _venv.start("search")
