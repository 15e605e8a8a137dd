"""irl_bench: does an imitation learner's regret grow like T² or like T?

    import irl_bench

    verdicts = irl_bench.run(algo="bc", env="chain", budget="smoke", out="runs/first")
    figures = irl_bench.score(my_policy, "lane_keep")
    policy = irl_bench.load("runs/first", "bc", "chain", seed=0)

The command line is `launch/sweep.py`; worlds are in the package `envs`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {"host_policy": "host", "load": "loading", "run": "api", "score": "api"}

__all__ = ["host_policy", "load", "run", "score"]


def __getattr__(name: str) -> Any:
    # Importing a submodule must not start JAX: a program may still have to set it up.
    if name in _HOMES:
        importlib.import_module("irl_bench.folders").cache()  # before Matplotlib looks for a folder of its own
        return getattr(importlib.import_module(f"irl_bench.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
