"""Disturbs a process from within: writes that fail or end it, a clock that is set back, files that
are seen late, and a journal of what has reached the disk.

Python reports each file that is opened, renamed or removed to audit hooks, which may raise an error
in the place of the system. So nothing that is disturbed knows of it. A hook cannot be removed:
these are for processes that end soon.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import json
import os
import pathlib
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
"""Flags of `os.open` of which a file that is written has one."""
CHANGES = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir")
"""Audit events, beside `open`, that change a folder."""
REMOVALS = ("remove", "rmdir")
"""Changes for which a full disk has room."""
WRITES = ("open", "fsync", "link", "rename", "mkdir")
"""The other changes."""
STRUCK = "fault "
"""The beginning of what a process says when a fault strikes it."""


def strike(what: str) -> None:
    """Says that a fault strikes this process now, so that one that never came is not counted."""
    os.write(1, f"{STRUCK}{what}\n".encode())


def alarm(delay: float, number: int) -> None:
    """Has the system send a signal to this process after `delay` [s]. A thread that waits for the
    moment would first have to wait for Python, while a short call ends."""
    system = ctypes.CDLL(None, use_errno=True)
    event = (ctypes.c_int * 16)(0, 0, number, 0)  # a value of 8 bytes, the signal, how it is sent
    timer, nanoseconds = ctypes.c_void_p(), max(1, int(delay * 1e9))
    setting = (ctypes.c_long * 4)(0, 0, *divmod(nanoseconds, 10**9))  # once
    monotonic = 1
    if system.timer_create(monotonic, event, ctypes.byref(timer)) or system.timer_settime(
        timer, 0, setting, None
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def writes(out: Path, act: Callable[[str, Path], None], removals: bool = True) -> None:
    """Calls `act(event, path)` before each change of something in a folder.

    Args:
      out: the folder.
      act: may raise an OSError, which the change then ends in. The event is one of WRITES or
        REMOVALS; `fsync` comes before a file or folder is flushed to the disk.
      removals: whether files that are removed count too.
    """
    root = f"{out.absolute()}{os.sep}"

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not arguments or isinstance(arguments[0], int):
            return
        if event == "open":
            if not (arguments[2] or 0) & WRITING:
                return
        elif event not in CHANGES:
            return
        event = event.removeprefix("os.")
        if event in REMOVALS and not removals:
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - hooks must be quick
        if path.startswith(root):
            act(event, Path(path))

    sys.addaudithook(hook)
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        with_name = Path(f"/proc/self/fd/{descriptor}")
        path = with_name.readlink() if with_name.exists() else Path()
        if f"{path}{os.sep}".startswith(root):
            act("fsync", path)
        flush(descriptor)

    cast("Any", os).fsync = fsync


def full(out: Path, at: int) -> None:
    """Makes the disk full for a folder from the `at`-th write on, counted from 1."""
    count = itertools.count(1)

    def act(event: str, path: Path) -> None:
        number = next(count)
        if number == at:
            strike(event)
        if number >= at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    writes(out, act, removals=False)


def limit(size: int) -> None:
    """Lets no file become larger than `size` [bytes], as on a disk that is nearly full."""

    def met(number: int, frame: Any) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        strike("size")

    signal.signal(signal.SIGXFSZ, met)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def die(out: Path, at: int, kind: str) -> None:
    """Ends the process by SIGKILL before a change of the folder: the `at`-th of its kind, counted
    from 1."""
    count = itertools.count(1)

    def act(event: str, path: Path) -> None:
        if event == kind and next(count) == at:
            strike(event)
            os.kill(os.getpid(), signal.SIGKILL)

    writes(out, act)


def tally(out: Path, to: Path) -> None:
    """Writes the kind of each change of a folder into a file, a line each: what `die` and `full`
    count."""
    file = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def act(event: str, path: Path) -> None:
        os.write(file, f"{event}\n".encode())

    writes(out, act)


def clock(shift: float) -> None:
    """Sets the wall clock by `shift` [s] for this process, every second look: it jumps."""
    real, jumps = time.time, itertools.cycle((0.0, shift))
    time.time = lambda: real() + next(jumps)


def late(out: Path, delay: float) -> None:
    """Hides cells of a folder for `delay` [s] after they were written, as the cache of a network
    file system does."""
    folder = out.absolute() / "cells"
    exists, read = pathlib.Path.exists, pathlib.Path.read_bytes

    def hidden(path: Path) -> bool:
        if path.absolute().parent != folder:
            return False
        try:
            return time.time() - path.stat().st_mtime < delay
        except OSError:
            return False

    def late_exists(self: Path, **options: Any) -> bool:
        return not hidden(self) and exists(self, **options)

    def late_read(self: Path) -> bytes:
        if hidden(self):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return read(self)

    pathlib.Path.exists, pathlib.Path.read_bytes = late_exists, late_read  # type: ignore[method-assign]


def journal(out: Path, to: Path) -> None:
    """Records in a folder what reaches the disk, and when.

    Each line of `<to>/journal` is one event: ["open", path] before a file is written, ["append",
    path, copy] instead before one is appended to, ["fsync", path] before a file or a folder is
    flushed, ["mkdir", path] before a folder is made, ["rename", from, path, copy], also
    for a link that gives a file a name, and ["remove",
    path]. A copy, in `to`, holds what the file holds then, or the files of the folder. Paths are
    relative to `out`. What is written past Python, as the arrays of a checkpoint are, is seen when
    its folder is renamed.
    """
    root, number = out.absolute(), itertools.count(1)
    to.mkdir(parents=True, exist_ok=True)
    log = os.open(to / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(*fields: str) -> None:
        os.write(log, (json.dumps(fields) + "\n").encode())

    def name(path: Path) -> str:
        return path.relative_to(root).as_posix()

    def copied(source: Path) -> str:
        copy = f"{next(number):05d}"
        if source.is_dir():
            shutil.copytree(source, to / copy)
        else:
            shutil.copyfile(source, to / copy)
        return copy

    def act(event: str, path: Path) -> None:
        if event in REMOVALS:
            write("remove", name(path))
        elif event == "fsync" or (event == "mkdir" and not path.exists()):
            write(event, name(path))

    writes(out, act)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not isinstance(arguments[0], int):
            path, flags = Path(os.fsdecode(arguments[0])).absolute(), arguments[2] or 0
            if flags & WRITING and path.is_relative_to(root):
                if flags & os.O_APPEND and path.exists():
                    write("append", name(path), copied(path))
                else:
                    write("open", name(path))
        elif event in ("os.rename", "os.link"):
            source, target = (Path(os.fsdecode(each)).absolute() for each in arguments[:2])
            taken = event == "os.link" and target.exists()
            if target.is_relative_to(root) and source.exists() and not taken:
                write("rename", name(source), name(target), copied(source))

    sys.addaudithook(hook)
