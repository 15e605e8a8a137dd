"""Trains or measures a world's demonstrator; the same as `launch/expert.py`.

python launch/demonstrator.py --env=hopper
"""

import _venv

if __name__ == "__main__":
    _venv.start("demonstrator")
