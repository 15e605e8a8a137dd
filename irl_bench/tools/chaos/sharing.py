"""Processes that share a folder, clocks that disagree, cells that are seen late, and a folder that
is moved."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from irl_bench.tools.chaos.counts import Count
from irl_bench.tools.chaos.victims import (
    Stage,
    contents,
    count_stored,
    last_line,
    one_line,
    resumed,
)

DAY = 86_400.0
"""How far a clock is set back [s]."""
LATE = 3.0
"""How long a cell is not seen after it was written [s]."""


MOMENTS = {"training": "stage training", "evaluating": "stage evaluating", "storing": "done "}
"""When a folder is moved -> the line that a process says before."""
Workers = Sequence[Mapping[str, Any]]
"""What disturbs each of the processes that share a folder."""
CLOCKS: Mapping[str, Workers] = {
    "alone": [{"clock": -DAY}],
    "beside another process": [{"clock": -DAY}, {}],
}


def two_workers(stage: Stage, size: int, seed: int = 0) -> Count:
    """Two processes on one folder, `size` times: each cell is stored once."""
    del seed
    return _together(stage, Count("two_workers"), size, {"": [{}, {}]})


def ten_workers(stage: Stage, size: int, seed: int = 0) -> Count:
    """Ten processes on one folder, `size` times: each cell is stored once."""
    del seed
    return _together(stage, Count("ten_workers"), size, {"": [{}] * 10})


def clock_set_back(stage: Stage, size: int, seed: int = 0) -> Count:
    """A process whose wall clock jumps back by a day and forth again, alone and beside another
    one in turn."""
    del seed
    return _together(stage, Count("clock_set_back"), size, CLOCKS)


def seen_late(stage: Stage, size: int, seed: int = 0) -> Count:
    """Two processes, one of which sees a cell only seconds after it was written, as through the
    cache of a network file system. It may compute the cell again, which leaves the same bytes."""
    del seed
    return _together(stage, Count("seen_late", doubled=None), size, {"": [{}, {"late": LATE}]})


def _together(stage: Stage, count: Count, size: int, kinds: Mapping[str, Workers]) -> Count:
    """Runs several processes at once on one folder, `size` times.

    Args:
      stage: the sweep, and where it runs.
      count: of the fault, which is returned.
      size: how often, of each kind in turn.
      kinds: {kind: what disturbs each process}.
    """
    start = time.monotonic()
    assert stage.undisturbed
    for number in range(size):
        kind, workers = [*kinds.items()][number % len(kinds)]
        out = stage.place / f"{count.fault}-{number}"
        gate = stage.place / f"{count.fault}-{number}-gate"
        victims = [stage.start(out, gate=gate, **disturbance) for disturbance in workers]
        for victim in victims:
            victim.await_line("ready")
        gate.touch()
        count.made(kind)
        bad = len(count.notes)
        for victim in victims:
            if victim.end():
                count.bad("wrong", f"a process fails: {last_line(victim.text())}")
        if len(workers) > 1:
            count.workers.append(sum(victim.stored > 0 for victim in victims))
        stage.compare(out, count)
        if len(count.notes) == bad:
            shutil.rmtree(out)
    count.seconds = time.monotonic() - start
    return count


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
        moment = [*MOMENTS][number % len(MOMENTS)]
        victim.await_line(MOMENTS[moment])
        time.sleep(draw.uniform(0.0, 0.2))
        old.rename(new)
        status = victim.end()
        count.made(moment)
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
        for folder in (old, new):
            count_stored(folder, count)
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
