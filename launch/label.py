"""Serves a page on which people compare clips of a world; `rlhf` trains from the answers.

python launch/label.py --env=lane_keep --pairs=100 --out=labels/lane_keep
"""

import _venv

if __name__ == "__main__":
    _venv.start("label")
