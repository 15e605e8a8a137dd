"""Files that are there whole or not at all: atomic writes, a folder's lock, and their errors."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import filelock

LOCK_SECONDS = 600.0
"""A report is drawn within seconds; one that takes longer is stuck."""


class StoreError(ValueError):
    """A file or folder of results that cannot be used. Its text is one line that names it."""


class WriteError(StoreError):
    """A result that cannot be written: a full disk, no permission. What was stored before is
    untouched."""


@contextlib.contextmanager
def locked(out: Path | str) -> Iterator[None]:
    """Holds the folder's lock, so that of several runs in one folder one at a time changes its plan
    and its report.

    Raises:
      WriteError: the lock cannot be made, or another run keeps it for more than LOCK_SECONDS.
    """
    path = Path(out) / ".lock"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except filelock.Timeout:
            raise WriteError(
                f"{path} is held by another run for {LOCK_SECONDS:g} s; is one stuck?"
            ) from None
        except (
            NotImplementedError
        ):  # some network file systems have no locks: files are still whole, rows may be lost
            pass
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a failed write (disk full, no permission, a file where a folder should be) into a
    WriteError, one clear line."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Writes `content` aside, flushes it to the disk and renames it to `path`. Raises WriteError
    if that fails."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
