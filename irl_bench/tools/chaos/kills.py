"""Processes that are killed or asked to stop: at random moments, in each phase, at each write."""

from __future__ import annotations

import math
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from irl_bench.core.exits import INTERRUPTED
from irl_bench.tools.chaos.counts import Count
from irl_bench.tools.chaos.victims import (
    UNTIMED,
    Alarm,
    Stage,
    Victim,
    contents,
    last_line,
    resumed,
    sealed,
    stage_of,
)

PHASES = ("compiling", "training", "evaluating", "measuring eps")
"""The phases of a cell, as a display is told of them."""
BETWEEN = "other"
"""Any other moment."""
TRIES = 3
"""How many faults are made at most for each one that is to come in a certain phase."""
ASKED = "SIGTERM: stopping"
"""What a process says that is asked to stop."""
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
    """SIGKILL in each phase in turn, at a random moment of the time that its calls take; then the
    sweep ends. A checkpoint is written after each call.

    Args:
      stage: the sweep, and where it runs.
      size: number of kills, which the phases share.
      seed: of the random moments.
    """
    count, draw, start = Count("phase_kills"), random.Random(seed), time.monotonic()
    for number, (phase, part) in enumerate(_phases(size, count)):
        out = stage.place / f"phase-{number}"
        alarm = _moment(stage, phase, part, draw, signal.SIGKILL)
        victim = stage.start(out, checkpoint_seconds=0.0, alarm=alarm)
        if victim.end() == -signal.SIGKILL:
            count.made(stage_of(victim.text()) or BETWEEN)
            count.after_checkpoint += bool(sealed(out))
        _finish(stage, out, count)
    count.seconds = time.monotonic() - start
    return count


def _phases(size: int, count: Count) -> Iterator[tuple[str, float]]:
    """Yields the phase of the next fault, until each phase has its share of `size` in what was
    counted, and the part of a call in which it is to come. A call may be shorter than in the run
    that was timed, and then the fault comes in another phase: the next one comes earlier."""
    missed: Counter[str] = Counter()
    share = Counter(PHASES[number % len(PHASES)] for number in range(size))
    for _ in range(TRIES * size):
        left = [phase for phase in PHASES if count.kinds.get(phase, 0) < share[phase]]
        if not left:
            return
        phase, made = left[0], count.kinds.get(left[0], 0)
        yield phase, 0.5 ** missed[phase]
        missed[phase] += count.kinds.get(phase, 0) == made


def _moment(stage: Stage, phase: str, part: float, draw: random.Random, number: int) -> Alarm:
    """A signal at a random moment of the time that the calls of a phase take together, in the first
    `part` of a call."""
    calls = stage.calls[phase]
    (call,) = draw.choices(range(len(calls)), calls)
    return Alarm(phase, call, part * draw.uniform(0.0, calls[call]), number)


def _finish(stage: Stage, out: Path, count: Count) -> None:
    """Runs a killed sweep to its end, counts what came of it, and removes the folder if all is
    well."""
    bad = len(count.notes)
    count.resumed += stage.finish(out, count)
    if len(count.notes) == bad:
        shutil.rmtree(out)


def write_kills(stage: Stage, size: int, seed: int = 0) -> Count:
    """SIGKILL exactly before a change of the run's folder: a file that is opened, flushed, renamed
    or removed, a folder that is made or removed.

    Args:
      stage: the sweep, and where it runs.
      size: number of kills, which the kinds of changes share as far as there are so many. Those of
        a kind are spread evenly over a run.
      seed: where the even spread begins.
    """
    count, start = Count("write_kills"), time.monotonic()
    for kind, at in _changes(stage.changes, size, seed):
        while at and not _kill_at(stage, kind, at, count):
            at = 3 * at // 4  # this run has written fewer checkpoints, and so fewer changes
    count.seconds = time.monotonic() - start
    return count


def _kill_at(stage: Stage, kind: str, at: int, count: Count) -> bool:
    """Kills a run before a change, counts what comes of it, and returns whether it came to that."""
    out = stage.place / f"write-{kind}-{at}"
    victim = stage.start(out, die_at=at, die_before=kind)
    struck = victim.end() == -signal.SIGKILL
    if struck:
        count.made(victim.struck)
        count.after_checkpoint += bool(sealed(out))
    _finish(stage, out, count)
    return struck


def _changes(changes: Sequence[str], size: int, seed: int) -> Iterator[tuple[str, int]]:
    """Yields (kind, number of the change among those of its kind) of up to `size` changes."""
    counts = Counter(changes)
    rarest = sorted(counts, key=lambda kind: (counts[kind], kind))
    for index, kind in enumerate(rarest):
        share = min(counts[kind], size // (len(rarest) - index))
        size -= share
        yield from ((kind, at) for at in places(counts[kind], share, seed))


def places(most: int, size: int, seed: int = 0) -> Sequence[int]:
    """Returns up to `size` numbers of 1..most, spread evenly; other ones for another seed."""
    step = max(1.0, most / max(size, 1))
    offset = random.Random(seed).uniform(0.0, step)
    return sorted({min(most, 1 + int(offset + step * index)) for index in range(min(size, most))})


def terminations(stage: Stage, size: int, seed: int = 0) -> Count:
    """SIGTERM in each phase, at a random moment of the time that its calls take, and again within a
    second: gone within 10 s with the status that says "resume me", and with a checkpoint where
    there was something to store. No other checkpoint is written.

    Args:
      stage: the sweep, and where it runs.
      size: number of processes that are asked to stop, which the phases share.
      seed: of the random moments.
    """
    count, draw, start = Count("terminations"), random.Random(seed), time.monotonic()
    for number, (phase, part) in enumerate(_phases(size, count)):
        out = stage.place / f"terminated-{number}"
        alarm = _moment(stage, phase, part, draw, signal.SIGTERM)
        victim = stage.start(out, checkpoint_seconds=UNTIMED, alarm=alarm)
        if victim.await_line(ASKED):
            asked = time.monotonic()
            time.sleep(draw.uniform(0.0, 0.9))
            victim.send(signal.SIGTERM)
            victim.end(4 * TERM_SECONDS)
            _terminated(stage, out, victim, time.monotonic() - asked, count)
        victim.end()
        _finish(stage, out, count)
    count.seconds = time.monotonic() - start
    return count


def _terminated(stage: Stage, out: Path, victim: Victim, took: float, count: Count) -> None:
    """Counts what came of a process that was asked to stop.

    Args:
      stage: the sweep.
      out: the run's folder.
      victim: the process, which has ended.
      took: how long that took [s].
      count: what was counted so far.
    """
    before, _, after = victim.text().partition(ASKED)
    phase = stage_of(before) or BETWEEN
    count.made(phase)
    count.after_checkpoint += bool(sealed(out))
    if took > TERM_SECONDS:
        count.bad("wrong", f"SIGTERM in {phase}: gone after {took:.1f} s")
    if victim.status == 0 and contents(out) == stage.undisturbed:
        return  # it was writing its last result
    if victim.status != INTERRUPTED or "run the same command to resume" not in after:
        count.bad(
            "wrong", f"SIGTERM in {phase}: status {victim.status}, {last_line(victim.text())}"
        )
    elif phase in PHASES[1:] and not sealed(out) and "\ndone " not in after:
        count.bad("lost", f"SIGTERM in {phase} left no checkpoint")
