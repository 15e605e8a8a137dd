"""Trains one algorithm on one world and leaves its policy, and the reward it learned, in
OUT/learned.

python launch/train.py --algo=airl --env=lane_keep --seeds=5 --out=runs/airl
python launch/train.py --algo=ppo --reward=runs/airl --lane_keep.friction=0.6 --out=runs/again
"""

import _venv

if __name__ == "__main__":
    _venv.start("train")
