"""Processes that share a folder, clocks that disagree, cells that are seen late, and a folder that
is moved."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Mapping
from typing import Any

from irl_bench.tools.chaos.counts import Count
from irl_bench.tools.chaos.victims import Stage, contents, last_line, one_line, resumed

DAY = 86_400.0
"""How far a clock is set back [s]."""
LATE = 3.0
"""How long a cell is not seen after it was written [s]."""


def two_workers(stage: Stage, size: int, seed: int = 0) -> Count:
    """Two processes on one folder, `size` times: each cell is stored once."""
    del seed
    return _together(stage, "two_workers", size, [{}, {}])


def ten_workers(stage: Stage, size: int, seed: int = 0) -> Count:
    """Ten processes on one folder, `size` times: each cell is stored once."""
    del seed
    return _together(stage, "ten_workers", size, [{}] * 10)


def clock_set_back(stage: Stage, size: int, seed: int = 0) -> Count:
    """A process whose wall clock jumps back by a day and forth again, alone and beside another
    one."""
    del seed
    count = _together(stage, "clock_set_back", (size + 1) // 2, [{"clock": -DAY}, {}])
    alone = _together(stage, "clock_set_back", size // 2, [{"clock": -DAY}])
    return _sum(count, alone)


def seen_late(stage: Stage, size: int, seed: int = 0) -> Count:
    """Two processes, one of which sees a cell only seconds after it was written, as through the
    cache of a network file system. It may compute the cell again, which leaves the same bytes."""
    del seed
    return _together(stage, "seen_late", size, [{}, {"late": LATE}], twice=True)


def _together(
    stage: Stage, fault: str, size: int, workers: list[dict[str, Any]], twice: bool = False
) -> Count:
    """Runs several processes at once on one folder, `size` times.

    Args:
      stage: the sweep, and where it runs.
      fault: the name of the fault.
      size: how often.
      workers: what disturbs each of them.
      twice: whether a cell may be computed twice.
    """
    count, start = Count(fault), time.monotonic()
    assert stage.undisturbed
    for number in range(size):
        out = stage.place / f"{fault}-{len(workers)}-{number}"
        victims = [stage.start(out, **disturbance) for disturbance in workers]
        count.tried += 1
        bad = len(count.notes)
        for victim in victims:
            if victim.end():
                count.bad("wrong", f"a process fails: {last_line(victim.text())}")
        stage.compare(out, count, twice)
        if len(count.notes) == bad:
            shutil.rmtree(out)
    count.seconds = time.monotonic() - start
    return count


def _sum(one: Count, other: Count) -> Count:
    """Both counts as one."""
    for name in ("tried", "resumed", "refused", "lost", "doubled", "wrong", "seconds", "notes"):
        setattr(one, name, getattr(one, name) + getattr(other, name))
    return one


def moved(stage: Stage, size: int, seed: int = 0) -> Count:
    """The run's folder is moved away while a process computes. It ends in one line, or computes the
    rest where the folder was; the same command in the folder's new place completes it. What lies in
    the old place is whole too.

    Args:
      stage: the sweep, and where it runs.
      size: how often.
      seed: of the moments.
    """
    count, draw, start = Count("moved"), random.Random(seed), time.monotonic()
    assert stage.undisturbed
    for number in range(size):
        old, new = stage.place / f"moved-{number}", stage.place / f"moved-{number}-away"
        victim = stage.start(old, pause=0.1)
        victim.await_line(("stage training", "stage evaluating", "done ")[number % 3])
        time.sleep(draw.uniform(0.0, 0.2))
        old.rename(new)
        status = victim.end()
        count.tried += 1
        bad = len(count.notes)
        if status and one_line(victim, [old]):
            count.refused += 1
        elif status:
            count.bad("wrong", f"status {status}: {last_line(victim.text())}")
        _same(stage.undisturbed, contents(old), count)
        _same(stage.undisturbed, contents(new), count)
        again = stage.start(new)
        if again.end():
            count.bad("wrong", f"it does not end after the move: {last_line(again.text())}")
        count.resumed += resumed(again.text())
        _same(stage.undisturbed, contents(new), count)
        for name in sorted(stage.undisturbed.keys() - contents(new).keys()):
            count.bad("lost", f"{name} is not there after the move")
        if len(count.notes) == bad:
            shutil.rmtree(new)
            shutil.rmtree(old, ignore_errors=True)
    count.seconds = time.monotonic() - start
    return count


def _same(wanted: Mapping[str, bytes], got: Mapping[str, bytes], count: Count) -> None:
    """Counts results with other bytes."""
    for name, content in got.items():
        if content != wanted.get(name):
            count.bad("wrong", f"{name} has other bytes")
