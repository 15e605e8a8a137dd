"""How a worker shares cells with others: claim, compute, claim again, and wait for what others
compute. It knows nothing of how a cell is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from irl_bench.core.cell import CellSpec
from irl_bench.running.leases import Leases, described
from irl_bench.running.process import Interrupted
from irl_bench.running.session import Session

WAIT = 1.0
"""Time between two looks at the cells that other workers compute [s]."""

Compute = Callable[[Mapping[str, CellSpec]], None]
"""Computes and stores cells, by their keys."""


def share(
    session: Session,
    leases: Leases,
    groups: Sequence[Mapping[str, CellSpec]],
    at_once: Callable[[CellSpec], int],
    computing: Callable[[Mapping[str, CellSpec]], AbstractContextManager[Compute]],
) -> None:
    """Computes groups of cells, and waits until those that other workers compute are stored.

    Args:
      session: of the run.
      leases: the worker's claims.
      groups: cells that are not stored, by their keys; those of a group share a program.
      at_once: how many cells like this one are computed together.
      computing: takes a group, and gives what computes cells of it.

    Raises:
      Interrupted: the run was asked to stop.
      StoreError: the folder or the object store cannot be used.
    """
    told: set[str] = set()
    left = [dict(cells) for cells in groups]
    labels = [{key: cell.label for key, cell in cells.items()} for cells in groups]
    for names in labels:
        leases.turn(names)
    while any(left):
        count = sum(map(len, left))
        for cells, names in zip(left, labels, strict=True):
            _compute_alike(session, leases, cells, names, at_once, computing)
        if count == sum(map(len, left)):  # all of them are other workers'
            for lease in leases.holders(left):
                who = described(lease)
                if who not in told:
                    told.add(who)
                    session.display.note(f"waiting for cells that {who} computes")
            if session.stop.wait(WAIT):
                raise Interrupted


def _compute_alike(
    session: Session,
    leases: Leases,
    left: dict[str, CellSpec],
    labels: dict[str, str],
    at_once: Callable[[CellSpec], int],
    computing: Callable[[Mapping[str, CellSpec]], AbstractContextManager[Compute]],
) -> None:
    """Computes cells of a group until nothing can be claimed. What is stored is removed from `left`
    and its `labels`."""
    if not left:
        return
    most = at_once(next(iter(left.values())))
    with computing(left) as compute:
        while left:
            claimed = leases.claim(labels, most)
            # A worker may have finished a cell before this one claimed it.
            stored = leases.stored(left)
            for key in stored:
                session.display.cell_done(labels.pop(key), "stored by another worker")
                session.summary.present.append(key)
                del left[key]
            if stored:  # it has come to where another one works, and goes on elsewhere
                leases.turn(labels)
            ours = {key: left[key] for key in claimed if key in left}
            leases.release(set(claimed) - ours.keys())
            if not claimed:
                break
            if not ours:
                continue
            if session.stop.is_set():
                raise Interrupted
            compute(ours)
            leases.release(ours)
            for key in ours:
                del left[key], labels[key]
