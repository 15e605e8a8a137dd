"""Trains one algorithm on one world and leaves its policy, and the reward it learned, in
OUT/learned.

python launch/train.py --algo=airl --env=lane_keep --seeds=5 --out=runs/airl
python launch/train.py --algo=ppo --reward=runs/airl --lane_keep.friction=0.6 --out=runs/again
"""

import sys

import _venv

if __name__ == "__main__":
    _venv.ensure()
    from irl_bench.cli import sweep

    given = {
        argument.lstrip("-").partition("=")[0]: argument.partition("=")[2]
        for argument in sys.argv[1:]
    }
    for name, default in (("algo", "airl"), ("seeds", "5")):
        if name not in given and not {"help", "h", "list", "describe"} & given.keys():
            sys.argv.append(f"--{name}={default}")
    if "," in given.get("algo", ""):
        first = given["algo"].partition(",")[0]
        sys.stderr.write(f"error: --algo={given['algo']}: one at a time here; nearest: {first}\n")
        sys.exit(2)
    sweep.start()
