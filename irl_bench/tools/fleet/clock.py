"""A clock for many threads that moves on when all of them sleep: a discrete-event simulation."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable
from typing import Any


class Killed(BaseException):
    """A worker is gone, and does nothing more: no handler of errors stops this one."""


class Clock:
    """Time that moves on when every thread sleeps on it. One thread runs at a time.

    Attributes:
      now: the time [s].
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, Any]] = []
        self._order = itertools.count()
        self._over = threading.Event()
        self._errors: list[BaseException] = []

    def sleep(self, seconds: float) -> None:
        """Lets others run until the calling thread's time has come. Of equal times, the one that
        was asked for first comes first."""
        until = self.now + seconds
        if self._sleepers and self._sleepers[0][0] <= until:
            baton = self._baton(until)
            self._pass_on()
            baton.acquire()
        else:
            self.now = until

    def run(self, works: Iterable[tuple[float, Callable[[], None]]]) -> None:
        """Runs functions, each in a thread, until all have ended.

        Args:
          works: when each begins [s], and the function.

        Raises:
          BaseException: what the first function raised that raised anything but Killed. The others
            are run to their ends.
        """
        self._over.clear()
        for start, work in works:
            args = (self._baton(start), work)
            threading.Thread(target=self._live, args=args, daemon=True).start()
        self._pass_on()
        self._over.wait()
        if self._errors:
            raise self._errors[0]

    def _baton(self, until: float) -> Any:
        """What a thread waits for that sleeps until a time."""
        baton = threading.Lock()
        baton.acquire()
        heapq.heappush(self._sleepers, (until, next(self._order), baton))
        return baton

    def _live(self, baton: Any, work: Callable[[], None]) -> None:
        baton.acquire()
        try:
            work()
        except Killed:
            pass
        except BaseException as error:  # raised again by `run`
            self._errors.append(error)
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """Wakes the thread whose time comes first, and moves the time on to it."""
        if self._sleepers:
            self.now, _, baton = heapq.heappop(self._sleepers)
            baton.release()
        else:
            self._over.set()
