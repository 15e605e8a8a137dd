"""What learned rewards see of a failure: hidden by default, seen where a study compares the two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.studies.study import ARMS, refuse

FLAG_HIDDEN = (
    "Where an observation shows a failure directly (`World.failure_flags`), no learned reward sees "
    "that entry, but where a row or column says `flag seen`. The policy sees it either way."
)
"""What rewards were learned from, for readers who compare scores."""
UNMASKED: Mapping[str, Any] = {"mask_failure": False}
"""Settings of a learner whose reward sees the failure flag."""


def check_arms(request: Request, study: str, algos: Iterable[str]) -> None:
    """Raises BadInput if a request turns one of a study's learners into another, which would stand
    under its name in the tables; one line."""
    names = [registry.algorithm(algo).name for algo in algos]
    why = "shows learners by their names, and this makes another one of it"
    refuse(request, study, dict.fromkeys(names, ARMS), why)


def learns_reward(algo: str) -> bool:
    """Returns whether an algorithm learns a reward from which failure flags can be hidden."""
    return "mask_failure" in registry.algorithm(algo).settings


def flag_seen(request: Request, algos: Sequence[str]) -> dict[str, Any]:
    """Returns the settings of a request with the failure flag seen by the rewards of `algos`."""
    names = [registry.algorithm(algo).name for algo in algos]
    return {
        **request.settings,
        **{name: {**request.settings.get(name, {}), **UNMASKED} for name in names},
    }
