"""Disturbs a process from within: writes that fail or end it, a clock that is set back, files that
are seen late, and a journal of what has reached the disk.

Python reports each file that is opened, renamed or removed to audit hooks, which may raise an error
in the place of the system. So nothing that is disturbed knows of it. A hook cannot be removed:
these are for processes that end soon.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import pathlib
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


def writes(out: Path, act: Callable[[str, Path], None], removals: bool = True) -> None:
    """Calls `act(event, path)` before each change of something in a folder.

    Args:
      out: the folder.
      act: may raise an OSError, which the change then ends in. The event is `open`, one of CHANGES,
        or `fsync` before a file is flushed to the disk.
      removals: whether files that are removed count too.
    """
    root = f"{out.absolute()}{os.sep}"

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not arguments or isinstance(arguments[0], int):
            return
        if event == "open":
            if not (arguments[2] or 0) & WRITING:
                return
        elif event not in CHANGES or (not removals and event in ("os.remove", "os.rmdir")):
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
        if next(count) >= at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    writes(out, act, removals=False)


def die(out: Path, at: int) -> None:
    """Ends the process by SIGKILL before the `at`-th change of the folder, counted from 1."""
    count = itertools.count(1)

    def act(event: str, path: Path) -> None:
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)

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

    Each line of `<to>/journal` is one event: ["open", path] before a file is written, ["fsync",
    path] before it or a folder is flushed, ["mkdir", path] before a folder is made, ["rename",
    from, path, copy] with a copy of the file's content before a file gets a name, and ["remove",
    path]. Paths are relative to `out`.
    """
    root, number = out.absolute(), itertools.count(1)
    to.mkdir(parents=True, exist_ok=True)
    log = os.open(to / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(*fields: str) -> None:
        os.write(log, (json.dumps(fields) + "\n").encode())

    def act(event: str, path: Path) -> None:
        name = path.relative_to(root).as_posix()
        if event in ("os.remove", "os.rmdir"):
            write("remove", name)
        elif event in ("open", "fsync"):
            write(event, name)
        elif event == "os.mkdir" and not path.exists():
            write("mkdir", name)

    writes(out, act)

    def renamed(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("os.rename", "os.link"):
            return
        source, target = (Path(os.fsdecode(name)).absolute() for name in arguments[:2])
        taken = event == "os.link" and target.exists()
        if target.is_relative_to(root) and source.is_file() and not taken:
            copy = f"{next(number):05d}"
            shutil.copyfile(source, to / copy)
            write(
                "rename",
                source.relative_to(root).as_posix(),
                target.relative_to(root).as_posix(),
                copy,
            )

    sys.addaudithook(renamed)
