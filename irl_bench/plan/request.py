"""The request of a sweep, and the checks that need no algorithm and no world."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from irl_bench.core.settings import BadInput, nearest, whole
from irl_bench.plan.pilot import AUTO, FIRST_SEED, SEEDS, Pilot
from irl_bench.plan.presets import BUDGETS

LEAST = {
    "seeds": 1,
    "first_seed": 0,
    "seeds_at_once": 1,
    "demos": 1,
    "demo_steps": 1,
    "episodes": 1,
    "reference_episodes": 1,
    "T_max": 2,
    "burn_in": 0,
}
"""The smallest valid value of each number of a request."""


DEMONSTRATED = ("all", "clean")
"""Which of the expert's episodes are demonstrated: all, or only those without a failure."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The request of a sweep, one field per flag of `launch/sweep.py`.

    None stands for the preset of the world and the budget.
    """

    algo: Sequence[str] = ("bc", "dagger")
    """Names of algorithms."""
    env: Sequence[str] = ("chain", "lane_keep")
    """Names of worlds."""
    mode: Sequence[str] | None = None
    """Modes of the worlds; None: those that `presets.modes` returns."""
    seeds: int | None = None
    """Seeds per algorithm, world and mode."""
    first_seed: int = 0
    """The first seed."""
    seeds_at_once: int | None = None
    """Seeds that a device computes side by side."""
    budget: str = "default"
    """One of `presets.BUDGETS`."""
    horizons: Sequence[int] | str = "auto"
    """Increasing horizons T [steps] of the analysis, or "auto"."""
    demos: int | str | None = None
    """Demonstration episodes per seed; "auto": those that a pilot finds."""
    pilots: Mapping[str, Pilot] = dataclasses.field(default_factory=dict)
    """{world: what its pilot found}."""
    demo_steps: int | None = None
    """Length of a demonstration [steps]."""
    episodes: int | None = None
    """Evaluation episodes per seed."""
    reference_episodes: int | None = None
    """Evaluation episodes per seed of the expert, at most `episodes`."""
    T_max: int | None = None
    """Longest horizon [steps]; None: the world's."""
    demonstrations: str | None = None
    """"clean": only episodes without a failure are demonstrated; "all": any."""
    burn_in: int | None = None
    """Steps that the expert acts before every episode begins; None: those of the budget if
    `presets.imitates(algo)`, else 0."""
    demo_noise: float = 0.0
    """Standard deviation of the noise on executed actions in every second demonstration."""
    shown_steps: int = 0
    """First steps of each demonstration that are shown; 0: all."""
    given: str | None = None
    """File or folder of an earlier run from which algorithms take a policy, reward or
    comparisons."""
    demos_from: str | None = None
    """File or folder of demonstrations that replace those of the world's expert."""
    observation_only: bool = False
    """Whether the demonstrations' actions are withheld."""
    worlds_over_devices: bool = False
    """Whether the training worlds of each learner are spread over all devices."""
    settings: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """{algorithm or world: {setting or dial: value}}, by the short names that prefix their
    flags."""
    out: str = "runs/sweep"
    """Folder of the run."""
    tensorboard: bool = False
    """Whether to write TensorBoard files too."""
    shard: tuple[int, int] | None = None
    """(i, n): only share i of n of the cells is computed, counted from 1; None: all of them."""
    cells: Sequence[str] | None = None
    """Keys of the cells that are computed, or beginnings of keys; None: all of them."""


def checked(request: Request) -> Request:
    """Returns the request with Python numbers in place of NumPy's.

    Raises:
      BadInput: the budget is unknown, there is no world, a choice is not valid, or a number is no
        integer or too small; one line.
    """
    if request.demos == AUTO:
        raise BadInput(
            "demos='auto' is for a sweep, which runs a pilot first; nearest: a number, such as "
            "demos=50"
        )
    numbers = {
        name: whole(name, value, least)
        for name, least in LEAST.items()
        if (value := getattr(request, name)) is not None
    }
    request = dataclasses.replace(request, **numbers, horizons=whole_horizons(request.horizons))
    if request.budget not in BUDGETS:
        guess = nearest(request.budget, BUDGETS)
        raise BadInput(
            f"unknown budget {request.budget!r} ({' | '.join(BUDGETS)}); did you mean {guess!r}?"
        )
    noise = request.demo_noise
    if not isinstance(noise, int | float) or not 0 <= noise <= 2:
        raise BadInput(f"demo_noise={noise!r} must be a number in [0, 2]; nearest: 0.1")
    if request.demonstrations not in (None, *DEMONSTRATED):
        guess = nearest(str(request.demonstrations), DEMONSTRATED)
        raise BadInput(
            f"demonstrations={request.demonstrations!r} must be {' or '.join(DEMONSTRATED)}; did "
            f"you mean {guess!r}?"
        )
    if not request.env:
        raise BadInput("no world is given; nearest: env='lane_keep'")
    return request


def whole_horizons(horizons: Any) -> tuple[int, ...] | str:
    """Returns horizons as a tuple of integers, and text unchanged. Raises BadInput for anything
    else."""
    if isinstance(horizons, str):
        return horizons
    try:
        values = list(horizons)
    except TypeError:
        raise BadInput(
            f"horizons={horizons!r} must be 'auto' or increasing integers; nearest: 'auto'"
        ) from None
    return tuple(whole("horizons", value, 1) for value in values)


def check_horizons(horizons: Sequence[int] | str, env: str, top: int) -> None:
    """Raises BadInput unless `horizons` is "auto" or at least two increasing integers in 1..top.

    Args:
      horizons: the request's.
      env: the world's name.
      top: T_max [steps] in that world.
    """
    if isinstance(horizons, str):
        if horizons != "auto":
            raise BadInput(
                f"horizons={horizons!r} must be 'auto' or increasing integers; nearest: 'auto'"
            )
        return
    values = list(horizons)
    sane = sorted({min(max(int(value), 1), top) for value in values})
    text = ",".join(map(str, values[:12]))
    if len(sane) < 2:
        raise BadInput(
            f"horizons={text}: at least two different horizons in 1..{top} are needed for a slope; "
            "nearest: 'auto'"
        )
    if values != sane:
        near = ",".join(map(str, sane[:12]))
        raise BadInput(
            f"horizons={text} must be increasing and in 1..{top} ({env}'s longest); nearest: {near}"
        )


def check_first_seed(value: int, seeds: int, piloting: bool = False) -> int:
    """Returns `value` if it is valid as the first of `seeds` seeds.

    Args:
      value: the first seed.
      seeds: how many there are.
      piloting: whether they are a pilot's. All others must not meet a pilot's, which chose the
        number of demonstrations.

    Raises:
      BadInput: it is not; one line with the nearest valid first seed.
    """
    top = 2**31 - seeds
    if not 0 <= value <= top:
        raise BadInput(
            f"first_seed={value} must be in [0, {top}]; nearest: {0 if value < 0 else top}"
        )
    below, above = FIRST_SEED - seeds, FIRST_SEED + SEEDS
    if below < value < above and not piloting:
        valid = [near for near in (below, above) if 0 <= near <= top]
        raise BadInput(
            f"first_seed={value}: the seeds {value} to {value + seeds - 1} meet {FIRST_SEED} to "
            f"{above - 1}, which are those of --demos=auto's pilots; nearest: "
            f"{min(valid, key=lambda near: abs(near - value))}"
        )
    return value
