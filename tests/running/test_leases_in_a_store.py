"""Leases in an object store: one worker per cell on machines that know only the bucket."""

import contextlib
import random
import threading

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from irl_bench.core.cell import cell_key, fingerprint
from irl_bench.running import leases, runner, sharing
from irl_bench.running.console import Silent
from irl_bench.running.leases import Leases
from irl_bench.storage import remote
from irl_bench.storage.cells import cell_path, encode
from irl_bench.tools.fleet.clock import Clock
from tests.integration.toy_sweep import cells
from tests.storage.test_cells import MANIFEST
from tests.worlds.toys import cell

A, B, C = "a" * 20, "b" * 20, "c" * 20
CELLS = {A: "first", B: "second", C: "third"}


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved, and looks at every call."""
    monkeypatch.setattr(leases, "LOOKS", (0.0, 0.0))
    return [0.0]


def worker(machine, clock):
    return Leases(machine.folder(), renewal=1e6, clock=lambda: clock[0])


def test_a_cell_has_one_worker(machines, objects, clock):
    with worker(machines[0], clock) as one, worker(machines[1], clock) as other:
        first = one.claim(CELLS, 2)
        assert len(first) == 2
        assert set(other.claim(CELLS, 2)) == CELLS.keys() - set(first)
        assert other.claim(CELLS, 2) == [] and one.claim(CELLS, 2) == []
        one.give_up(first[:1])
        assert other.claim(CELLS, 2) == first[:1]
        assert len(objects.names()) == 3
        one.release(first[1:])
        assert len(objects.names()) == 2
    assert [objects[name] for name in objects.names()] == [b"", b""]  # given up
    with worker(machines[0], clock) as one:
        assert sorted(one.claim(CELLS, 3)) == sorted(CELLS)


def test_a_cell_whose_lease_is_gone_is_finished_until_none_is_left(
    machines, objects, billed, clock
):
    with worker(machines[0], clock) as one, worker(machines[1], clock) as other:
        claimed = one.claim(CELLS, 3)
        assert other.claim(CELLS, 3) == []
        one.release(claimed[:2])  # as if they were stored
        billed.clear()
        assert other.claim(CELLS, 3) == [] and billed == {"list": 1}
        one.release(claimed[2:])
        assert sorted(other.claim(CELLS, 3)) == sorted(CELLS)  # none of them is


def test_who_waits_learns_from_the_last_claim_that_all_cells_are_stored(
    machines, objects, billed, clock
):
    """The others write no report, list no cells and claim nothing."""
    last = leases.last_key(CELLS)
    with (
        worker(machines[0], clock) as one,
        Leases(machines[1].folder(), renewal=1e6, clock=lambda: clock[0], last=last) as other,
    ):
        one.claim(CELLS, 3)
        assert other.claim(CELLS, 3) == []
        one.release(CELLS)
        one.claim({last: "the report"}, 1)
        billed.clear()
        assert other.claim(CELLS, 3) == [] and other.stored(CELLS) == [*CELLS]
        assert billed == {"list": 1}


def test_a_last_claim_from_before_says_nothing_until_it_is_renewed(machines, objects, clock):
    """Its worker may be dead, and a cell removed since then."""
    last = leases.last_key(CELLS)
    with worker(machines[0], clock) as one:
        one.claim({last: "the report"}, 1)
        with Leases(machines[1].folder(), renewal=1e6, clock=lambda: clock[0], last=last) as other:
            assert len(other.claim(CELLS, 1)) == 1 and other.stored(CELLS) == []
            one.renew()
            assert other.claim(CELLS, 1) == [] and other.stored(CELLS) == [*CELLS]


def test_a_log_is_stored_when_it_has_grown(machines, billed, clock, monkeypatch):
    """As many bytes in all as a few logs at their ends, and not as their squares."""
    sizes, usual = [], remote.Store.put

    def put(store, path, content, check=True):
        if path.parent.name == "log":
            sizes.append(len(content))
        usual(store, path, content, check)

    monkeypatch.setattr(remote.Store, "put", put)
    folder = machines[0].folder()
    with worker(machines[0], clock) as one:
        for number in range(1, 301):
            (folder / "log.jsonl").write_bytes(b"x" * 100 * number)
            one.claim({A: "a cell"}, 1)
            one.release([A])
    assert sizes[-1] == 30_000 and sizes[:3] == [100, 200, 300]
    assert len(sizes) < 60 and sum(sizes) < 15 * 30_000


def test_two_processes_of_one_machine_share_the_cells(machines, objects, clock):
    with worker(machines[0], clock) as one, worker(machines[0], clock) as other:
        assert sorted([*one.claim(CELLS, 2), *other.claim(CELLS, 2)]) == sorted(CELLS)


def test_of_two_that_create_one_object_one_has_it(machines, objects, clock, monkeypatch):
    """Both have listed the store before either has claimed anything."""
    with worker(machines[0], clock) as one, worker(machines[1], clock) as other:
        monkeypatch.setattr(remote.Store, "list", lambda *_: {})
        assert one.claim(CELLS, 3) and not other.claim(CELLS, 3)


def test_a_worker_that_is_silent_for_long_is_dead(machines, objects, clock):
    one = worker(machines[0], clock)  # never left: it was killed
    with worker(machines[1], clock) as other:
        one.claim(CELLS, 3)
        assert other.claim(CELLS, 3) == []
        clock[0] += 80
        one.renew()
        assert other.claim(CELLS, 3) == []
        clock[0] += 80
        assert other.claim(CELLS, 3) == []
        clock[0] += 20
        assert sorted(other.claim(CELLS, 3)) == sorted(CELLS)
        one.renew()  # it was only suspended: it has lost its claims
        assert one._held == {}
        one.release(CELLS)
        assert len(objects.names()) == 3


@pytest.mark.parametrize("request_", ["remove", "create"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_renewal_while_cells_are_taken_over_takes_none_away(
    machines, objects, clock, monkeypatch, request_, before
):
    """The thread that renews may come between any two requests. Then objects of the dead worker are
    still there."""
    worker(machines[0], clock).claim(CELLS, 3)  # never left: it was killed
    with worker(machines[1], clock) as other:
        for _ in range(2):
            assert other.claim(CELLS, 3) == []
            clock[0] += 50
        usual = getattr(remote.Store, request_)

        def renewing(*args):
            if before:
                assert other.renew()
            done = usual(*args)
            assert other.renew()
            return done

        monkeypatch.setattr(remote.Store, request_, renewing)
        assert sorted(other.claim(CELLS, 3)) == sorted(CELLS)
        monkeypatch.setattr(remote.Store, request_, usual)
        assert other.renew() and other._held.keys() == CELLS.keys()
        for key in CELLS:
            lease = leases._parse(objects[f"leases/{key}.json"])
            assert lease and lease["worker"] == other.worker and lease["renewals"] > 0


def test_a_claim_that_the_store_does_not_take_is_not_kept(machines, objects, clock, monkeypatch):
    """Neither in the working copy nor in what is renewed, and others' claims stay."""
    with worker(machines[0], clock) as one:
        usual = remote.Store.create

        def away(store, path, content):
            if B in path.name:
                raise remote.StoreError("the store does not answer")
            return usual(store, path, content)

        monkeypatch.setattr(remote.Store, "create", away)
        with pytest.raises(remote.StoreError):
            one.claim(CELLS, 3)
        assert one._held.keys() == {A}
        assert [path.stem for path in one.folder.glob("*.json")] == [A]
        objects[f"leases/{B}.json"] = b"of another worker"
    assert objects[f"leases/{B}.json"] == b"of another worker"
    assert objects[f"leases/{A}.json"] == b""  # given up


def test_who_could_not_look_for_long_counts_anew(machines, objects, clock):
    """While the store was away, nobody could renew either."""
    with worker(machines[0], clock) as one, worker(machines[1], clock) as other:
        one.claim(CELLS, 3)
        assert other.claim(CELLS, 3) == []
        clock[0] += 200
        assert other.claim(CELLS, 3) == []
        one.renew()
        clock[0] += 60
        assert other.claim(CELLS, 3) == [] and len(one._held) == 3


@pytest.mark.parametrize("seconds", [60.0, 90.0, 200.0])
@pytest.mark.parametrize("seed", range(4))
def test_an_outage_of_the_store_costs_no_claim(machines, monkeypatch, seconds, seed):
    """Another worker looks before, during and after it, while the holder of three cells lives."""
    clock, begin, end = Clock(), 29.0 + 6.0 * seed, 500.0
    monkeypatch.setattr(remote, "PAUSE", 0.5)
    monkeypatch.setattr(remote.time, "sleep", clock.sleep)
    monkeypatch.setattr(remote, "random", random.Random(seed))

    def failing(usual):
        def request(*args, **options):
            clock.sleep(0.05)
            if begin <= clock.now < begin + seconds:
                raise OSError("503 Slow Down")
            return usual(*args, **options)

        return request

    for name in ("find", "pipe_file", "cat_file", "rm_file"):
        monkeypatch.setattr(MemoryFileSystem, name, failing(getattr(MemoryFileSystem, name)))
    of = lambda machine: Leases(machine.folder(), clock=lambda: clock.now, threaded=False)
    one, other = map(of, machines)

    def holds():
        assert len(one.claim(CELLS, 3)) == 3
        pause = one.renewal
        while clock.now < end:
            clock.sleep(pause)
            pause = one.renewal if one.renew() else leases.AGAIN
        assert one._held.keys() == CELLS.keys()

    def waits():
        while clock.now < end:
            with contextlib.suppress(remote.Refusal):
                assert other.claim(CELLS, 3) == [], clock.now
            clock.sleep(sharing.WAIT)

    clock.run([(0.0, holds), (1.0, waits)])


def test_a_listing_that_is_only_slow_does_not_keep_a_dead_claim(machines, clock, monkeypatch):
    usual = MemoryFileSystem.find

    def slow(*args, **options):
        clock[0] += 25
        return usual(*args, **options)

    one = worker(machines[0], clock)  # never left: it was killed
    with worker(machines[1], clock) as other:
        assert len(one.claim(CELLS, 3)) == 3
        monkeypatch.setattr(MemoryFileSystem, "find", slow)
        begun = clock[0]
        while not other.claim(CELLS, 3):
            assert clock[0] - begun < 2 * leases.EXPIRY
            clock[0] += 10


def test_a_renewal_that_the_store_does_not_take_is_told(machines, objects, clock, monkeypatch):
    with worker(machines[0], clock) as one:
        one.claim(CELLS, 3)
        assert one.renew()

        def away(*_, **__):
            raise remote.StoreError("the store does not answer")

        put = remote.Store.put
        monkeypatch.setattr(remote.Store, "put", away)
        assert not one.renew() and len(one._held) == 3

        # One that fails for good does not keep the others from being renewed.
        def away_for_one(store, path, *rest, **more):
            return away() if A in path.name else put(store, path, *rest, **more)

        monkeypatch.setattr(remote.Store, "put", away_for_one)
        before = {key: one._held[key]["renewals"] for key in CELLS}
        assert not one.renew() and not one.renew()
        assert all(one._held[key]["renewals"] > before[key] for key in (B, C))


def test_a_process_that_is_gone_from_this_machine_holds_nothing(machines, objects, clock):
    one = worker(machines[0], clock)
    leases._ACTIVE.add(one.worker)
    one.claim(CELLS, 3)
    with worker(machines[0], clock) as other:
        assert other.claim(CELLS, 3) == []
        leases._ACTIVE.discard(one.worker)  # as if its process had ended
        assert sorted(other.claim(CELLS, 3)) == sorted(CELLS)


def test_who_computes_is_known_of_the_first_cell(machines, objects, clock):
    with worker(machines[0], clock) as one, worker(machines[1], clock) as other:
        one.claim(CELLS, 3)
        assert other.claim(CELLS, 3) == []
        (known,) = other.holders([CELLS])
        assert leases.described(known).startswith("process ") and known["label"] == "first"


def test_a_cell_stored_since_the_listing_is_told_with_the_others(machines, objects, clock):
    rows = {"seed": [0], "round": [1], "T": [1], "quantity": ["cost"], "value": [0.0]}
    folder = machines[0].folder()
    with worker(machines[0], clock) as one:
        for key in (A, B):
            objects[f"cells/{key}.parquet"] = encode(
                key, rows, {**MANIFEST, "spec": cell().to_dict()}
            )
        (claimed,) = one.claim({A: "first"}, 3)
        assert claimed == A and cell_path(folder, A).exists()
        assert one.stored(CELLS) == [A, B] and not cell_path(folder, B).exists()


def test_a_worker_that_waits_asks_less_and_less(machines, objects, billed, monkeypatch):
    now = [0.0]
    one = Leases(machines[0].folder(), renewal=1e6, clock=lambda: now[0])
    one.claim(CELLS, 3)
    with Leases(machines[1].folder(), renewal=1e6, clock=lambda: now[0], expiry=1e9) as other:
        billed.clear()
        for _ in range(600):  # the runner asks every second
            assert other.claim(CELLS, 3) == []
            now[0] += 1.0
    assert 20 <= billed["list"] <= 50 and billed["get"] == 1 and billed["put"] == 0


def compute(folder, chosen):
    return runner.compute(chosen, folder, display=Silent(), stop=threading.Event())


def test_two_machines_share_the_cells_and_end_in_the_same_bytes(machines, objects, monkeypatch):
    monkeypatch.setattr(sharing, "WAIT", 0.01)
    monkeypatch.setattr(leases, "LOOKS", (0.05, 0.05))
    folders, chosen, ends = [machine.folder() for machine in machines], cells(), {}
    threads = [
        threading.Thread(target=lambda f=folder: ends.update({f: compute(f, chosen)}))
        for folder in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [key for end in ends.values() for key in end.done]
    assert sorted(done) == sorted(cell_key(each, fingerprint()) for each in chosen)
    alone = machines[0].root / "alone"
    compute(alone, chosen)
    for key in done:
        content = cell_path(alone, key).read_bytes()
        assert objects[f"cells/{key}.parquet"] == content
    for folder, end in ends.items():  # nobody needs to read the cells of the other
        here = {path.stem for path in (folder / "cells").glob("*.parquet")}
        assert {*end.done} <= here and {*end.done, *end.present} == {*done}
    assert {name.partition("/")[0] for name in objects.names()} == {"cells", "learned", "log"}


def test_the_number_of_requests_per_cell_is_small_and_constant(machines, billed, monkeypatch):
    """What docs/guides/batch.md says of it, however long a cell takes: the worker looks, and stores
    its log, whenever it might."""
    monkeypatch.setattr(leases, "LOOKS", (0.0, 0.0))
    monkeypatch.setattr(leases, "LOG_GROWTH", 0.0)
    counts = []
    for machine, number in zip(machines, (2, 4), strict=True):
        folder = machine.folder(f"memory://bucket/{number}", writing=True)
        billed.clear()
        compute(folder, cells()[:number])
        counts.append({**billed})
    each = {kind: (counts[1][kind] - counts[0].get(kind, 0)) / 2 for kind in counts[1]}
    assert each == {"list": 2, "put": 4, "get": 4, "delete": 1}
