"""Leases of cells: several workers on one folder do not compute the same cell at the same time.

A worker claims cells before it computes them, in `<out>/leases/<key>.json`, and renews its claims
while it works. A lease whose worker is dead is taken over. Results do not depend on leases: a cell
that two workers compute after all is stored once, and its bytes are the same.

A worker is dead if its process is gone from this machine, or if its lease did not change for EXPIRY
seconds. They are counted by the clock of the process that waits, so clocks of machines need not
agree and may be set back.

In an object store a lease is an object too. A worker first claims a cell on its own machine, as
above, in the working copy, then creates the object, which only one worker can. Each request costs
time and money there, so one listing tells of all leases, claims are renewed less often, and a
worker that waits looks less and less often.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypedDict, cast

from irl_bench.storage import cells, untrusted
from irl_bench.storage.files import StoreError, locked, store_of, write_here

LARGEST = 2**16
"""The largest file of a lease [bytes]."""
RENEWAL = 10.0
"""Time between two renewals of a claim [s]."""
EXPIRY = 90.0
"""A lease that did not change for so long belongs to nobody [s]: many renewals have failed."""
RENEWAL_THERE = 30.0
"""As RENEWAL, of claims in an object store [s]."""
LOOKS = (1.0, 30.0)
"""Shortest and longest time between two looks at an object store for cells to claim [s]."""


_ACTIVE: set[str] = set()
"""Names of the workers of this process."""


class Lease(TypedDict):
    """The content of a lease's file."""

    worker: str
    """A random name of the worker."""
    host: str
    """Its machine, as `here` returns it."""
    name: str
    """The machine's name, for people."""
    pid: int
    """Its process."""
    since: float
    """When the cell was claimed [s since 1970], for people."""
    renewals: int
    """How often the claim was renewed."""
    label: str
    """The cell's name in messages."""


def here() -> str:
    """Returns what identifies this machine since its last start, and the container if any: equal
    process numbers mean the same process only there."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # Linux alone has them
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def alive(pid: int) -> bool:
    """Returns whether a process of this machine runs. One that nobody may signal does."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def read(path: Path) -> Lease | None:
    """Returns a lease; None if there is none, or if the file holds something else."""
    try:
        return _parse(untrusted.content(path, LARGEST))
    except OSError:
        return None


def _parse(content: bytes | None) -> Lease | None:
    """The lease in a file's bytes; None without one."""
    if content is None or len(content) > LARGEST:
        return None
    try:
        lease = untrusted.parsed(content)
    except ValueError:
        return None
    kinds = {"pid": int, "renewals": int, "since": (int, float)}
    whole = (
        isinstance(lease, dict)
        and lease.keys() == Lease.__annotations__.keys()
        and all(isinstance(value, kinds.get(name, str)) for name, value in lease.items())
        and 0 < lease["pid"] < 2**31  # 0 and -1 would stand for groups of processes
        and 0 <= lease["since"] < 2**33
        and all(lease[name].isprintable() for name in ("name", "label"))
    )
    return cast("Lease", lease) if whole else None


def lost(out: Path, key: str, lease: Lease) -> bool:
    """Returns whether a lease belongs to nobody, as far as one look tells: its process is gone from
    this machine, or by this machine's clock it was not renewed for EXPIRY seconds."""
    if lease["host"] == here() and not alive(lease["pid"]):
        return True
    try:
        return time.time() - (out / "leases" / f"{key}.json").stat().st_mtime > EXPIRY
    except OSError:  # it was given up meanwhile
        return True


def all_of(out: Path) -> dict[str, Lease]:
    """Returns {key: lease} of all cells that are claimed in a run's folder."""
    found = {path.stem: read(path) for path in sorted((out / "leases").glob("*.json"))}
    return {key: lease for key, lease in found.items() if lease is not None}


class Leases:
    """The claims of one worker in a run's folder. Use it as a context: leaving it gives up all
    claims.

    Args:
      out: the run's folder.
      expiry, renewal: as EXPIRY and RENEWAL, or RENEWAL_THERE.
      clock: monotonic time [s].
    """

    def __init__(
        self,
        out: Path,
        expiry: float | None = None,
        renewal: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.out, self.folder, self.store = out, out / "leases", store_of(out)
        self.expiry, self.clock = expiry or EXPIRY, clock
        self.renewal = renewal or (RENEWAL_THERE if self.store else RENEWAL)
        self.worker, self.host = secrets.token_hex(8), here()
        self._held: dict[str, Lease] = {}
        self._seen: dict[str, tuple[Lease, float]] = {}
        self._versions: dict[str, tuple[str, float]] = {}
        self._others: dict[str, Lease] = {}
        self._looks: dict[str, tuple[float, float]] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Leases:
        _ACTIVE.add(self.worker)
        self._thread = threading.Thread(target=self._keep_renewing, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        assert self._thread is not None
        self._thread.join()
        self.release(list(self._held))
        _ACTIVE.discard(self.worker)

    def claim(self, labels: Mapping[str, str], most: int) -> list[str]:
        """Claims cells and returns their keys.

        Args:
          labels: {key: label} of the cells that are wanted, in the order of preference.
          most: how many are claimed at most.

        Raises:
          WriteError: the folder cannot be written.
          StoreError: the object store cannot be used, or holds a damaged cell.
        """
        return self._claim_here(labels, most) if not self.store else self._claim_there(labels, most)

    def _claim_here(self, labels: Mapping[str, str], most: int) -> list[str]:
        """Claims cells in the folder."""
        claimed: list[str] = []
        with locked(self.folder):
            for key, label in labels.items():
                if len(claimed) == most:
                    break
                if self._holder_here(key) is not None:
                    continue
                lease = Lease(
                    worker=self.worker,
                    host=self.host,
                    name=socket.gethostname(),
                    pid=os.getpid(),
                    since=round(time.time(), 3),
                    renewals=0,
                    label=label,
                )
                write_here(self._path(key), _bytes(lease))
                with self._lock:
                    self._held[key] = lease
                claimed.append(key)
        return claimed

    def _claim_there(self, labels: Mapping[str, str], most: int) -> list[str]:
        """Claims cells in the folder, then in the object store.

        A cell that turns out to be stored is brought into the folder with all others of `labels`
        that are; so are these while nothing can be claimed. In between the store is left alone.
        """
        assert self.store is not None
        first = next(iter(labels), "")
        again, pause = self._looks.get(first, (0.0, LOOKS[0]))
        if self.clock() < again:
            return []
        listed = self.store.list(self.folder)
        versions = {path.stem: seen.version for path, seen in listed.items()}
        free = {key: label for key, label in self._turned(labels) if self._is_free(key, versions)}
        claimed: list[str] = []
        stored = False
        while len(claimed) < most and (here := self._claim_here(free, most - len(claimed))):
            for key in here:
                del free[key]
                if self.store.create(self._path(key), _bytes(self._held[key])):
                    claimed.append(key)
                    stored |= cells.look(self.out, key)
                else:
                    self._drop([key])
        if claimed:
            self._looks.pop(first, None)
        else:
            self._looks[first] = (
                self.clock() + pause * random.uniform(0.7, 1.3),
                min(1.5 * pause, LOOKS[1]),
            )
            lease = None if first in self._others else _parse(self.store.read(self._path(first)))
            if lease is not None:
                self._others[first] = lease
        if stored or not claimed:
            cells.fetch(self.out, labels)
        return claimed

    def _turned(self, labels: Mapping[str, str]) -> list[tuple[str, str]]:
        """The cells from another one on for each worker, so that not all try the same."""
        items = list(labels.items())
        start = int(self.worker, 16) % max(1, len(items))
        return items[start:] + items[:start]

    def _is_free(self, key: str, versions: Mapping[str, str]) -> bool:
        """Whether no living worker has an object on a cell. One of a dead worker is removed.

        Args:
          key: the cell's key.
          versions: {key: version} of all objects.
        """
        assert self.store is not None
        version, now = versions.get(key), self.clock()
        if version is None:
            self._versions.pop(key, None)
            return True
        before, since = self._versions.setdefault(key, (version, now))
        if before != version:
            self._versions[key] = (version, now)
        elif now - since >= self.expiry or self._left_here(key):
            self.store.remove(self._path(key))
            return True
        return False

    def _left_here(self, key: str) -> bool:
        """Whether the object on a cell is of a process that is gone from this machine."""
        here = read(self._path(key))
        if here is None or self.store is None or self._holder_here(key) is not None:
            return False
        there = self._present(key)
        return there is not None and there["worker"] == here["worker"]

    def holder(self, key: str) -> Lease | None:
        """Returns the lease of a living worker, this one included, on a cell; None if it is free.

        A lease of another machine counts as living until it was seen unchanged for `expiry`. In an
        object store, only some of the other workers' leases are known.
        """
        if self.store:
            return self._held.get(key) or self._others.get(key)
        return self._holder_here(key)

    def _holder_here(self, key: str) -> Lease | None:
        """As `holder`, of the lease in the folder."""
        lease = read(self._path(key))
        if lease is None:
            self._seen.pop(key, None)
            return None
        if lease["worker"] == self.worker:
            return lease
        if lease["host"] == self.host:
            # In a container, the number of this process may be that of an earlier one.
            ours = lease["pid"] == os.getpid()
            if lease["worker"] not in _ACTIVE if ours else not alive(lease["pid"]):
                return None
        before, since = self._seen.setdefault(key, (lease, self.clock()))
        if before != lease:
            self._seen[key] = lease, self.clock()
        elif self.clock() - since >= self.expiry:
            return None
        return lease

    def release(self, keys: Iterable[str]) -> None:
        """Gives up claims. A lease that another worker has taken over stays."""
        dropped = self._drop(keys)
        if self.store and dropped:
            with contextlib.suppress(StoreError):  # they run out
                for key in dropped:
                    self.store.remove(self._path(key))
                self.store.put_log(self.out)  # the cells are finished, and their lines written

    def _drop(self, keys: Iterable[str]) -> list[str]:
        """Gives up claims in the folder, and returns those that were held."""
        dropped: list[str] = []
        for key in keys:
            with self._lock:
                if self._held.pop(key, None) is not None:
                    dropped.append(key)
            lease = read(self._path(key))
            if lease is not None and lease["worker"] == self.worker:
                with contextlib.suppress(OSError):
                    self._path(key).unlink(missing_ok=True)
        return dropped

    def _keep_renewing(self) -> None:
        """Renews all claims until the context is left."""
        while not self._ended.wait(self.renewal):
            self._renew()

    def _renew(self) -> None:
        """Renews all claims once, but for those that another worker has taken over while this one
        was suspended. A claim that cannot be written runs out, which costs time alone."""
        with self._lock:
            for key, lease in list(self._held.items()):
                with contextlib.suppress(StoreError):
                    present = self._present(key)
                    if present is not None and present["worker"] != self.worker:
                        del self._held[key]
                        continue
                    lease["renewals"] += 1
                    write_here(self._path(key), _bytes(lease))
                    if self.store:
                        self.store.put(self._path(key), _bytes(lease), check=False)

    def _present(self, key: str) -> Lease | None:
        """The lease on a cell as it is now."""
        if self.store:
            return _parse(self.store.read(self._path(key)))
        return read(self._path(key))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _bytes(lease: Lease) -> bytes:
    return (json.dumps(lease) + "\n").encode()


def described(lease: Lease) -> str:
    """Returns who holds a lease, as text."""
    return f"process {lease['pid']} on {lease['name']}"
