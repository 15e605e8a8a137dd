"""irl_bench: does an imitation learner's regret grow like T² or like T?

    import irl_bench

    verdicts = irl_bench.run(algo="bc", env="chain", budget="smoke", out="runs/first")
    figures = irl_bench.score(my_policy, "lane_keep")

The command line is `launch/sweep.py`; worlds are in the package `envs`.
"""

from typing import Any

__version__ = "0.1.0"

__all__ = ["run", "score"]


def __getattr__(name: str) -> Any:
    # Importing a submodule must not start JAX: a program may still have to set it up.
    if name in __all__:
        from irl_bench import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
