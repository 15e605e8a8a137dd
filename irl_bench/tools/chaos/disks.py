"""Disks that are full, read-only or without power."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from irl_bench.storage.files import StoreError
from irl_bench.storage.plans import read_plan
from irl_bench.tools.chaos.counts import Count
from irl_bench.tools.chaos.hooks import WRITES
from irl_bench.tools.chaos.kills import places
from irl_bench.tools.chaos.victims import Stage, Victim, contents, last_line, one_line

SIZES = (600, 4_000, 10_000)
"""Sizes of the largest file that a nearly full disk takes [bytes]: no plan; some files of a
checkpoint; no cell. They are those of the suite's small sweep, as are TMPFS."""
TMPFS = ("32k", "64k", "128k")
"""Sizes of real disks that a run does not fit on."""


FULL = ("from a write on", *(f"files up to {size:,} bytes" for size in SIZES))
"""Kinds of full disks that every user can make."""
NEVER = ("empty folder", "folder of a killed run")
"""Kinds of folders that may not be written."""
RENAMED = {
    "seals": "a checkpoint's seal",
    "cells": "a cell",
    "learned": "what a cell has learned",
    "checkpoints": "a checkpoint's arrays",
    "log.jsonl": "the log",
    "leases": "a lease",
    "plan.json": "the plan",
}
"""What is the last to change before the power fails."""
CUTS = ("all names", "only the newest name")
"""What is left of the names that were not flushed."""


def full_disk(stage: Stage, size: int, seed: int = 0) -> Count:
    """A disk that is full from the n-th write on, for each n; files that do not fit; and disks in
    memory that are too small, if this user may mount one: one line, what was stored stays readable,
    and the same command ends once there is room.

    Args:
      stage: the sweep, and where it runs.
      size: how often, in all: once for each limit and each disk, and at least one write.
      seed: where the even spread over the writes begins.
    """
    count, start = Count("full_disk"), time.monotonic()
    most = sum(event in WRITES for event in stage.changes)
    met = places(most, max(1, size - len(SIZES) - len(TMPFS)), seed)
    faults: list[tuple[str, dict[str, Any]]] = [(FULL[0], {"full_at": at}) for at in met]
    faults += [(kind, {"largest": limit}) for kind, limit in zip(FULL[1:], SIZES, strict=True)]
    for number, (kind, fault) in enumerate(faults):
        out = stage.place / f"full-{number}"
        victim = stage.start(out, **fault)
        victim.end()
        if victim.struck:
            _judge(stage, out, victim, kind, count)
        _end(stage, out, count)
    for room in TMPFS:
        _real_disk(stage, room, count)
    count.seconds = time.monotonic() - start
    return count


def _judge(stage: Stage, out: Path, victim: Victim, kind: str, count: Count) -> None:
    """Counts what came of a run that could not write.

    Args:
      stage: the sweep.
      out: the run's folder.
      victim: the process, which has ended.
      kind: of the fault.
      count: what was counted so far.
    """
    count.made(kind)
    if victim.status == 0:
        count.harmless += 1  # the write that failed is one that a run can do without
    elif one_line(victim, [out]):
        count.refused += 1
    else:
        count.bad("wrong", f"{kind}: status {victim.status}: {last_line(victim.text())}")
    for name, content in contents(out).items():
        if content != stage.undisturbed[name]:
            count.bad("wrong", f"{kind}: {name} has other bytes")
    try:
        read_plan(out)
    except StoreError as error:
        count.bad("wrong", str(error))


def _end(stage: Stage, out: Path, count: Count) -> None:
    """Ends a run that can be written again, and removes the folder if nothing was bad so far."""
    stage.finish(out, count)
    if not count.notes:
        shutil.rmtree(out)


def _real_disk(stage: Stage, room: str, count: Count) -> None:
    """A disk in memory that a run does not fit on, if this user may mount one."""
    disk = stage.place / f"disk-{room}"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return
    try:
        out = disk / "run"
        victim = stage.start(out)
        if victim.end():
            _judge(stage, out, victim, f"disk of {room}", count)
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
      size: number of runs, of each kind in turn.
      seed: at which renaming of a file an earlier process was killed.
    """
    count, start, draw = Count("read_only"), time.monotonic(), random.Random(seed)
    most = stage.changes.count("rename")
    for number in range(size):
        out, kind = stage.place / f"read-only-{number}", NEVER[number % len(NEVER)]
        out.mkdir()
        if kind == NEVER[1]:
            at = draw.randint(most // 4, 3 * most // 4)
            killed = stage.start(out, die_at=at, die_before="rename")
            if killed.end() == 0:
                continue
        before = contents(out)
        _allow(out, stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
        victim = stage.start(out, powerless=True)
        victim.end()
        if contents(out) != before:
            count.bad("wrong", f"{out.name} has changed")
        _judge(stage, out, victim, kind, count)
        _allow(out, stat.S_IRWXU)
        _end(stage, out, count)
    count.seconds = time.monotonic() - start
    return count


def _allow(out: Path, mode: int) -> None:
    """Sets what may be done with a folder and those in it."""
    for folder in [out, *(path for path in out.rglob("*") if path.is_dir())]:
        folder.chmod(mode)


def power_cuts(stage: Stage, size: int, seed: int = 0) -> Count:
    """The power fails: contents that were not flushed are gone, and names that were not flushed are
    gone or there, whatever came later. Then the same command ends the sweep.

    Each state of the disk is one that POSIX allows after a journal of a run: when a file or folder
    is renamed, or a file appended to, of all names that were not flushed either only the newest
    survives, or all of them, in the order that is worst.

    Args:
      stage: the sweep, and where it runs.
      size: how many states are met, of each kind in turn; those of a kind are spread evenly over
        the run.
      seed: where the even spread begins.
    """
    count, start = Count("power_cuts"), time.monotonic()
    out, to = stage.place / "journalled", stage.place / "journal"
    victim = stage.start(out, journal=str(to))
    if victim.end():
        raise RuntimeError(f"a sweep with a journal fails:\n{victim.text()[-2000:]}")
    events = [json.loads(line) for line in (to / "journal").read_text().splitlines()]
    states = [*itertools.product(RENAMED, CUTS)]
    each = math.ceil(size / len(states))
    for number in range(size):
        name, left = states[number % len(states)]
        ends = [index for index, event in enumerate(events) if _changed(event) == name]
        met = places(len(ends), each, seed)[number // len(states) :]
        if not met:
            continue  # this name did not change so often
        cut = stage.place / f"cut-{number}"
        after_cut(events[: ends[met[0] - 1] + 1], to, cut, left == CUTS[1])
        count.made(f"{RENAMED[name]}, {left}")
        count.resumed += stage.finish(cut, count)
        if not count.notes:
            shutil.rmtree(cut)
    count.seconds = time.monotonic() - start
    return count


def _changed(event: Sequence[str]) -> str:
    """Returns which of RENAMED an event of a journal puts in place; "" for any other event."""
    if event[0] == "append":
        return event[1]
    if event[0] != "rename":
        return ""
    folder = event[2].partition("/")[0]
    return "seals" if folder == "checkpoints" and event[2].endswith(".json") else folder


Files = Mapping[str, bytes]


def after_cut(events: Sequence[Sequence[str]], copies: Path, out: Path, newest: bool) -> None:
    """Makes a folder as it may be after the power has failed.

    A file that was renamed without being flushed is empty. One that was appended to is empty or
    ends in half a line, and those in a folder that was renamed are empty or whole: nobody saw
    whether they were flushed.

    Args:
      events: a journal up to the failure, as `hooks.journal` writes it.
      copies: the folder of the journal, which holds the contents of files and folders.
      out: the folder that is made.
      newest: of the names that were not flushed, whether only the newest one is there, and contents
        of which nothing is known are gone; else all are there.
    """
    flushed: set[str] = set()
    there: dict[str, bytes] = {}
    pending: list[tuple[str, Files]] = []
    new_folders: set[str] = set()
    for kind, path, *more in events:
        if kind == "open":
            flushed.discard(path)
        elif kind == "mkdir":
            new_folders.add(path)
        elif kind == "fsync":
            flushed.add(path)
            new_folders = {name for name in new_folders if _folder(name) != path}
            for name, files in (each for each in pending if _folder(each[0]) == path):
                _settle(there, name, files)
            pending = [each for each in pending if _folder(each[0]) != path]
        elif kind == "append":
            pending.append((path, {path: b"" if newest else _torn(copies / more[0])}))
        elif kind == "rename":
            target, copy = more
            whole = path in flushed or ((copies / copy).is_dir() and not newest)
            pending.append((target, _renamed(copies / copy, target, whole)))
        elif kind == "remove":
            pending.append((path, {}))
    if newest:
        there = {name: there[name] for name in there if not new_folders & {*_folders(name)}}
    for name, files in pending[-1:] if newest else pending:
        _settle(there, name, files)
    out.mkdir(parents=True)
    for name, content in there.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)


def _torn(path: Path) -> bytes:
    """What a file held before the second half of its last line was written."""
    content = path.read_bytes()
    last = content.rfind(b"\n", 0, -1) + 1
    return content[: (last + len(content)) // 2]


def _renamed(copy: Path, target: str, whole: bool) -> Files:
    """The files that a renaming puts in place, whole or empty."""
    paths = sorted(path for path in copy.rglob("*") if path.is_file()) if copy.is_dir() else [copy]
    return {
        (Path(target) / path.relative_to(copy)).as_posix(): path.read_bytes() if whole else b""
        for path in paths
    }


def _folder(name: str) -> str:
    """The folder of a file, as a journal names it."""
    return os.path.dirname(name) or "."  # noqa: PTH120 - names, not paths


def _folders(name: str) -> Iterator[str]:
    """All folders that a file is in, as a journal names them."""
    while name != ".":
        name = _folder(name)
        yield name


def _settle(there: dict[str, bytes], name: str, files: Files) -> None:
    """Puts a change of a folder on the disk: files in the place of what bore their name."""
    for old in [old for old in there if f"{old}/".startswith(f"{name}/")]:
        del there[old]
    there.update(files)
