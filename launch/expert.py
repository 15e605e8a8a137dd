"""Trains or measures a world's demonstrator.

python launch/expert.py --env=hopper
"""

import _venv

if __name__ == "__main__":
    _venv.start("demonstrator")
