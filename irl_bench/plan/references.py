"""The names of algorithms and worlds: registered ones, and `package.module:attribute` for
others."""

from __future__ import annotations

import re
from collections.abc import Mapping

import envs
from irl_bench.core.settings import nearest

NAME = re.compile(r"[A-Za-z0-9._-]+")
"""The form of a registered name."""
REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
"""The form of `package.module:attribute`."""
POLICY = "policy:"
"""Marks a policy among the algorithms: `policy:package.module:act`."""


def problem_with(ref: str, registry: Mapping[str, str], kind: str) -> str | None:
    """Returns what is wrong with a name, in one line.

    Returns None if the name is registered or has the form of an outside reference.

    Args:
      ref: the name.
      registry: `irl_bench.algos.ALGORITHMS` or `envs.WORLDS`.
      kind: "algorithm" or "world".
    """
    if kind == "world" and ref in envs.BROKEN:
        return envs.BROKEN[ref]
    if kind == "world" and ref.startswith(envs.PLAYGROUND):
        try:
            envs.kind(ref)
        except ValueError as error:
            return str(error)
        return None
    if ref in registry or REFERENCE.fullmatch(ref):
        return None
    if ":" in ref:
        return f"{ref!r} is not of the form package.module:attribute"
    return f"unknown {kind} {ref!r}; did you mean {nearest(ref, registry)!r}?"
