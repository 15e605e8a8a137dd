"""Writes a world's demonstrations, or checks a file of them.

python launch/demos.py --env=lane_keep --demos=20 --out=demos/lane_keep.npz
"""

import _venv

if __name__ == "__main__":
    _venv.start("demos")
