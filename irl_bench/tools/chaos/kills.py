"""Processes that are killed or asked to stop: at random moments, in each phase, at each write."""

from __future__ import annotations

import math
import random
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from irl_bench.core.exits import INTERRUPTED
from irl_bench.tools.chaos.counts import Count
from irl_bench.tools.chaos.victims import (
    Stage,
    contents,
    last_line,
    resumed,
    sealed,
)

PHASES = ("compiling", "training", "evaluating", "measuring eps")
"""The phases of a cell, as a display is told of them."""
LATE = "not at a checkpoint in time"
"""What a process says that leaves in the middle of a long call."""
TERM_SECONDS = 10.0
"""How long a process may take to end after SIGTERM [s]."""


def random_kills(
    stage: Stage, size: int, seed: int = 0, at_once: int = 1, most_seconds: float = math.inf
) -> Count:
    """SIGKILL at random moments of a sweep, with restarts until it is done.

    Every second kill waits for a new checkpoint and comes up to 0.3 s after it; the others come up
    to 10 s after the process has begun. When a sweep is done, the next kills hit another run.

    Args:
      stage: the sweep, and where it runs.
      size: number of kills.
      seed: of the random moments.
      at_once: how many runs are disturbed side by side, each in a folder of its own.
      most_seconds: no process is killed after this time [s], and the runs end.
    """
    assert stage.undisturbed
    count, lock, start = Count("random_kills"), threading.Lock(), time.monotonic()
    left = [size]

    def one(worker: int) -> None:
        draw, run = random.Random(f"{seed} {worker}"), 0
        while True:
            out = stage.place / f"killed-{worker}-{run}"
            while True:
                with lock:
                    if time.monotonic() - start > most_seconds:
                        left[0] = 0
                    if not left[0]:
                        break
                    left[0] -= 1
                    number = left[0]
                killed, met, went_on = _kill(stage, out, draw, number % 2 == 0)
                with lock:
                    count.tried += killed
                    count.after_checkpoint += killed and met
                    count.resumed += went_on
                    left[0] += not killed  # it ended before its time, and nothing was killed
                if not killed:
                    break
            with lock:
                ended = not left[0]
            if out.exists():
                victim = stage.start(out)
                status = victim.end()
                with lock:
                    count.resumed += resumed(victim.text())
                    if status:
                        count.bad("wrong", f"it does not end: {last_line(victim.text())}")
                    else:
                        stage.compare(out, count)
                shutil.rmtree(out)
            run += 1
            if ended:
                return

    with ThreadPoolExecutor(at_once) as pool:
        for done in [pool.submit(one, worker) for worker in range(at_once)]:
            done.result()
    count.seconds = time.monotonic() - start
    return count


def _kill(stage: Stage, out: Path, draw: random.Random, waits: bool) -> tuple[bool, bool, int]:
    """Starts the sweep and kills it. Returns whether it was killed, whether there was a checkpoint
    then, and how many cells had gone on from one."""
    before, victim = sealed(out), stage.start(out)
    if waits:
        while victim.alive and not sealed(out) - before:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.3))
    else:
        victim.process.join(draw.uniform(0.0, 10.0))
    met = bool(sealed(out))
    return victim.kill(), met, resumed(victim.text())


def phase_kills(stage: Stage, size: int, seed: int = 0) -> Count:
    """SIGKILL in each phase in turn, up to 0.1 s after it has begun; then the sweep ends.

    Args:
      stage: the sweep, and where it runs.
      size: number of kills, which the phases share.
      seed: of the random moments.
    """
    count, draw, start = Count("phase_kills"), random.Random(seed), time.monotonic()
    assert stage.undisturbed
    for number in range(size):
        out = stage.place / f"phase-{number}"
        phase = PHASES[number % len(PHASES)]
        victim = stage.start(out, pause=0.1)
        if victim.await_line(f"stage {phase}"):
            time.sleep(draw.uniform(0.0, 0.1))
        count.after_checkpoint += bool(sealed(out))
        if victim.kill():
            count.tried += 1
        _finish(stage, out, count)
    count.seconds = time.monotonic() - start
    return count


def _finish(stage: Stage, out: Path, count: Count) -> None:
    """Runs a killed sweep to its end, counts what came of it, and removes the folder if all is
    well."""
    bad = len(count.notes)
    count.resumed += stage.finish(out, count)
    if len(count.notes) == bad:
        shutil.rmtree(out)


def write_kills(stage: Stage, size: int, seed: int = 0) -> Count:
    """SIGKILL exactly before a change of the run's folder: a file that is opened, flushed, renamed
    or removed.

    Args:
      stage: the sweep, and where it runs.
      size: number of kills, spread evenly over all changes; each one is met if there are no more.
      seed: where the even spread begins.
    """
    count, start = Count("write_kills"), time.monotonic()
    for at in places(stage.changes, size, seed):
        out = stage.place / f"write-{at}"
        victim = stage.start(out, die_at=at)
        if victim.end() == -signal.SIGKILL:
            count.tried += 1
            count.after_checkpoint += bool(sealed(out))
        _finish(stage, out, count)
    count.seconds = time.monotonic() - start
    return count


def places(most: int, size: int, seed: int = 0) -> Sequence[int]:
    """Returns up to `size` numbers of 1..most, spread evenly; other ones for another seed."""
    step = max(1.0, most / max(size, 1))
    offset = random.Random(seed).uniform(0.0, step)
    return sorted({min(most, 1 + int(offset + step * index)) for index in range(min(size, most))})


def terminations(stage: Stage, size: int, seed: int = 0) -> Count:
    """SIGTERM in each phase, twice within a second: gone within 10 s with the status that says
    "resume me", and with a checkpoint where there was something to store.

    Args:
      stage: the sweep, and where it runs.
      size: number of processes that are asked to stop, which the phases share.
      seed: of the random moments.
    """
    count, draw, start = Count("terminations"), random.Random(seed), time.monotonic()
    assert stage.undisturbed
    for number in range(size):
        out = stage.place / f"terminated-{number}"
        phase = PHASES[number % len(PHASES)]
        victim = stage.start(out, pause=0.3)
        # At the second call of a phase there is something to store.
        if phase == "training":
            victim.await_line(f"stage {phase}")
        if not victim.await_line(f"stage {phase}"):
            count.bad("wrong", f"{phase} does not begin: {last_line(victim.text())}")
            continue
        time.sleep(draw.uniform(0.0, 0.2))
        asked = time.monotonic()
        victim.send(signal.SIGTERM)
        time.sleep(draw.uniform(0.05, 0.9))
        victim.send(signal.SIGTERM)
        status = victim.end(4 * TERM_SECONDS)
        took = time.monotonic() - asked
        count.tried += 1
        if took > TERM_SECONDS:
            count.bad("wrong", f"SIGTERM in {phase}: gone after {took:.1f} s")
        if status == 0 and contents(out) == stage.undisturbed:
            pass  # it was writing its last result
        elif status != INTERRUPTED or "run the same command to resume" not in victim.text():
            count.bad("wrong", f"SIGTERM in {phase}: status {status}, {last_line(victim.text())}")
        elif phase == "training" and not sealed(out) and LATE not in victim.text():
            count.bad("lost", f"SIGTERM in {phase} left no checkpoint")
        count.after_checkpoint += bool(sealed(out))
        _finish(stage, out, count)
    count.seconds = time.monotonic() - start
    return count
