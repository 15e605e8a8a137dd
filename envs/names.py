"""What a misspelt name was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest"]


def nearest(name: str, names: Iterable[str]) -> str:
    """The member of `names` that is spelt most like `name`, whatever the case; "" if there is
    none."""
    folded: dict[str, str] = {}
    for known in names:
        folded.setdefault(str(known).lower(), known)
    found = difflib.get_close_matches(str(name).lower(), folded, 1, 0.0)
    return folded[found[0]] if found else ""
