"""Where policies fail, as `irl_bench.films.failures` stored it beside a run's films."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from typing import Any, cast

import numpy as np

from irl_bench.storage import untrusted

LARGEST, MOST = 1_000_000, 4
"""The size above which a file is left out [bytes], and the number of policies."""
FURTHEST = 1e12
"""Numbers beyond this are no places."""


@dataclasses.dataclass(frozen=True)
class Where:
    """Where one policy fails in a world, and where it usually is."""

    env: str
    """Name of the world."""
    driver: str
    """Name of the policy."""
    axes: tuple[str, str]
    """What the two numbers of a place are, with their units."""
    failures: int
    """How many began."""
    steps: int
    """How many were driven, over all episodes."""
    before: np.ndarray
    """float[N, 2]: places before failures, at most some of them."""
    usual: np.ndarray
    """float[M, 2]: places along the episodes, off failures."""

    @property
    def title(self) -> str:
        """Of a plot."""
        return f"{self.env}: {self.driver}, {self.failures:,} failures in {self.steps:,} steps"


def read(path: pathlib.Path, env: str) -> list[Where]:
    """Returns what a file holds of a world's policies. A file that is missing, too large or not of
    this form is left out."""
    with contextlib.suppress(OSError, ValueError):
        value = untrusted.parsed(untrusted.content(path, LARGEST))
        if _sound(value):
            found = cast("dict[str, Any]", value)
            return [
                Where(
                    env,
                    driver,
                    tuple(found["axes"]),
                    row["failures"],
                    row["episodes"] * row["steps"],
                    *(np.asarray(row[name], float).reshape(-1, 2) for name in ("before", "usual")),
                )
                for driver, row in found["drivers"].items()
            ]
    return []


def _pair(value: Any) -> bool:
    """Whether a value is a place."""
    numbers = untrusted.listed(lambda x: untrusted.number(x) and abs(x) < FURTHEST)
    return numbers(value) and len(value) == 2


def _driver(value: Any) -> bool:
    """Whether a value is what is stored of one policy."""
    counts = dict.fromkeys(("failures", "episodes", "steps"), untrusted.whole())
    places = dict.fromkeys(("before", "usual"), untrusted.listed(_pair))
    return untrusted.fields(value, {**counts, **places}) is None


def _sound(value: Any) -> bool:
    """Whether a value is what is stored of a world."""
    form = {
        "axes": lambda axes: untrusted.listed(untrusted.text)(axes) and len(axes) == 2,
        "drivers": lambda drivers: (
            untrusted.mapped(_driver)(drivers)
            and len(drivers) <= MOST
            and all(untrusted.name(name) for name in drivers)
        ),
    }
    return untrusted.fields(value, form) is None
