"""Names: the options that many worlds share, and the valid name that a misspelt one is closest
to."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping

__all__ = ["HISTORY", "OBSERVED", "did_you_mean", "nearest"]

HISTORY: Mapping[str, tuple[str, ...]] = {
    "frames": ("1", "2", "4", "8"),
    "last_action": ("hidden", "visible"),
    "velocities": ("visible", "hidden"),
}
"""Options of a world that say what a policy sees of the past (`envs.history`), the default
first."""

OBSERVED = (*HISTORY, "view", "observation", "angle")
"""Options of worlds that say what an observation holds. The others say who acts, and how the world
moves."""

ALIKE = 0.6
"""The least similarity, of difflib, at which a name may be a misspelling of another one."""


def nearest(name: str, names: Iterable[str], least: float = 0.0) -> str:
    """Returns the member of `names` whose spelling is closest to `name`, ignoring case. A number is
    closest to the number that differs least, the smaller of two.

    Returns "" if `names` is empty or, by difflib's measure, none is as similar as `least`.
    """
    originals: dict[str, str] = {}
    for known in names:
        originals.setdefault(str(known).lower(), known)
    numbers = {known: value for known in originals if (value := _number(known)) is not None}
    number = _number(str(name))
    if numbers and number is not None:
        return originals[
            min(numbers, key=lambda known: (abs(numbers[known] - number), numbers[known]))
        ]
    matches = difflib.get_close_matches(str(name).lower(), originals, 1, least)
    return originals[matches[0]] if matches else ""


def _number(text: str) -> float | None:
    """The finite number that a text spells; None if it spells none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def is_file(value: object, ending: str) -> bool:
    """Whether an option's value is a file's name with an ending, such as ".csv"; never if the
    option takes none (""). Case does not count."""
    return bool(ending) and str(value).lower().endswith(ending)


def did_you_mean(name: str, names: Iterable[str], spelt: Callable[[str], str] = repr) -> str:
    """Returns how an error line about an unknown name ends: with the name that is probably meant
    or, where none is alike, with all of them.

    Args:
      name: the unknown name.
      names: the valid names.
      spelt: how the line spells a valid name.
    """
    known = list(names)
    if not known:
        return "there are none"
    near = nearest(name, known, ALIKE)
    return f"did you mean {spelt(near)}?" if near else f"known are {', '.join(map(spelt, known))}"
