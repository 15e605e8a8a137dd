"""Finds the valid name that a misspelt one is closest to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest"]


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns the member of `names` whose spelling is closest to `name`, ignoring case.

    Returns "" if `names` is empty.
    """
    originals: dict[str, str] = {}
    for known in names:
        originals.setdefault(str(known).lower(), known)
    matches = difflib.get_close_matches(str(name).lower(), originals, 1, 0.0)
    return originals[matches[0]] if matches else ""
