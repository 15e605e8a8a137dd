"""A sweep of many cells by many workers, from its start to its end."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import math
import random
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, cast

from irl_bench.core.cell import CellSpec, cell_key
from irl_bench.running.console import Silent
from irl_bench.running.leases import Leases, last_key
from irl_bench.running.once import Once
from irl_bench.running.saving import checkpoint_folder
from irl_bench.running.session import Session, Summary
from irl_bench.running.sharing import Compute, share
from irl_bench.storage import cells as stored_cells
from irl_bench.storage import checkpoints, remote
from irl_bench.storage.files import STORES, write_atomic
from irl_bench.storage.plans import VERSION, PlanDocument, update_plan
from irl_bench.storage.remote import Store
from irl_bench.sweep import incomplete
from irl_bench.tools.fleet.clock import Clock, Killed
from irl_bench.tools.fleet.stores import PRICES, SIDES, Bucket, Line, Tally, server

STARTS = 30.0
"""Time within which the workers start [s]."""
SPREAD = 0.5
"""By which part the times of cells differ from their mean at most."""
DYING = 0.02
"""Part of the workers that die."""
_MANIFEST = {
    "rounds": 0,
    "consumes": {"expert_queries": 0, "env_steps": 0, "interactive": False},
}


@dataclasses.dataclass
class Fleet:
    """A sweep, and what its workers did.

    Attributes:
      url: of the run's folder.
      plan: its plan.
      cells: {key: cell}.
      seconds: {key: how long it takes}.
      bucket: the objects, a file system of fsspec; None: that of the URL, until one connects.
      clock, tally: time and requests.
      computed: (when, key, number of the worker) of each cell that was computed to its end.
      begun: as `computed`, of each that was begun.
      died: {number: when a worker died, and on which cell}.
      reports: (when, number) of each report that was written.
      ended: when each worker ended.
      places: the workers' working copies.
    """

    url: str
    plan: PlanDocument
    cells: dict[str, CellSpec]
    seconds: dict[str, float]
    bucket: Any
    clock: Clock = dataclasses.field(default_factory=Clock)
    tally: Tally = dataclasses.field(default_factory=Tally)
    computed: list[tuple[float, str, int]] = dataclasses.field(default_factory=list)
    begun: list[tuple[float, str, int]] = dataclasses.field(default_factory=list)
    died: dict[int, tuple[float, str]] = dataclasses.field(default_factory=dict)
    reports: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    ended: list[float] = dataclasses.field(default_factory=list)
    places: list[Path] = dataclasses.field(default_factory=list)


class _Connected(Store):
    """A worker's store."""

    def __init__(self, url: str, root: Path, worker: Worker):
        super().__init__(url, root)
        fleet = worker.fleet
        fleet.bucket = fleet.bucket or self._files
        self._base = fleet.bucket._strip_protocol(url).rstrip("/")
        self._files = Line(fleet.bucket, self._base, fleet.tally, worker.sleep, worker.now)


class _Stop(threading.Event):
    """Nobody stops a simulated run. Who waits for it sleeps on the fake clock."""

    def __init__(self, sleep: Callable[[float], None]):
        super().__init__()
        self._sleep = sleep

    def wait(self, timeout: float | None = None) -> bool:
        self._sleep(timeout or 0.0)
        return False


class Worker:
    """One worker, on a machine that knows only the bucket.

    Args:
      fleet: its sweep.
      number: which one it is.
      root: its working copy.
      name: its name, hexadecimal.
      dies: it dies in the first cell that it computes at this time [s] or later; None: never.
    """

    def __init__(self, fleet: Fleet, number: int, root: Path, name: str, dies: float | None):
        self.fleet, self.number, self.root, self.name = fleet, number, root, name
        self.dies, self.dead, self.renewed = dies, False, 0.0

    def now(self) -> float:
        """Returns the time [s]."""
        return self.fleet.clock.now

    def sleep(self, seconds: float) -> None:
        """Waits."""
        if self.dead:  # not even to give up its claims
            raise Killed
        self.fleet.clock.sleep(seconds)

    def work(self) -> None:
        """Takes part in the sweep, as `irl_bench.sweep.sweep` and `running.runner.compute` do."""
        out, fleet = self.root, self.fleet
        remote.use(_Connected(fleet.url, out, self), writing=True)
        update_plan(out, lambda before: before or fleet.plan)
        last = last_key(fleet.cells)
        once = Once(out, last)
        stored_cells.survey(out)
        present = {*stored_cells.present(out, fleet.cells)}
        missing = {key: spec for key, spec in fleet.cells.items() if key not in present}
        session = Session(out, {}, Silent(), _Stop(self.sleep), None, 30.0, 2.0, None, Summary())
        with self._leases(last) as leases:
            self.renewed = self.now()
            alike = [missing] if missing else []
            share(session, leases, alike, lambda _: 1, lambda _: self._computing(leases))
        remote.push(out)
        update_plan(out, lambda before: before or fleet.plan)
        if once.begun or not incomplete(out, fleet.plan, lambda _: None):
            once.write(self._report, leases=self._leases(), sleep=self.sleep)
        fleet.ended.append(self.now())

    def _leases(self, last: str = "") -> Leases:
        return Leases(self.root, clock=self.now, worker=self.name, threaded=False, last=last)

    @contextlib.contextmanager
    def _computing(self, leases: Leases) -> Generator[Compute]:
        """Gives a function that computes cells as `running.batch.Batch` does, without checkpoints
        in the store."""

        def compute(some: Mapping[str, CellSpec]) -> None:
            for key, spec in some.items():
                self.fleet.begun.append((self.now(), key, self.number))
                folder = checkpoint_folder(self.root, key)
                checkpoints.restore(folder, lambda _: None)
                self._train(key, leases)
                rows = _rows(spec)
                stored_cells.write_cell(self.root, spec, key, rows, _MANIFEST, _learned(key))
                checkpoints.remove(folder)
                with (self.root / "log.jsonl").open("a") as log:
                    log.write(json.dumps({"key": key, "text": "x" * 400}) + "\n")
                self.fleet.computed.append((self.now(), key, self.number))

        yield compute

    def _train(self, key: str, leases: Leases) -> None:
        """Sleeps as long as a cell takes, and renews the worker's claims meanwhile."""
        until = self.now() + self.fleet.seconds[key]
        dies = self.dies if self.dies is not None else math.inf
        while self.now() < min(until, dies):
            renewal = self.renewed + leases.renewal
            self.sleep(max(0.0, min(until, dies, renewal) - self.now()))
            if renewal <= self.now() < dies:
                leases.renew()
                self.renewed = self.now()
        if dies <= self.now():
            self.fleet.died[self.number] = (self.now(), key)
            self.dead = True
            raise Killed

    def _report(self) -> None:
        """Reads all cells and writes as many files as a report has."""
        stored_cells.fetch(self.root, self.fleet.cells)
        for name in ("verdicts.json", "figures/regret.png", "report.html"):
            write_atomic(self.root / name, b"x" * 1000)
        self.fleet.reports.append((self.now(), self.number))


def _learned(key: str) -> bytes:
    return key.encode() * 50


def _rows(spec: CellSpec) -> dict[str, list[Any]]:
    """A valid result of a cell."""
    return {
        "seed": [spec.first_seed],
        "round": [0],
        "T": [1],
        "quantity": ["cost"],
        "value": [1.0 / (1 + spec.first_seed)],
    }


def content_of(key: str, spec: CellSpec) -> bytes:
    """Returns the bytes that a cell's object must have."""
    digest = hashlib.sha256(_learned(key)).hexdigest()
    manifest = {**_MANIFEST, "spec": spec.to_dict(), "learned": digest}
    return stored_cells.encode(key, _rows(spec), manifest)


# The simulation.


def simulate(
    workers: int,
    cells: int,
    seconds: float = 60.0,
    dying: int | None = None,
    store: str = "s3",
    place: Path | None = None,
) -> tuple[Fleet, dict[str, Any]]:
    """Simulates a sweep from its start to its end.

    Args:
      workers: how many.
      cells: how many.
      seconds: how long a cell takes on average [s].
      dying: how many workers die; None: a DYING part of them.
      store: `s3` or `memory`.
      place: a folder for the working copies, which stay; None: a temporary one.

    Returns:
      The fleet, and what is to be recorded of it; JSON values.

    Raises:
      BadInput: a package for the store is missing.
      RuntimeError: a cell is lost, or holds something else than it should.
    """
    draw = random.Random(0)
    specs = {cell_key(spec, {}): spec for spec in map(_spec, range(cells))}
    fleet = Fleet(
        url="memory://fleet/run" if store == "memory" else "s3://fleet/run",
        plan=_plan(specs),
        cells=specs,
        seconds={key: seconds * draw.uniform(1 - SPREAD, 1 + SPREAD) for key in specs},
        bucket=Bucket() if store == "memory" else None,
    )
    dying = round(DYING * workers) if dying is None else dying
    ideal = sum(fleet.seconds.values()) / workers
    began = time.monotonic()
    answered: collections.Counter[str] | None = None
    with contextlib.ExitStack() as stack:
        if store == "s3":
            answered = stack.enter_context(server())
        # A thousand working copies on one disk would wait for it, which those of a fleet do not.
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        base = place or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory)))
        fleet_of = [
            Worker(
                fleet,
                number,
                base / str(number),
                f"{draw.getrandbits(64):016x}",
                draw.uniform(0.2, 0.8) * ideal if number < dying else None,
            )
            for number in range(workers)
        ]
        fleet.places += [worker.root for worker in fleet_of]
        try:
            fleet.clock.run([(draw.uniform(0.0, STARTS), worker.work) for worker in fleet_of])
            seen = dict(answered) if answered is not None else None
            _check(fleet)
        finally:
            for worker in fleet_of:
                STORES.pop(worker.root, None)
    return fleet, _figures(fleet, workers, seconds, seen, time.monotonic() - began)


def _spec(number: int) -> CellSpec:
    """A cell of a seed of its own."""
    return CellSpec(
        algo="simulated",
        env="simulated",
        mode="nominal",
        horizon=1,
        demos=1,
        demo_steps=1,
        episodes=1,
        block=1,
        eps_episodes=1,
        eps_steps=1,
        first_seed=number,
        width=1,
    )


def _plan(specs: Mapping[str, CellSpec]) -> PlanDocument:
    """The plan of a sweep of these cells."""
    entry = {
        "env": "simulated",
        "algo": "simulated",
        "mode": "nominal",
        "cells": [*specs],
        "seeds": [0, len(specs)],
        "settings": {"width": 1, "horizon": 1, "episodes": 1},
        "rounds": 0,
    }
    world = {"u": None, "latency": 0, "horizon": 1, "nominal": "nominal"}
    return cast(
        "PlanDocument",
        {
            "version": VERSION,
            "entries": [entry],
            "worlds": {"simulated": world},
            "analysis": {},
            "command": "a simulated sweep",
            "budget": "smoke",
        },
    )


def _check(fleet: Fleet) -> None:
    """Raises RuntimeError unless the bucket holds each cell, with the right bytes."""
    base = fleet.bucket._strip_protocol(fleet.url)
    found = {
        name.rpartition("/")[2].removesuffix(".parquet"): name
        for name in fleet.bucket.find(base, prefix="cells/", detail=True)
    }
    if found.keys() != fleet.cells.keys():
        raise RuntimeError(f"{len(fleet.cells) - len(found)} cells are missing")
    for key, name in found.items():
        if fleet.bucket.cat_file(name) != content_of(key, fleet.cells[key]):
            raise RuntimeError(f"cell {key} holds something else than it should")


def _figures(
    fleet: Fleet,
    workers: int,
    seconds: float,
    answered: Mapping[str, int] | None,
    wall: float,
) -> dict[str, Any]:
    """What is recorded of a fleet."""
    tally, cells = fleet.tally, len(fleet.cells)
    kinds = tally.kinds()
    end = max(fleet.ended)
    stored = max(when for when, _, _ in fleet.computed)
    ideal = sum(fleet.seconds.values()) / workers
    again = [
        min(when for when, other, _ in fleet.begun if other == key and when > died) - died
        for died, key in fleet.died.values()
    ]
    parts = {
        f"{kind} {folder or 'plan and report'}": count
        for (kind, folder), count in sorted(tally.requests.items())
    }
    return {
        "workers": workers,
        "cells": cells,
        "cell_seconds": seconds,
        "requests": kinds,
        "requests_by_folder": parts,
        "answered_by_server": dict(answered) if answered is not None else None,
        "mean_per_second": round(sum(kinds.values()) / end, 1),
        "peak_per_second": {
            side: max(n for (each, _), n in tally.seconds.items() if each == side) for side in SIDES
        },
        "bytes_put": tally.put,
        "bytes_got": tally.got,
        "usd": round(sum(PRICES[kind] * count for kind, count in kinds.items()), 6),
        "computed_twice": len(fleet.computed) - cells,
        "died": len(fleet.died),
        "taken_over_after": [round(min(again), 1), round(max(again), 1)] if again else [],
        "reports": len(fleet.reports),
        "ideal_seconds": round(ideal, 1),
        "stored_seconds": round(stored, 1),
        "end_seconds": round(end, 1),
        "wall_seconds": round(wall, 1),
    }
