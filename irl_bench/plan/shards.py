"""Parts of a plan, for several machines: a share of its cells, or single cells by their keys."""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from irl_bench.core.settings import BadInput

if TYPE_CHECKING:  # it imports JAX, which the texts of the commands do without
    from irl_bench.core.cell import CellSpec

UNKNOWN_SECONDS = 60.0
"""Taken for the time of a cell of which none is known, when cells are divided [s]."""
MOST = 100_000
"""Machines of a cluster, and devices of one, at most."""
_KEY = re.compile(r"[0-9a-f]{1,20}")


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


def parse_cluster(text: str) -> tuple[int, int]:
    """Returns (machines, devices of each) of the text MACHINESxDEVICES.

    Raises:
      BadInput: it is something else; one line with the nearest valid text.
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*[xX*]\s*(\d{1,9})\s*", text)
    if not match:
        raise BadInput(
            f"--cluster={text} must be MACHINESxDEVICES, such as 8 machines with 4 devices each; "
            "nearest: --cluster=8x4"
        )
    machines, devices = (int(part) for part in match.groups())
    near = "x".join(str(min(max(count, 1), MOST)) for count in (machines, devices))
    if near != f"{machines}x{devices}":
        raise BadInput(f"--cluster={text}: both are from 1 to {MOST}; nearest: --cluster={near}")
    return machines, devices


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


def share(
    cells: Mapping[str, CellSpec], seconds: Mapping[str, float | None], i: int, n: int
) -> list[CellSpec]:
    """Returns share i of n, counted from 1, as `shares` does."""
    return shares(cells, seconds, n)[i - 1]


def shares(
    cells: Mapping[str, CellSpec], seconds: Mapping[str, float | None], n: int
) -> list[list[CellSpec]]:
    """Returns n shares of a plan's cells, each in the plan's order. They have no cell in common,
    and together are the plan.

    Cells that share compiled functions stay together unless they are more than a share. Heavy
    groups are dealt out first, each to the share that has the least so far.

    Args:
      cells: {key: cell}, the same on every machine.
      seconds: {key: what the cell is expected to take [s]}, None where nothing is known; the same
        on every machine too.
      n: how many shares there are.
    """
    weights = {key: seconds[key] or UNKNOWN_SECONDS for key in cells}
    groups: dict[str, list[str]] = {}
    for key, cell in cells.items():
        groups.setdefault(cell.static_key(), []).append(key)
    whole = sum(weights.values()) / n
    pieces: list[list[str]] = []
    for keys in groups.values():
        count = min(len(keys), max(1, round(sum(weights[key] for key in keys) / whole)))
        ends = [len(keys) * piece // count for piece in range(count + 1)]
        pieces += [keys[start:end] for start, end in itertools.pairwise(ends)]
    weight = lambda piece: sum(weights[key] for key in piece)
    loads = [(0.0, place) for place in range(n)]
    owner: dict[str, int] = {}
    for piece in sorted(pieces, key=weight, reverse=True):
        load, place = heapq.heappop(loads)
        heapq.heappush(loads, (load + weight(piece), place))
        owner |= dict.fromkeys(piece, place)
    found: list[list[CellSpec]] = [[] for _ in range(n)]
    for key, cell in cells.items():
        found[owner[key]].append(cell)
    return found


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
