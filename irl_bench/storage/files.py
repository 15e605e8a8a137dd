"""Atomic writes, the lock of a folder, and their errors."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Generator
from pathlib import Path

import filelock

LOCK_SECONDS = 600.0
"""How long to wait for the lock [s]. A report takes seconds; a run that holds the lock longer is
stuck."""


class StoreError(ValueError):
    """A file or folder of results that cannot be used. The text is one line that names it."""


class WriteError(StoreError):
    """A result that cannot be written: a full disk, no permission. Earlier results are
    untouched."""


@contextlib.contextmanager
def locked(out: Path | str) -> Generator[None]:
    """Holds the folder's lock, so that only one run at a time changes its plan and report.

    Raises:
      WriteError: the lock cannot be made, or another run holds it for more than LOCK_SECONDS.
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
        except NotImplementedError:
            # Some network file systems have no locks: files stay whole, but two runs at once may
            # lose entries of the plan.
            pass
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writing(path: Path) -> Generator[None]:
    """Turns a failed write (a full disk, no permission, a file in the place of a folder) into a
    WriteError of one line."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Writes `content` to a temporary file, flushes it to the disk and renames it to `path`.

    Raises WriteError if that fails.
    """
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
