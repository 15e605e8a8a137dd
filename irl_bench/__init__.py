"""irl_bench: does an imitation learner's regret grow like T² or like T?

    import irl_bench

    verdicts = irl_bench.run(algo="bc", env="chain", budget="smoke", out="runs/first")
    figures = irl_bench.score(my_policy, "lane_keep")
    policy = irl_bench.load("runs/first", "bc", "chain", seed=0)

The command line is `irl-bench` or `python -m irl_bench`, in the repository also `launch/sweep.py`;
worlds are in the package `envs`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irl_bench.api import run, score
    from irl_bench.core.learner import Consumes, Learner
    from irl_bench.core.settings import BadInput, setting
    from irl_bench.core.types import Demonstrations, Spec, Task
    from irl_bench.loading import load
    from irl_bench.plan.host import host_policy

__version__ = "0.2.0"

_HOMES = {
    "BadInput": "core.settings",
    "Consumes": "core.learner",
    "Demonstrations": "core.types",
    "Learner": "core.learner",
    "Spec": "core.types",
    "Task": "core.types",
    "host_policy": "plan.host",
    "load": "loading",
    "run": "api",
    "score": "api",
    "setting": "core.settings",
}
"""public name -> the module it lives in. It is imported when the name is first used: `import
irl_bench` stays quick."""

__all__ = [
    "BadInput",
    "Consumes",
    "Demonstrations",
    "Learner",
    "Spec",
    "Task",
    "host_policy",
    "load",
    "run",
    "score",
    "setting",
]


def __getattr__(name: str) -> Any:
    # Importing a submodule must not start JAX: a program may still have to set it up.
    if name in _HOMES:
        importlib.import_module(
            "irl_bench.core.folders"
        ).cache()  # before Matplotlib looks for a folder of its own
        return getattr(importlib.import_module(f"irl_bench.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
