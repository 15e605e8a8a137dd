"""Disks that are full, read-only or without power."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from irl_bench.storage.files import StoreError
from irl_bench.storage.plans import read_plan
from irl_bench.tools.chaos.counts import Count
from irl_bench.tools.chaos.kills import places
from irl_bench.tools.chaos.victims import Stage, contents, last_line, one_line

SIZES = (600, 3_000, 20_000)
"""Sizes of the largest file that a nearly full disk takes [bytes]: no plan; no checkpoint; some
files of a checkpoint."""
TMPFS = ("64k", "256k", "512k")
"""Sizes of real disks that a run does not fit on."""


def full_disk(stage: Stage, size: int, seed: int = 0) -> Count:
    """A disk that is full from the n-th write on, for each n; and files that do not fit: one line,
    what was stored stays readable, and the same command ends once there is room.

    Args:
      stage: the sweep, and where it runs.
      size: how many of the writes are met, spread evenly.
      seed: where the even spread begins.
    """
    count, start = Count("full_disk"), time.monotonic()
    faults: list[dict[str, int]] = [{"full_at": at} for at in places(stage.changes, size, seed)]
    faults += [{"largest": limit} for limit in SIZES[: max(1, size // 4)]]
    for number, fault in enumerate(faults):
        out = stage.place / f"full-{number}"
        victim = stage.start(out, **fault)
        status = victim.end()
        _judge(stage, out, status, one_line(victim, [out]), last_line(victim.text()), count)
    if size >= 100:
        _real_disks(stage, count)
    count.seconds = time.monotonic() - start
    return count


def _judge(
    stage: Stage, out: Path, status: int, told: bool, last: str, count: Count, free: bool = True
) -> None:
    """Counts what came of a run that could not write, and ends it where it can.

    Args:
      stage: the sweep.
      out: the run's folder.
      status: the exit status of the run.
      told: whether it ended in one line that names its folder.
      last: its last line.
      count: what was counted so far.
      free: whether the run can be ended now.
    """
    count.tried += 1
    bad = len(count.notes)
    if status == 0:
        count.harmless += 1  # the write that failed is one that a run can do without
    elif told:
        count.refused += 1
    else:
        count.bad("wrong", f"status {status}: {last}")
    for name, content in contents(out).items():
        if content != stage.undisturbed[name]:
            count.bad("wrong", f"{name} has other bytes when the disk is full")
    try:
        read_plan(out)
    except StoreError as error:
        count.bad("wrong", str(error))
    if free:
        stage.finish(out, count)
        if len(count.notes) == bad:
            shutil.rmtree(out)


def _real_disks(stage: Stage, count: Count) -> None:
    """The same on small disks in memory, if this user may mount one."""
    for room in TMPFS:
        disk = stage.place / f"disk-{room}"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return
        try:
            out = disk / "run"
            victim = stage.start(out)
            status = victim.end()
            _judge(
                stage, out, status, one_line(victim, [out]), last_line(victim.text()), count, False
            )
            remount = ["mount", "-o", "remount,size=64m", str(disk)]
            subprocess.run(remount, capture_output=True, check=True)
            stage.finish(out, count)
        finally:
            subprocess.run(["umount", str(disk)], capture_output=True, check=False)


def read_only(stage: Stage, size: int, seed: int = 0) -> Count:
    """A folder that may not be written, before a run and in the middle of one: one line, nothing
    changes, and the same command ends once the folder may be written again.

    Args:
      stage: the sweep, and where it runs.
      size: number of runs.
      seed: at which change of its folder an earlier process was killed.
    """
    count, start, draw = Count("read_only"), time.monotonic(), random.Random(seed)
    most = stage.changes
    for number in range(size):
        out = stage.place / f"read-only-{number}"
        out.mkdir()
        if number % 2:
            stage.start(out, die_at=draw.randint(most // 4, most)).end()
        before = contents(out)
        _allow(out, stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
        victim = stage.start(out, powerless=True)
        status = victim.end()
        told, last = one_line(victim, [out]), last_line(victim.text())
        if contents(out) != before:
            count.bad("wrong", f"{out.name} has changed")
        _allow(out, stat.S_IRWXU)
        _judge(stage, out, status, told, last, count)
    count.seconds = time.monotonic() - start
    return count


def _allow(out: Path, mode: int) -> None:
    """Sets what may be done with a folder and those in it."""
    for folder in [out, *(path for path in out.rglob("*") if path.is_dir())]:
        folder.chmod(mode)


def power_cuts(stage: Stage, size: int, seed: int = 0) -> Count:
    """The power fails: files that were not flushed are empty, and names that were not flushed are
    gone or there, whatever came later. Then the same command ends the sweep.

    Each state of the disk is one that POSIX allows after a journal of a run: at a rename, of all
    that was not flushed either only the newest survives, or all of it, in the order that is worst.

    Args:
      stage: the sweep, and where it runs.
      size: how many states are met, spread evenly over all.
      seed: where the even spread begins.
    """
    count, start = Count("power_cuts"), time.monotonic()
    out, to = stage.place / "journalled", stage.place / "journal"
    victim = stage.start(out, journal=str(to))
    if victim.end():
        raise RuntimeError(f"a sweep with a journal fails:\n{victim.text()[-2000:]}")
    events = [json.loads(line) for line in (to / "journal").read_text().splitlines()]
    at = [index for index, event in enumerate(events) if event[0] == "rename"]
    states = [(index + 1, newest) for index in at for newest in (True, False)]
    for place in places(len(states), size, seed):
        end, newest = states[place - 1]
        cut = stage.place / f"cut-{place}"
        after_cut(events[:end], to, cut, newest)
        count.tried += 1
        bad = len(count.notes)
        stage.finish(cut, count)
        if len(count.notes) == bad:
            shutil.rmtree(cut)
    count.seconds = time.monotonic() - start
    return count


def after_cut(events: Sequence[Sequence[str]], copies: Path, out: Path, newest: bool) -> None:
    """Makes a folder as it may be after the power has failed.

    Args:
      events: a journal up to the failure, as `hooks.journal` writes it.
      copies: the folder of the journal, which holds the contents of renamed files.
      out: the folder that is made.
      newest: of the names that were not flushed, whether only the newest one is there; else all.
    """
    flushed: set[str] = set()
    there: dict[str, bytes] = {}
    pending: list[tuple[str, bytes | None]] = []
    new_folders: set[str] = set()
    for kind, path, *more in events:
        if kind == "open":
            flushed.discard(path)
        elif kind == "mkdir":
            new_folders.add(path)
        elif kind == "fsync":
            flushed.add(path)
            new_folders = {name for name in new_folders if _folder(name) != path}
            for name, content in (each for each in pending if _folder(each[0]) == path):
                _settle(there, name, content)
            pending = [each for each in pending if _folder(each[0]) != path]
        elif kind == "rename":
            target, copy = more
            content = (copies / copy).read_bytes()
            pending.append((target, content if path in flushed else b""))
        elif kind == "remove":
            pending.append((path, None))
    if newest:
        there = {name: there[name] for name in there if _folder(name) not in new_folders}
    for name, content in pending[-1:] if newest else pending:
        _settle(there, name, content)
    out.mkdir(parents=True)
    for name, content in there.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)


def _folder(name: str) -> str:
    """The folder of a file, as a journal names it."""
    return os.path.dirname(name) or "."  # noqa: PTH120 - names, not paths


def _settle(there: dict[str, bytes], name: str, content: bytes | None) -> None:
    """Puts a change of a folder on the disk."""
    if content is None:
        there.pop(name, None)
    else:
        there[name] = content
