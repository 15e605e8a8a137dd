"""Measures this machine's speed and rewrites BENCHMARKS.md.

python launch/bench.py --what=worlds,horizons,seeds
"""

import _venv

if __name__ == "__main__":
    _venv.start("bench")
