"""Films an episode: the same scene driven by a learned policy and by others.

python launch/render.py --policy=runs/sweep:bc --vs=dagger,expert --env=lane_keep --out=film
"""

import _venv

if __name__ == "__main__":
    _venv.start("render")
