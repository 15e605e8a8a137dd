"""What the metrics of a world say of a run's policies, as `irl_bench.films.metrics` stored it
beside a run's films."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Mapping
from typing import cast

from irl_bench.storage import untrusted

LARGEST, MOST = 100_000, 40
"""The size above which a file is left out [bytes], and the number of policies or figures."""
ENDING = ".metrics.json"
"""Of a file, in place of the film's."""


def read(film: pathlib.Path) -> Mapping[str, Mapping[str, float | None]]:
    """Returns {policy: {name: value}}, None where physics broke; {} if the file beside a film is
    missing, too large or not of this form."""
    with contextlib.suppress(OSError, ValueError):
        value = untrusted.parsed(untrusted.content(film.with_suffix(ENDING), LARGEST))
        if _sound(value):
            return cast("Mapping[str, Mapping[str, float | None]]", value)
    return {}


def _figures(value: object) -> bool:
    """Whether a value is what is stored of one policy."""
    fits = untrusted.mapped(untrusted.optional(untrusted.number))(value)
    return fits and len(cast("dict[str, float | None]", value)) <= MOST


def _sound(value: object) -> bool:
    """Whether a value is what is stored of a world: of each policy the same figures."""
    if not untrusted.mapped(_figures)(value):
        return False
    rows = cast("dict[str, dict[str, float]]", value)
    return 0 < len(rows) <= MOST and len({tuple(row) for row in rows.values()}) == 1
