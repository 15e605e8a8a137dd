"""Atomic writes, the lock of a folder, and their errors.

A folder may be the working copy of one in an object store (`irl_bench.storage.remote`). What
`write_atomic` and `create` write there is put into the store too.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import filelock

from irl_bench.storage import untrusted

if TYPE_CHECKING:
    from irl_bench.storage.remote import Store

LOCK_SECONDS = 600.0
"""How long to wait for the lock [s]. A report takes seconds; a run that holds the lock longer is
stuck."""

_NATIVE: Mapping[str, Any] = (
    {"fallback_to_soft": False}
    if "fallback_to_soft" in inspect.signature(filelock.FileLock.__init__).parameters
    else {}
)
"""Options of a lock that is the operating system's, which ends with its process. The file that
stands for a lock elsewhere stays after a kill, and blocks all other machines."""

_T = TypeVar("_T")

STORES: dict[Path, Store] = {}
"""The object stores that this process uses, by the folders of their working copies."""


class StoreError(ValueError):
    """A file or folder of results that cannot be used. The text is one line that names it."""


class WriteError(StoreError):
    """A result that cannot be written: a full disk, no permission. Earlier results are
    untouched."""


def store_of(path: Path) -> Store | None:
    """Returns the object store of whose working copy a path is part; None for any other path."""
    if not STORES:
        return None
    return next((STORES[root] for root in (path, *path.parents) if root in STORES), None)


@contextlib.contextmanager
def locked(out: Path | str) -> Generator[None]:
    """Holds the folder's lock, so that only one run at a time changes its plan and report. The lock
    of a working copy holds on this machine alone. Some network file systems have no locks: files
    stay whole there, but two runs at once may lose entries of the plan or compute a cell twice.

    Raises:
      WriteError: the lock cannot be made, another run holds it for more than LOCK_SECONDS, or
        something in the folder is a link out of it.
    """
    path = Path(out) / ".lock"
    check_links(Path(out))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path, **_NATIVE)
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except filelock.Timeout:
            raise WriteError(
                f"{path} is held by another run for {LOCK_SECONDS:g} s; is one stuck?"
            ) from None
        except NotImplementedError:  # earlier versions of filelock say so
            pass
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP):
                raise
    try:
        yield
    finally:
        lock.release()


def check_links(out: Path) -> None:
    """Raises WriteError if something in a run's folder, at any depth, is a link that leads out of
    it: what is written or removed there would be elsewhere. A folder that came from a stranger may
    have some."""
    with writing(out), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in links(out):
            check_link(out, path)


def check_link(out: Path, path: Path) -> None:
    """Raises WriteError if something in a folder is a link that leads out of it."""
    if untrusted.leads_out(out, path):
        raise WriteError(
            f"{path} is a link that leads out of the folder; nearest: a folder of that name, and "
            "--out for another disk"
        )


def links(folder: Path) -> Iterator[Path]:
    """Yields the links in a folder and in those below it, and follows none of them."""
    left = [folder]
    while left:  # folders may be nested deeper than functions
        at = left.pop()
        try:
            with os.scandir(at) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:  # removed by another worker
            continue
        except PermissionError:
            if os.access(at, os.W_OK):
                raise
            continue  # another user's: nothing is written there
        yield from (Path(entry.path) for entry in found if entry.is_symlink())
        left += [Path(entry.path) for entry in found if entry.is_dir(follow_symlinks=False)]


@contextlib.contextmanager
def writing(path: Path) -> Generator[None]:
    """Turns a failed write (a full disk, no permission, a file in the place of a folder) into a
    WriteError of one line."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Writes a file as `write_here` does. A file of a working copy is put into the store too.

    Raises:
      WriteError: the file cannot be written.
      StoreError: the store does not take it; the file in the working copy stays.
    """
    write_here(path, content)
    store = store_of(path)
    if store is not None:
        store.put(path, content)


def create(path: Path, content: bytes) -> bool:
    """Writes a file as `write_atomic` does unless there is one of its name. Of several processes
    that create it at once, one does.

    Returns:
      Whether the file now has these bytes, in the store too.

    Raises:
      WriteError: the file cannot be written.
      StoreError: the store does not take it; the file in the working copy stays.
    """
    if not (_write(path, content, _link) or _holds(path, content)):
        return False
    store = store_of(path)
    return store is None or store.create(path, content)


def write_here(path: Path, content: bytes) -> None:
    """Writes `content` to a temporary file, flushes it to the disk, renames it to `path` and
    flushes the folder.

    So a file is on the disk before the next one is written: what a power cut leaves is what stood
    there at some moment.

    Raises WriteError if that fails.
    """
    _write(path, content, Path.replace)


def _write(path: Path, content: bytes, name: Callable[[Path, Path], _T]) -> _T:
    """As `write_here`, with `name(aside, path)` in place of the rename. Returns what it does."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with writing(path):
        new = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in new:
            _flush(folder.parent)
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            named = name(aside, path)
            _flush(path.parent)
            return named
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise


def _link(aside: Path, path: Path) -> bool:
    """Renames a file unless the name is taken. Returns whether it was not."""
    try:
        os.link(aside, path)
    except OSError as error:
        # Without links, as on some network file systems, one look has to do.
        if isinstance(error, FileExistsError) or path.exists():
            aside.unlink()
            return False
        aside.replace(path)
    else:
        aside.unlink()
    return True


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file has these bytes, as far as it can be read."""
    try:
        return untrusted.content(path, len(content)) == content
    except OSError:
        return False


def _flush(folder: Path) -> None:
    """Flushes the names in a folder to the disk, where folders can be flushed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # on Windows, or no permission to read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # some network disks
            raise
    finally:
        os.close(descriptor)
