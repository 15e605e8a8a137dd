"""The horizon sweep: does regret grow like T² or like T?

python launch/sweep.py --algo=bc,dagger --env=chain,lane_keep --seeds=20 --budget=smoke
"""

import _venv

if __name__ == "__main__":
    _venv.start("sweep")
