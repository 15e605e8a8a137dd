"""Run folders in an object store: `s3://bucket/path`, `gs://bucket/path`, `az://container/path`.

A run works in a folder on disk, the working copy of the one in the store. What it writes there is
put into the store and read back, and what other workers have stored is brought in when it is
needed. The working copy lies under the user's cache folder, is found again by its URL, and stays:
what the store did not take is put there by the next run.

Object names are those of the files, and names from a listing that could lead out of the working
copy are passed over. Packages for stores are imported for a URL alone.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import importlib
import math
import os
import random
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from irl_bench.core import folders
from irl_bench.core.settings import BadInput, nearest
from irl_bench.storage import untrusted
from irl_bench.storage.files import STORES, StoreError, store_of, write_here, writing

SCHEMES = {
    "s3": "irl-bench[s3]",
    "gs": "irl-bench[gcs]",
    "az": "adlfs",
    "memory": "fsspec",  # of this process alone: for tests
}
"""Kinds of stores, and what to install for them."""
TRIES = 8
"""How often a request is made at most while the store fails."""
FIRST_TRIES = 3
"""As TRIES, before the first answer: the address may be wrong."""
PAUSE = 0.5
"""Time before the second try [s]; it doubles from try to try, so that all take about a minute."""
AT_ONCE, AT_ONCE_BYTES = 64, 2**28
"""Objects that are read together, and how many bytes of more than one."""
PLANS = ("plan.json", "study.json")
"""Files that say what a run consists of."""
RESULTS = {"cells": ".parquet", "learned": ".safetensors"}
"""Folders of results, and how the names of their files end."""

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # One request per object read, and no tries beside TRIES.
    "s3": {"max_concurrency": 1, "config_kwargs": {"retries": {"max_attempts": 0}}},
}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BY_PATHLIB = re.compile(rf"({'|'.join(SCHEMES)}):/([^/].*)", re.DOTALL)
"""A URL that was made a path and has lost a slash by that."""
_PART = re.compile(r"[A-Za-z0-9_=+-][A-Za-z0-9._=+-]*")
"""A part of an object's name: no hidden file, no way out of a folder."""
_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
"""Errors of the packages for stores that mean: no credentials were found."""

_MARKS = ("ETag", "etag", "generation", "md5Hash")
"""What the packages call an object's version."""
_DATES = ("LastModified", "mtime", "last_modified", "created")
"""What they call the time of its writing."""

_T = TypeVar("_T")


class Refusal(StoreError):
    """A store that cannot be used: no rights, no bucket, no connection. What was computed is in the
    working copy."""


class TooLarge(StoreError):
    """An object that is not read, since it could fill the memory."""


class Seen(NamedTuple):
    """What a listing says of an object."""

    size: int
    """Bytes."""
    version: str
    """Another one whenever the object has been written."""
    modified: float | None
    """When it was written, by the store's clock [s since 1970]; None: the store does not say."""


class Store:
    """A run's folder in an object store, with its working copy. All paths are of files there.

    Args:
      url: of the run's folder.
      root: the working copy.
      still: whether the working copy stays as it is now, for a look at it.

    Raises:
      BadInput: the package for such stores is missing.
    """

    def __init__(self, url: str, root: Path, still: bool = False):
        self.url, self.root, self.still = url, root, still
        self._files = _filesystem(url)
        self._base: str = self._files._strip_protocol(url).rstrip("/")
        # By folders and names. A thread that renews claims adds to it, so nobody iterates over it.
        self._seen: dict[str, dict[str, Seen]] = {}
        self._logs: dict[Path, int] = {}
        self._tries = FIRST_TRIES

    def url_of(self, path: Path) -> str:
        """Returns the URL of a file's object."""
        return f"{self.url}/{self._name(path)}"

    # Listings.

    def list(self, folder: Path) -> dict[Path, Seen]:
        """Lists the objects in a folder and all folders in it, and keeps the result for `listed`,
        `names` and `has`."""
        self.look(folder)
        return self.listed(folder)

    def look(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> float:
        """As `list`, for a folder of very many objects: it makes no path of each.

        Args:
          folder: what is listed.
          clock: monotonic time [s].

        Returns:
          For how long the store failed before the try that it answered [s].
        """
        inside = "" if folder == self.root else self._name(folder) + "/"
        begun: list[float] = []

        def find() -> Mapping[str, Mapping[str, Any]]:
            begun.append(clock())
            # A prefix in place of a path: s3fs asks twice more about a path that holds nothing.
            return self._files.find(self._base, prefix=inside, detail=True)

        found = self._try(find, bucket=True)
        kept = {
            name: names
            for name, names in list(self._seen.items())
            if not f"{name}/".startswith(inside)
        }
        safe: dict[str, bool] = {"": True}
        for full, about in found.items():
            name = full.removeprefix(self._base).removeprefix("/")
            parent, _, own = name.rpartition("/")
            if parent not in safe:
                safe[parent] = is_safe(parent)
            if safe[parent] and is_safe(own) and name.startswith(inside):
                kept.setdefault(parent, {})[own] = _seen(about)
        self._seen = kept
        return begun[-1] - begun[0]

    def listed(self, folder: Path) -> dict[Path, Seen]:
        """Returns the objects in a folder and all folders in it, as last listed."""
        inside = "" if folder == self.root else self._name(folder) + "/"
        return {
            self.root / parent / own: seen
            for parent, names in list(self._seen.items())
            if f"{parent}/".startswith(inside)
            for own, seen in list(names.items())
        }

    def names(self, folder: Path) -> dict[str, Seen]:
        """Returns the objects in a folder by their names there, as last listed."""
        return dict(self._seen.get("" if folder == self.root else self._name(folder), {}))

    def has(self, path: Path) -> bool:
        """Whether a file's object was there when the store was last listed."""
        parent, _, own = self._name(path).rpartition("/")
        return own in self._seen.get(parent, {})

    # Reading.

    def read(self, path: Path, tries: int = TRIES) -> bytes | None:
        """Returns the bytes of a file's object; None if there is none.

        Args:
          path: of the file.
          tries: how often the request is made at most while the store fails.

        Raises:
          TooLarge: the store was last seen to hold more bytes than such a file may have.
          Refusal: the store cannot be used.
        """
        self._check_size(path)
        name = self._object(path)
        try:
            return self._try(lambda: self._files.cat_file(name), tries=tries)
        except FileNotFoundError:
            return None

    def read_all(self, paths: Sequence[Path]) -> Generator[tuple[Path, bytes]]:
        """Yields (path, bytes) of the objects that are there. Some are read together. Raises as
        `read`, before anything is read if one is too large."""
        for path in paths:
            self._check_size(path)
        for group in self._groups(paths):
            names = {self._object(path): path for path in group}
            found = self._try(lambda names=names: self._files.cat([*names], on_error="return"))
            for name, path in names.items():
                content = found.get(name)
                if not isinstance(content, bytes):  # alone, with all its tries
                    content = self.read(path)
                if content is not None:
                    yield path, content

    def _groups(self, paths: Sequence[Path]) -> Generator[list[Path]]:
        """Divides objects into those that are read together."""
        group: list[Path] = []
        size = 0
        for path in paths:
            size += self._size(path)
            if group and (len(group) == AT_ONCE or size > AT_ONCE_BYTES):
                yield group
                group, size = [], self._size(path)
            group.append(path)
        if group:
            yield group

    def _size(self, path: Path) -> int:
        """The size of an object as last listed [bytes]; 0 if it was not."""
        parent, _, own = self._name(path).rpartition("/")
        seen = self._seen.get(parent, {}).get(own)
        return seen.size if seen else 0

    def _check_size(self, path: Path) -> None:
        """Raises TooLarge for an object that is larger than such a file may be."""
        size, most = self._size(path), _most(path)
        if size > most:
            raise TooLarge(
                f"{self.url_of(path)} has {size:,} bytes, more than {most:,}; nearest: move it away"
            )

    def pull(self, folder: Path, pattern: str = "*") -> None:
        """Brings files into the working copy that are missing there or have another size.

        Args:
          folder: where they are, or below.
          pattern: what their names within the folder match; `*` matches slashes too.
        """
        wanted = [
            path
            for path, seen in self.list(folder).items()
            if fnmatch.fnmatchcase(path.relative_to(folder).as_posix(), pattern)
            and not (path.is_file() and path.stat().st_size == seen.size)
        ]
        for path, content in self.read_all(wanted):
            write_here(path, content)

    # Writing.

    def put(self, path: Path, content: bytes, check: bool = True, tries: int = TRIES) -> None:
        """Stores a file's bytes as an object.

        Args:
          path: of the file.
          content: its bytes.
          check: whether to read them back and compare them.
          tries: how often the request is made at most while the store fails.
        """
        name = self._object(path)

        def write() -> None:
            self._files.pipe_file(name, content)
            if check and self._back(name) != content:
                raise OSError(f"other bytes come back from {name} than were stored")

        self._try(write, bucket=True, tries=tries)
        self._note(path, content)

    def create(self, path: Path, content: bytes) -> bool:
        """Stores an object unless there is one of its name. Returns whether the object now has
        these bytes.

        A store without conditional requests may tell two workers at the same moment that both have
        created it.
        """
        name = self._object(path)

        def write() -> bool:
            try:
                self._files.pipe_file(name, content, mode="create")
            except (TypeError, NotImplementedError, ValueError):  # it knows no conditions
                if not self._files.exists(name):
                    self._files.pipe_file(name, content)
            except (PermissionError, FileNotFoundError):
                raise
            except OSError:  # most packages say FileExistsError
                if (there := self._back(name)) is None:
                    raise
                return there == content
            # Also where the store ignores the condition, or an earlier answer was lost.
            return self._back(name) == content

        created = self._try(write, bucket=True)
        if created:
            self._note(path, content)
        return created

    def _note(self, path: Path, content: bytes) -> None:
        """Adds an object that was just stored to what the listings have shown."""
        parent, _, own = self._name(path).rpartition("/")
        self._seen.setdefault(parent, {})[own] = Seen(len(content), "", None)

    def remove(self, path: Path) -> None:
        """Removes an object, which need not be there."""
        name = self._object(path)
        with contextlib.suppress(FileNotFoundError):
            self._try(lambda: self._files.rm_file(name))
        parent, _, own = self._name(path).rpartition("/")
        self._seen.get(parent, {}).pop(own, None)

    def push(self, folder: Path) -> None:
        """Puts results of the working copy into the store that it lacks, and the log of this
        machine's runs. Folders with results that the store is not known to have are listed.

        Raises:
          StoreError: a result is damaged; it was not put there, and all others were.
        """
        results = [path for path in folder.rglob("*") if _is_result(path)]
        for parent in sorted({path.parent for path in results if not self.has(path)}):
            self.look(parent)
        # What a cell has learned comes first: others take a cell that is there for a whole one.
        results.sort(key=lambda path: (path.parent.name == "cells", path))
        problems: dict[str, str] = {}
        for path in results:
            if self.has(path) or path.stem in problems:
                continue
            if problem := _damage(path):
                problems[path.stem] = problem
            else:
                self.put(path, path.read_bytes())
        for log in sorted(folder.rglob("log.jsonl")):
            self.put_log(log.parent)
        for problem in problems.values():
            raise StoreError(problem)

    def put_log(self, out: Path, growth: float = 0.0) -> None:
        """Stores the log of a run as `log/<working copy>.jsonl` if it has grown since then.
        Objects cannot be appended to: if each cell stored the log, a worker's bytes would grow as
        the square of its cells.

        Args:
          out: the run's folder.
          growth: by which part of itself it has grown at least.
        """
        log, name = out / "log.jsonl", self.root / ".name"
        size = log.stat().st_size if log.is_file() else 0
        if size <= (1 + growth) * self._logs.get(log, 0):
            return
        if not name.exists():
            write_here(name, secrets.token_hex(8).encode())
        self.put(out / "log" / f"{name.read_text()}.jsonl", log.read_bytes(), check=False)
        self._logs[log] = size

    def probe(self) -> None:
        """Raises Refusal unless objects can be written, read and removed, before hours of work are
        done for a store that takes nothing."""
        path = self.root / f"probe-{secrets.token_hex(8)}"
        self.put(path, b"irl_bench")
        self.remove(path)

    # Requests.

    def _name(self, path: Path) -> str:
        """An object's name within the run's folder."""
        return path.relative_to(self.root).as_posix()

    def _object(self, path: Path) -> str:
        """An object's full name, as the file system takes it."""
        return self._base if path == self.root else f"{self._base}/{self._name(path)}"

    def _back(self, name: str) -> bytes | None:
        """What was just written; None if the store does not show it yet."""
        try:
            return self._files.cat_file(name)
        except FileNotFoundError:
            return None

    def _try(self, request: Callable[[], _T], bucket: bool = False, tries: int = TRIES) -> _T:
        """The result of a request, which is repeated while the store fails.

        Args:
          request: what to do.
          bucket: whether a missing object means that the bucket is missing.
          tries: how often it is made at most.

        Raises:
          FileNotFoundError: the object does not exist.
          Refusal: the store denies it, or failed so often.
        """
        attempt = 1
        while True:
            try:
                result = request()
                self._tries = TRIES
                return result
            except FileNotFoundError as error:
                if bucket:
                    raise self._refusal(error) from error
                raise
            except Exception as error:  # each package has its own kinds
                denied = isinstance(error, PermissionError) or _kind(error) in _CREDENTIALS
                if denied or attempt >= min(tries, self._tries):
                    raise self._refusal(error) from error
            time.sleep(PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
            attempt += 1

    def _refusal(self, error: Exception) -> Refusal:
        """One line about a request that failed for good."""
        reason = " ".join(str(error).split()) or _kind(error)
        reason = reason if len(reason) <= 160 else reason[:157] + "..."
        if isinstance(error, FileNotFoundError):
            bucket = self._base.strip("/").partition("/")[0]
            what, near = f"there is no bucket {bucket}", "a bucket that exists"
        elif isinstance(error, PermissionError) or _kind(error) in _CREDENTIALS:
            what = f"access is denied ({reason})"
            near = "credentials with which objects may be listed, read, written and removed"
        else:
            what = f"the store does not answer as it should ({reason})"
            near = "the same command once it does; for a server of your own, AWS_ENDPOINT_URL"
        kept = "" if self.still else f"results so far are kept in {self.root}; "
        return Refusal(f"{self.url}: {what}; {kept}nearest: {near}")


def is_url(name: str | Path) -> bool:
    """Returns whether a run's folder is given as the URL of a store, or of anything else."""
    return any(form.fullmatch(str(name)) for form in (_URL, _BY_PATHLIB))


def is_safe(name: str) -> bool:
    """Returns whether an object's name is that of a file below the run's folder."""
    return all(_PART.fullmatch(part) for part in name.split("/"))


def folder(name: str | Path, writing: bool = False) -> Path:
    """Returns the folder on disk of a run: that of a path, or the working copy of a URL.

    Args:
      name: path or URL.
      writing: whether a run will write there. Then the store is tried out first, and gets what an
        earlier run could not put there.

    Raises:
      BadInput: the URL is not one of a store, or its package is missing.
      Refusal: the store cannot be used.
    """
    if not is_url(name):
        return folders.expand(name)
    url = _checked(str(name))
    root = _working_copy(url)
    use(STORES.get(root) or Store(url, root), writing)
    return root


def use(store: Store, writing: bool) -> None:
    """Makes a store that of its working copy in this process.

    Args:
      store: with its working copy.
      writing: as for `folder`. Only the plan of the folder itself is read then: a bucket may hold
        far more objects than this worker needs.

    Raises:
      Refusal: the store cannot be used.
    """
    STORES[store.root] = store
    try:
        if writing:
            store.probe()
            store.push(store.root)
            plans = [store.root / name for name in PLANS]
        else:
            plans = [path for path in store.list(store.root) if path.name in PLANS]
        for path in plans:
            content = store.read(path)
            if content is not None:
                write_here(path, content)
    except BaseException:
        del STORES[store.root]
        raise


@contextlib.contextmanager
def copied(name: str | Path, results: bool = True) -> Generator[Path]:
    """Gives a folder on disk with what a store holds at this moment, for a look at it. A path is
    given as it is.

    Args:
      name: path or URL.
      results: whether cells and learned files are copied; else they are listed alone.

    Raises:
      BadInput, Refusal: as `folder`; errors within the context name objects, not files of the copy.
    """
    if not is_url(name):
        yield folders.expand(name)
        return
    url = _checked(str(name))
    with tempfile.TemporaryDirectory() as aside:
        root = Path(aside).resolve()
        STORES[root] = store = Store(url, root, still=True)
        try:
            listed = store.list(root)
            wanted = [
                path
                for path, seen in listed.items()
                if (_is_of_run(path) or (results and _is_result(path)))
                # A lease that is none says nothing, as in a folder.
                and not (path.parent.name == "leases" and seen.size > _most(path))
            ]
            for path, content in store.read_all(wanted):
                write_here(path, content)
            _join_logs(listed)
            _date(listed)
            yield root
        except (BadInput, StoreError) as error:
            raise type(error)(str(error).replace(str(root), url)) from None
        finally:
            del STORES[root]


def shown(path: Path) -> str:
    """Returns a path in messages: of a file in a working copy, the URL."""
    store = store_of(path)
    if store is None:
        return str(path)
    return store.url if path == store.root else store.url_of(path)


def push(out: Path) -> None:
    """Puts results into the store that it lacks, if the folder is in a working copy."""
    store = store_of(out)
    if store is not None:
        store.push(out)


def pull(out: Path, pattern: str) -> None:
    """Brings files from the store that match a pattern, if the folder is in a working copy."""
    store = store_of(out)
    if store is not None:
        store.pull(out, pattern)


def _checked(url: str) -> str:
    """A URL without a slash at its end. Raises BadInput unless it is one of a store."""
    if lost := _BY_PATHLIB.fullmatch(url):
        raise BadInput(
            f"{url} has lost a slash, as a URL does that is made a path; nearest: the text "
            f"{lost[1]}://{lost[2]}"
        )
    found = _URL.fullmatch(url)
    assert found is not None
    scheme, rest = found[1], found[2].rstrip("/")
    if scheme not in SCHEMES:
        near = rest if scheme == "file" else f"{nearest(scheme, SCHEMES)}://bucket/path"
        raise BadInput(
            f"{scheme}:// is no store ({', '.join(SCHEMES)}); nearest: {near or 'runs/sweep'}"
        )
    if not is_safe(rest):
        parts = [re.sub(r"[^A-Za-z0-9._=+-]|^\.+", "", part) for part in rest.split("/")]
        near = "/".join(filter(None, parts)) or "bucket/path"
        raise BadInput(
            f"{scheme}:// with {rest!r}: parts of the name are letters, digits and ._=+- (keys and "
            f"options are not given in a URL); nearest: {scheme}://{near}"
        )
    return f"{scheme}://{rest}"


def _working_copy(url: str) -> Path:
    """The folder of a URL's working copy, which is made."""
    cache = folders.cache()
    if cache is None:
        raise BadInput(
            f"{url}: a folder for the working copy is needed; nearest: set XDG_CACHE_HOME to one "
            "that can be written"
        )
    name = re.sub(r"[^A-Za-z0-9]+", "-", url)[:60]
    root = cache / "stores" / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
    return root.resolve()


def _filesystem(url: str) -> Any:
    """The file system of fsspec for a URL. It keeps no listings: other workers write there."""
    scheme = url.partition("://")[0]
    try:
        fsspec: Any = importlib.import_module("fsspec")
        return fsspec.filesystem(scheme, use_listings_cache=False, **_OPTIONS.get(scheme, {}))
    except ImportError:
        raise BadInput(
            f"{url}: the package for such stores is missing; nearest: pip install "
            f"'{SCHEMES[scheme]}'"
        ) from None


def _seen(about: Mapping[str, Any]) -> Seen:
    """What a listing of any package says of an object."""
    modified: float | None = None
    marks: list[str] = []
    for name in _DATES:
        date = about.get(name)
        if date is not None and modified is None:
            seconds = date.timestamp() if isinstance(date, datetime) else date
            modified = seconds if isinstance(seconds, float) else None
    for name in _MARKS:
        if (mark := about.get(name)) is not None:
            marks.append(str(mark))
    version = " ".join(marks if modified is None else (*marks, str(modified)))
    return Seen(int(about.get("size") or 0), version, modified)


def _kind(error: Exception) -> str:
    return type(error).__name__


def _is_result(path: Path) -> bool:
    return RESULTS.get(path.parent.name) == path.suffix


def _most(path: Path) -> float:
    """How large a file may be to be read [bytes]."""
    if "checkpoints" in path.parts[-3:-1]:
        return math.inf
    folder = "log" if path.name == "log.jsonl" else path.parent.name
    return untrusted.MOST_IN.get(folder, untrusted.MOST)


def _damage(path: Path) -> str | None:
    """What is wrong with a result in the working copy; None if it is sound."""
    # They take long to import, and `artifacts` imports this module.
    from irl_bench.storage import artifacts, cells

    try:
        if path.suffix == RESULTS["cells"]:
            cells.read_cell(path)
            return None
        artifacts.read(path, ())
        if artifacts.key_of(path) == path.stem:
            return None
    except StoreError as error:
        return str(error)
    except BadInput:
        pass  # its text names the object, which is not there yet
    return (
        f"{path} is damaged or another cell's; nearest: move it and the cell of its name away and "
        "run the sweep again"
    )


def _is_of_run(path: Path) -> bool:
    """Whether a file says how far a run is."""
    return path.name in (*PLANS, "log.jsonl") or path.parent.name in ("log", "leases")


def _join_logs(paths: Iterable[Path]) -> None:
    """Makes the log of a run of those of its machines."""
    logs: dict[Path, dict[bytes, None]] = {}
    for path in sorted(paths):
        if path.parent.name == "log" and path.is_file():
            joined = path.parents[1] / "log.jsonl"
            before = joined.read_bytes() if joined.is_file() else b""
            lines = logs.setdefault(joined, dict.fromkeys(before.splitlines()))
            lines |= dict.fromkeys(path.read_bytes().splitlines())
    for joined, lines in logs.items():
        write_here(joined, b"".join(line + b"\n" for line in lines))


def _date(listed: Mapping[Path, Seen]) -> None:
    """Gives the claims in a copy the dates of their objects."""
    for path, seen in listed.items():
        if path.parent.name == "leases" and path.is_file() and seen.modified is not None:
            os.utime(path, (seen.modified, seen.modified))
