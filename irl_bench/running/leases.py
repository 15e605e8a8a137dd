"""Leases of cells: several workers on one folder do not compute the same cell at the same time.

A worker claims cells before it computes them, in `<out>/leases/<key>.json`, and renews its claims
while it works. A lease whose worker is dead is taken over. Results do not depend on leases: a cell
that two workers compute after all is stored once, and its bytes are the same.

A worker is dead if its process is gone from this machine, or if its lease did not change for EXPIRY
seconds. They are counted by the clock of the process that waits, so clocks of machines need not
agree and may be set back. Time in which that process could not look does not count, since the
worker may not have been able to renew its claim either. A worker that has done no step of its work
for STALL seconds renews no claim: a device or a file system may never answer, and others need not
wait for it.

In an object store a lease is an object too. A worker first claims a cell on its own machine, as
above, in the working copy, then creates the object, which only one worker can. Each request costs
time and money there, and a thousand workers make a thousand times as many. So:

- One listing tells of all leases, claims are renewed less often, and a worker that waits looks less
  and less often.
- Who finishes a cell removes its lease; who gives it up leaves an empty one. A cell whose lease is
  gone is thus taken as finished, without a request, until no lease is left. Only then are the cells
  listed.
- The first to see all cells claims `last`, which it does to write the report. Whoever sees that
  claim come or be renewed need not list the cells any more. One that a dead worker left says
  nothing: cells may have been removed since.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, TypeVar, cast

from irl_bench.storage import cells, untrusted
from irl_bench.storage.files import StoreError, locked, store_of, write_here
from irl_bench.storage.remote import TRIES, Seen, TooLarge

LARGEST = untrusted.MOST_IN["leases"]
"""The largest file of a lease [bytes]."""
RENEWAL = 10.0
"""Time between two renewals of a claim [s]."""
EXPIRY = 90.0
"""A lease that did not change for so long belongs to nobody [s]: many renewals have failed."""
STALL = 3600.0
"""Longest time between two steps of a worker that renews its claims [s]. A step is a compilation,
or a call of what was compiled."""
RENEWAL_THERE = 30.0
"""As RENEWAL, of claims in an object store [s]."""
AGAIN = 2.0
"""As RENEWAL, after one that failed [s]."""
RENEWAL_TRIES = 6
"""How often a request of a renewal is made at most while an object store fails. The pauses between
the tries double, so more of them would miss the end of an outage by half a minute."""
OUTAGE = 10.0
"""A store that failed for longer before it answered may have kept others from renewing [s]."""
LOOKS = (1.0, 30.0)
"""Shortest and longest time between two looks at an object store for cells to claim [s]."""
LOG_GROWTH = 0.1
"""By which part of itself a log grows before it is put into an object store again."""


_Cell = TypeVar("_Cell")
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


UNREADABLE = Lease(
    worker="", host="", name="a machine unknown", pid=1, since=0.0, renewals=0, label=""
)
"""Stands for a lease that is there and cannot be read."""


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
    """Returns a lease; None if there is none, if the file holds something else or cannot be
    read."""
    try:
        return _read(path)
    except OSError:
        return None


def _read(path: Path) -> Lease | None:
    """As `read`, but raises OSError if the file cannot be read."""
    try:
        return _parse(untrusted.content(path, LARGEST))
    except FileNotFoundError:
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


def last_key(keys: Iterable[str]) -> str:
    """Returns the name of the claim that is made once all cells of a plan are stored.

    Args:
      keys: of the plan's cells.
    """
    return hashlib.sha256("\n".join(["last", *sorted(keys)]).encode()).hexdigest()[:20]


@dataclasses.dataclass
class _There:
    """What a worker has seen in the object store."""

    leases: dict[str, Seen] = dataclasses.field(default_factory=dict[str, Seen])
    """The leases as last listed, by keys."""
    since: dict[str, tuple[str, float]] = dataclasses.field(
        default_factory=dict[str, tuple[str, float]]
    )
    """{key: version of its lease, since when it has been seen}."""
    finished: set[str] = dataclasses.field(default_factory=set[str])
    """Cells whose leases are gone."""
    stored: set[str] = dataclasses.field(default_factory=set[str])
    """Cells that are known to be stored."""
    waiting: set[str] = dataclasses.field(default_factory=set[str])
    """First cells of the groups of which nothing could be claimed since the last look."""
    before: str | None = None
    """Version of the claim `last` at this worker's first look; empty without one."""
    surveyed: bool = False
    """Whether the cells were listed since the last look."""
    looked: float | None = None
    """When the leases were last listed, by the worker's clock [s]."""
    failed: bool = False
    """Whether the store has failed since then."""
    again: float = 0.0
    """When to look again, by the worker's clock [s]."""
    pause: float = 0.0
    """How long to wait after the next look [s], but for a random part."""


class Leases:
    """The claims of one worker in a run's folder. Use it as a context: leaving it gives up all
    claims.

    Args:
      out: the run's folder.
      expiry, renewal: as EXPIRY and RENEWAL, or RENEWAL_THERE.
      clock: monotonic time [s].
      worker: the worker's name, hexadecimal; None: a random one.
      threaded: whether a thread renews the claims; if not, call `renew`.
      last: what is claimed in an object store once all cells are stored, as `last_key` returns it.
    """

    def __init__(
        self,
        out: Path,
        expiry: float | None = None,
        renewal: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        worker: str | None = None,
        threaded: bool = True,
        last: str = "",
    ):
        self.out, self.folder, self.store = out, out / "leases", store_of(out)
        self.expiry, self.clock = expiry or EXPIRY, clock
        self.renewal = renewal or (RENEWAL_THERE if self.store else RENEWAL)
        self.worker, self.host, self.last = worker or secrets.token_hex(8), here(), last
        self._held: dict[str, Lease] = {}
        self._seen: dict[str, tuple[Lease, float]] = {}
        self._there = _There(pause=LOOKS[0])
        self._others: dict[str, Lease] = {}
        self._random = random.Random(self.worker)
        self._moved = clock()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = (
            threading.Thread(target=self._keep_renewing, daemon=True) if threaded else None
        )

    def __enter__(self) -> Leases:
        _ACTIVE.add(self.worker)
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread:
            self._thread.join()
        self.give_up(list(self._held))
        if self.store:
            with contextlib.suppress(StoreError):
                self.store.put_log(self.out)
        _ACTIVE.discard(self.worker)

    def moved(self) -> None:
        """Tells that the worker does a further step of its work. Without it, claims are no longer
        renewed after STALL seconds."""
        self._moved = self.clock()

    def turn(self, cells: dict[str, _Cell]) -> None:
        """Lets cells begin at a random one if they are in an object store, so that not all workers
        try the same.

        Args:
          cells: by their keys, in the order in which they will be claimed.
        """
        if self.store and cells:
            items, start = list(cells.items()), self._random.randrange(len(cells))
            cells.clear()
            cells.update(items[start:] + items[:start])

    def claim(self, labels: Mapping[str, str], most: int) -> list[str]:
        """Claims cells and returns their keys.

        Args:
          labels: {key: label} of the cells that are wanted, in the order of preference.
          most: how many are claimed at most.

        Raises:
          WriteError: the folder cannot be written.
          StoreError: the object store cannot be used, or holds a damaged cell.
        """
        self.moved()
        if self.store:
            return self._claim_there(labels, most)
        claimed = self._claim_here(labels, most)
        self._hold(claimed)
        return [*claimed]

    def _claim_here(self, labels: Mapping[str, str], most: int) -> dict[str, Lease]:
        """Claims cells in the folder and returns their leases, which nobody renews yet."""
        claimed: dict[str, Lease] = {}
        try:
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
                    claimed[key] = lease
        except BaseException:
            self._drop(claimed)
            raise
        return claimed

    def _hold(self, leases: Mapping[str, Lease]) -> None:
        """Adds claims to those that are renewed."""
        with self._lock:
            self._held.update(leases)

    def _claim_there(self, labels: Mapping[str, str], most: int) -> list[str]:
        """Claims cells in the folder, then in the object store. In between the store is left
        alone."""
        assert self.store is not None
        there, now = self._there, self.clock()
        first = next(iter(labels), "")
        if now >= there.again:
            self._look(now)
        elif first in there.waiting:
            return []
        if self.last in there.leases and there.leases[self.last].version != there.before:
            there.stored.update(labels)
            return []
        claimed = self._create(labels, most)
        if not claimed and not there.surveyed and not any(key in there.leases for key in labels):
            # No lease is left: those that were taken as finished are, or their workers gave up.
            self._survey()
            claimed = self._create(labels, most)
        if claimed:
            there.again, there.pause = 0.0, LOOKS[0]
            return claimed
        there.waiting.add(first)
        lease = None if first in self._others else self._read_there(first)
        if lease is not None:
            self._others[first] = lease
        return []

    def _look(self, now: float) -> None:
        """Lists the leases in the object store, and when to look again unless something is
        claimed."""
        assert self.store is not None
        there = self._there
        try:
            outage = self.store.look(self.folder, self.clock)
        except StoreError:
            there.failed = True
            raise
        listed = self.clock()
        leases = {
            name.removesuffix(".json"): seen
            for name, seen in self.store.names(self.folder).items()
            if name.endswith(".json")
        }
        there.finished |= there.leases.keys() - leases.keys() - self._held.keys()
        there.finished -= leases.keys()
        for key in there.since.keys() - leases.keys():
            del there.since[key]
        # While this worker could not look, the others may not have been able to renew.
        absent = there.looked is not None and now - there.looked >= self.expiry
        if absent or there.failed or outage >= OUTAGE:
            there.since.clear()
        there.looked, there.failed = listed, False
        for key, seen in leases.items():
            if there.since.get(key, ("", 0.0))[0] != seen.version:
                there.since[key] = (seen.version, listed)
        there.leases, there.surveyed = leases, False
        if there.before is None:
            there.before = leases[self.last].version if self.last in leases else ""
        there.waiting.clear()
        there.again = now + there.pause * self._random.uniform(0.7, 1.3)
        there.pause = min(2 * there.pause, LOOKS[1])

    def _create(self, labels: Mapping[str, str], most: int) -> list[str]:
        """Claims those of the cells that are free as far as was seen. What turns out to be stored
        is claimed too, and the cells are listed."""
        assert self.store is not None
        there = self._there
        free = ((key, labels[key]) for key in labels if self._is_free(key))
        claimed: list[str] = []
        met = False
        while len(claimed) < most and (some := dict(itertools.islice(free, most - len(claimed)))):
            here = self._claim_here(some, most)
            try:
                for key, lease in [*here.items()]:
                    if key in there.leases:  # of a worker that is dead, or gave it up
                        self.store.remove(self._path(key))
                    if not self.store.create(self._path(key), _bytes(lease)):
                        there.leases.setdefault(key, Seen(LARGEST, "", None))
                        continue
                    # Not before: a renewal would take the object for another worker's claim.
                    self._hold({key: here.pop(key)})
                    claimed.append(key)
                    if cells.look(self.out, key):
                        there.stored.add(key)
                        met = True
            finally:
                self._drop(here)
        if met and not there.surveyed:
            self._survey()
        return claimed

    def _survey(self) -> None:
        """Lists the cells in the object store."""
        there = self._there
        there.surveyed = True
        cells.survey(self.out)
        there.stored.update(cells.stored(self.out))
        there.finished.clear()

    def stored(self, keys: Iterable[str]) -> list[str]:
        """Returns those cells that are stored. In an object store, these are as many as its
        listings have shown so far.

        Args:
          keys: of cells.

        Raises:
          StoreError: a file in the folder does not verify.
        """
        if self.store:
            known = self._there.stored
            return [key for key in keys if key in known] if known else []
        return [key for key in keys if cells.is_done(self.out, key)]

    def _is_free(self, key: str) -> bool:
        """Whether no living worker has an object on a cell that is not known to be finished."""
        there = self._there
        if key in there.stored or key in there.finished or key in self._held:
            return False
        seen = there.leases.get(key)
        if seen is None or seen.size == 0:
            return True
        looked = there.looked or 0.0  # it may have been renewed since
        expired = key in there.since and looked - there.since[key][1] >= self.expiry
        return expired or self._left_here(key)

    def _left_here(self, key: str) -> bool:
        """Whether the object on a cell is of a process that is gone from this machine."""
        here = read(self._path(key))
        if here is None or self.store is None or self._holder_here(key) is not None:
            return False
        there = self._read_there(key)
        return there is not None and there["worker"] == here["worker"]

    def holders(self, groups: Sequence[Mapping[str, object]]) -> list[Lease]:
        """Returns the leases that are known of other living workers.

        Args:
          groups: cells by their keys. In an object store, the leases of some others are told too.
        """
        if self.store:
            return list(self._others.values())
        found = (self._holder_here(key) for cells in groups for key in cells)
        return [lease for lease in found if lease is not None]

    def _holder_here(self, key: str) -> Lease | None:
        """The lease of a living worker, this one included, on a cell in the folder; None if it is
        free. One of another machine counts as living until it was seen unchanged for `expiry`."""
        begun = self.clock()
        try:
            lease = _read(self._path(key))
        except OSError:  # its owner may be replacing it, on a network file system
            lease = self._seen[key][0] if key in self._seen else UNREADABLE
        now = self.clock()
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
        before, since = self._seen.get(key, (lease, begun))
        # While a file system does not answer, the owner cannot renew its claim either.
        since = since + (now - begun) if before == lease else now
        self._seen[key] = lease, since
        return None if now - since >= self.expiry else lease

    def release(self, keys: Iterable[str]) -> None:
        """Ends claims of cells that are stored. A lease that another worker has taken over
        stays."""
        dropped = self._drop(keys)
        if self.store and dropped:
            with contextlib.suppress(StoreError):  # they run out
                for key in dropped:
                    self.store.remove(self._path(key))
                self.store.put_log(self.out, LOG_GROWTH)

    def give_up(self, keys: Iterable[str]) -> None:
        """Ends claims of cells that are not stored, so that others claim them."""
        dropped = self._drop(keys)
        if self.store:
            with contextlib.suppress(StoreError):  # they run out
                for key in dropped:
                    self.store.put(self._path(key), b"", check=False)

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
        pause = self.renewal
        while not self._ended.wait(pause):
            pause = self.renewal if self.renew() else min(AGAIN, self.renewal)

    def renew(self) -> bool:
        """Renews all claims once, but for those that another worker has taken over while this one
        was suspended or made no progress. A claim that cannot be written runs out, which costs time
        alone.

        Returns:
          Whether nothing failed. If something did, the rest waits for the next renewal, which has
          to come soon and begins with the rest: a failure may be that of one claim alone.
        """
        if self.clock() - self._moved > STALL:
            return True
        with self._lock:
            for key, lease in list(self._held.items()):
                try:
                    self._renew(key, lease)
                except (StoreError, OSError):
                    self._there.failed = True
                    self._held[key] = self._held.pop(key)
                    return False
        return True

    def _renew(self, key: str, lease: Lease) -> None:
        """Renews a claim, or drops it if another worker has taken it over."""
        present = self._present(key)
        if present is not None and present["worker"] != self.worker:
            del self._held[key]
            return
        lease["renewals"] += 1
        write_here(self._path(key), _bytes(lease))
        if self.store:
            self.store.put(self._path(key), _bytes(lease), check=False, tries=RENEWAL_TRIES)

    def _present(self, key: str) -> Lease | None:
        """The lease on a claimed cell as it is now. Raises OSError or StoreError if it cannot be
        read."""
        return self._read_there(key, RENEWAL_TRIES) if self.store else _read(self._path(key))

    def _read_there(self, key: str, tries: int = TRIES) -> Lease | None:
        """The lease in the object store; None if there is none, or something else."""
        assert self.store is not None
        try:
            return _parse(self.store.read(self._path(key), tries))
        except TooLarge:
            return None

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _bytes(lease: Lease) -> bytes:
    return (json.dumps(lease) + "\n").encode()


def described(lease: Lease) -> str:
    """Returns who holds a lease, as text."""
    return f"process {lease['pid']} on {lease['name']}"
