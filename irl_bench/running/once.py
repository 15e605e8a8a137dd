"""What one worker does for all that share an object store: the report of a run whose cells are
stored. Its writer reads every cell, so a thousand workers must not all write it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from irl_bench.running.leases import Leases
from irl_bench.running.sharing import WAIT
from irl_bench.storage.files import StoreError, WriteError, store_of
from irl_bench.storage.remote import Refusal

MOST_CHARACTERS = 500
"""Most characters of an error that another worker left."""


class Once:
    """The report of a run, which one worker writes. Make it before the run begins.

    The writer holds a claim like that of a cell, so another worker takes over if it dies. When it
    is done, it leaves the object `leases/<key>.written`, another one each time. If it finds a
    damaged cell, that object says so: the others need not read all cells to find it too.

    Args:
      out: the run's folder. Outside of an object store, each worker writes the report.
      key: as `irl_bench.running.leases.last_key` returns it.
    """

    def __init__(self, out: Path, key: str):
        self.out, self.key, self.store = out, key, store_of(out)
        self.mark = out / "leases" / f"{key}.written"
        self.before = self.store.read(self.mark) if self.store else None

    @property
    def begun(self) -> bool:
        """Whether a worker was at it when the object store was last listed, so that all cells are
        stored."""
        lease = self.mark.with_suffix(".json")
        return self.store is not None and self.store.has(lease)

    def write(
        self,
        work: Callable[[], None],
        say: Callable[[], None] = lambda: None,
        leases: Leases | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> bool:
        """Does the work, or waits until another worker has done it since this object was made.

        Args:
          work: writes the report.
          say: is called once if another worker is at it, or has been.
          leases: of this worker, not yet entered; None: new ones.
          sleep: waits for some seconds.

        Returns:
          Whether this worker has done it.

        Raises:
          StoreError: the object store cannot be used, and what `work` raises.
        """
        if self.store is None:
            work()
            return True
        version, told = "", False
        with leases or Leases(self.out) as claims:
            while True:
                claimed = bool(claims.claim({self.key: "the report"}, 1))
                try:
                    seen = self.store.names(self.mark.parent).get(self.mark.name)
                    new = claimed or (seen is not None and seen.version != version)
                    written = new and self._written()
                    if claimed and not written:
                        self._do(work)
                        return True
                finally:
                    if claimed:
                        claims.release([self.key])
                if not told:
                    told = True
                    say()
                if written:
                    return False
                version = seen.version if seen is not None else version
                sleep(WAIT)

    def _do(self, work: Callable[[], None]) -> None:
        """Does the work, and leaves the mark."""
        try:
            work()
        except (WriteError, Refusal):  # another worker may do better
            raise
        except StoreError as error:
            self._leave(str(error))
            raise
        self._leave("")

    def _leave(self, wrong: str) -> None:
        """Leaves the mark for the others, with what is wrong."""
        assert self.store is not None
        self.store.put(self.mark, f"{secrets.token_hex(8)} {wrong}".encode(), check=False)

    def _written(self) -> bool:
        """Whether a worker has done the work since this object was made. Raises StoreError if it
        found that it cannot be done."""
        assert self.store is not None
        mark = self.store.read(self.mark)
        if mark is None or mark == self.before:
            return False
        wrong = mark.decode(errors="replace").partition(" ")[2][:MOST_CHARACTERS]
        if wrong:
            raise StoreError("".join(c if c.isprintable() else " " for c in wrong))
        return True
