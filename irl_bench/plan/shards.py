"""Parts of a plan, for several machines: a share of its cells, or single cells by their keys."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from irl_bench.core.settings import BadInput
from irl_bench.plan.presets import SECONDS

if TYPE_CHECKING:  # it imports JAX, which the texts of the commands do without
    from irl_bench.core.cell import CellSpec

UNKNOWN_SECONDS = 60.0
"""Taken for the time of a cell of which none is known, when cells are divided [s]."""
_KEY = re.compile(r"[0-9a-f]{1,20}")


def seconds_of(env: str, algo: str, episodes: int) -> float | None:
    """Returns the time that a cell takes on two CPU cores [s], in proportion to its evaluation
    episodes; None if no such cell was ever timed."""
    # Compilation is not in it.
    stored = SECONDS.get((env, algo))
    return stored and stored[0] * episodes / stored[1]


def parse_shard(text: str) -> tuple[int, int]:
    """Returns (i, n) of the text i/n, which means share i of n, counted from 1.

    Raises:
      BadInput: it is something else; one line with the nearest valid share.
    """
    match = re.fullmatch(r"\s*(-?\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    if not match:
        raise BadInput(f"--shard={text} must be i/n with 1 <= i <= n; nearest: --shard=1/2")
    i, n = int(match[1]), int(match[2])
    if not 1 <= i <= n:
        near = min(max(i, 1), max(n, 1))
        raise BadInput(
            f"--shard={text}: shares are counted from 1 to n; nearest: --shard={near}/{max(n, 1)}"
        )
    return i, n


def parse_keys(text: str) -> tuple[str, ...]:
    """Returns keys, or beginnings of keys, that are separated by commas.

    Raises:
      BadInput: one of them cannot be a key.
    """
    keys = tuple(part.strip() for part in text.split(","))
    for key in keys:
        if not _KEY.fullmatch(key):
            raise BadInput(
                f"--cells={text}: {key!r} is no key of a cell (up to 20 digits 0-9, a-f); nearest: "
                "one that irl-bench status RUN --cells prints"
            )
    return keys


def share(cells: Mapping[str, CellSpec], i: int, n: int) -> list[CellSpec]:
    """Returns share i of n of a plan's cells, in the plan's order. The shares have no cell in
    common, and together are the plan.

    Cells that share compiled functions stay together unless they are more than a share. Heavy
    groups are dealt out first, each to the share that has the least so far.

    Args:
      cells: {key: cell}, the same on every machine.
      i: the share, from 1.
      n: how many shares there are.
    """
    seconds = {
        key: seconds_of(cell.env, cell.algo, cell.episodes) or UNKNOWN_SECONDS
        for key, cell in cells.items()
    }
    groups: dict[str, list[str]] = {}
    for key, cell in cells.items():
        groups.setdefault(cell.static_key(), []).append(key)
    whole = sum(seconds.values()) / n
    pieces: list[list[str]] = []
    for keys in groups.values():
        count = min(len(keys), max(1, round(sum(seconds[key] for key in keys) / whole)))
        ends = [len(keys) * piece // count for piece in range(count + 1)]
        pieces += [keys[start:end] for start, end in itertools.pairwise(ends)]
    weight = lambda piece: sum(seconds[key] for key in piece)
    loads, ours = [0.0] * n, set[str]()
    for piece in sorted(pieces, key=weight, reverse=True):
        place = loads.index(min(loads))
        loads[place] += weight(piece)
        if place == i - 1:
            ours.update(piece)
    return [cell for key, cell in cells.items() if key in ours]


def named(cells: Mapping[str, CellSpec], keys: Sequence[str]) -> list[CellSpec]:
    """Returns the cells with these keys, in the plan's order.

    Args:
      cells: {key: cell}.
      keys: keys, or beginnings that one key alone has.

    Raises:
      BadInput: no cell or several have such a key.
    """
    ours: set[str] = set()
    for start in keys:
        found = [key for key in cells if key.startswith(start)]
        if len(found) != 1:
            if found:
                how, near = f"{len(found)} cells begin with it", found[0]
            else:
                how = "this plan has no such cell (keys depend on the number of devices too)"
                near = "one that irl-bench status RUN --cells prints"
            raise BadInput(f"--cells: {start}: {how}; nearest: {near}")
        ours.add(found[0])
    return [cell for key, cell in cells.items() if key in ours]
