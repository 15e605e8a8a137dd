"""Says how far a run is: cells stored and running, by whom, since when, and the expected time left.

python launch/status.py runs/sweep
"""

import _venv

if __name__ == "__main__":
    _venv.start("status")
