"""Leases of cells: several workers on one folder do not compute the same cell at the same time.

A worker claims cells before it computes them, in `<out>/leases/<key>.json`, and renews its claims
while it works. A lease whose worker is dead is taken over. Results do not depend on leases: a cell
that two workers compute after all is stored once, and its bytes are the same.

A worker is dead if its process is gone from this machine, or if its lease did not change for EXPIRY
seconds. They are counted by the clock of the process that waits, so clocks of machines need not
agree and may be set back.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypedDict, cast

from irl_bench.storage.files import StoreError, locked, write_atomic

RENEWAL = 10.0
"""Time between two renewals of a claim [s]."""
EXPIRY = 90.0
"""A lease that did not change for so long belongs to nobody [s]: many renewals have failed."""


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
        lease = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    kinds = {"pid": int, "renewals": int, "since": (int, float)}
    whole = (
        isinstance(lease, dict)
        and lease.keys() == Lease.__annotations__.keys()
        and all(isinstance(value, kinds.get(name, str)) for name, value in lease.items())
        and 0 < lease["pid"] < 2**31  # 0 and -1 would stand for groups of processes
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
      expiry, renewal: as EXPIRY and RENEWAL.
      clock: monotonic time [s].
    """

    def __init__(
        self,
        out: Path,
        expiry: float = EXPIRY,
        renewal: float = RENEWAL,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.folder = out / "leases"
        self.expiry, self.renewal, self.clock = expiry, renewal, clock
        self.worker, self.host = secrets.token_hex(8), here()
        self._held: dict[str, Lease] = {}
        self._seen: dict[str, tuple[Lease, float]] = {}
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
        """
        claimed: list[str] = []
        with locked(self.folder):
            for key, label in labels.items():
                if len(claimed) == most:
                    break
                if self.holder(key) is not None:
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
                self._write(key, lease)
                with self._lock:
                    self._held[key] = lease
                claimed.append(key)
        return claimed

    def holder(self, key: str) -> Lease | None:
        """Returns the lease of a living worker, this one included, on a cell; None if it is free.

        A lease of another machine counts as living until it was seen unchanged for `expiry`.
        """
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
        for key in keys:
            with self._lock:
                self._held.pop(key, None)
            lease = read(self._path(key))
            if lease is not None and lease["worker"] == self.worker:
                with contextlib.suppress(OSError):
                    self._path(key).unlink(missing_ok=True)

    def _keep_renewing(self) -> None:
        """Renews all claims until the context is left."""
        while not self._ended.wait(self.renewal):
            self._renew()

    def _renew(self) -> None:
        """Renews all claims once, but for those that another worker has taken over while this one
        was suspended. A claim that cannot be written runs out, which costs time alone."""
        with self._lock:
            for key, lease in list(self._held.items()):
                present = read(self._path(key))
                if present is not None and present["worker"] != self.worker:
                    del self._held[key]
                    continue
                lease["renewals"] += 1
                with contextlib.suppress(StoreError):
                    self._write(key, lease)

    def _write(self, key: str, lease: Lease) -> None:
        write_atomic(self._path(key), (json.dumps(lease) + "\n").encode())

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def described(lease: Lease) -> str:
    """Returns who holds a lease, as text."""
    return f"process {lease['pid']} on {lease['name']}"
