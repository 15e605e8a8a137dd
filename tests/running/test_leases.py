"""Leases: one worker per cell, and what is left behind by one that is gone."""

import errno
import json
import os
import subprocess
import sys
import threading

import pytest

from irl_bench.core.cell import cell_key, fingerprint
from irl_bench.running import leases, runner, sharing
from irl_bench.running.console import Silent
from irl_bench.running.leases import Leases
from irl_bench.storage import untrusted
from irl_bench.storage.files import WriteError
from tests.worlds import toys
from tests.worlds.toys import cell

CELLS = {"aa": "first", "bb": "second", "cc": "third"}


@pytest.fixture
def clock():
    """A clock that stands still unless it is moved: `clock[0] += seconds`."""
    return [0.0]


def worker(out, clock):
    return Leases(out, expiry=90.0, renewal=1e6, clock=lambda: clock[0])


def of_another_machine(out, key, **changes):
    """Writes a lease as a worker on another machine would."""
    lease = {
        "worker": "other", "host": "elsewhere", "name": "elsewhere", "pid": 1, "since": 0.0,
        "renewals": 0, "label": "theirs", **changes,
    }  # fmt: skip
    (out / "leases").mkdir(exist_ok=True)
    (out / "leases" / f"{key}.json").write_text(json.dumps(lease))


def test_a_cell_has_one_worker(tmp_path, clock):
    with worker(tmp_path, clock) as one, worker(tmp_path, clock) as other:
        assert one.claim(CELLS, 2) == ["aa", "bb"]
        assert other.claim(CELLS, 2) == ["cc"] and other.claim(CELLS, 2) == []
        one.release(["aa"])
        assert other.claim(CELLS, 2) == ["aa"]
        assert leases.all_of(tmp_path)["bb"]["label"] == "second"
    assert leases.all_of(tmp_path) == {}


def test_a_process_that_is_gone_holds_nothing(tmp_path, clock):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    of_another_machine(tmp_path, "aa", host=leases.here(), pid=gone.pid)
    of_another_machine(tmp_path, "bb", host=leases.here(), pid=os.getpid())
    of_another_machine(tmp_path, "cc", host=leases.here(), pid=os.getppid())
    with worker(tmp_path, clock) as one:
        assert one.claim(CELLS, 3) == ["aa", "bb"]  # the parent lives


def test_another_machine_holds_a_cell_until_it_was_silent_for_long(tmp_path, clock):
    of_another_machine(tmp_path, "aa")
    with worker(tmp_path, clock) as one:
        assert one.claim({"aa": ""}, 1) == []
        clock[0] += 80
        of_another_machine(tmp_path, "aa", renewals=1)
        assert one.claim({"aa": ""}, 1) == []
        clock[0] += 80
        assert one.claim({"aa": ""}, 1) == []
        clock[0] += 20
        assert one.claim({"aa": ""}, 1) == ["aa"]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"{}", b"[1]", b"null", b'{"worker": 1}'])
def test_a_damaged_lease_is_no_lease(tmp_path, clock, content):
    (tmp_path / "leases").mkdir()
    (tmp_path / "leases" / "aa.json").write_bytes(content)
    assert leases.all_of(tmp_path) == {}
    with worker(tmp_path, clock) as one:
        assert one.claim({"aa": ""}, 1) == ["aa"]


def test_a_lease_that_cannot_be_read_is_held(tmp_path, clock, monkeypatch):
    """As on NFS, while its owner replaces it. One that stays so runs out like any other."""
    only = {"aa": "first"}
    with worker(tmp_path, clock) as one, worker(tmp_path, clock) as other:
        one.host = "elsewhere"
        assert one.claim(only, 1) == ["aa"]
        content = untrusted.content

        def stale(path, *rest):
            raise OSError(errno.ESTALE, "Stale file handle", str(path))

        monkeypatch.setattr(untrusted, "content", stale)
        assert other.claim(only, 1) == []
        monkeypatch.setattr(untrusted, "content", content)
        assert other.claim(only, 1) == []
        monkeypatch.setattr(untrusted, "content", stale)
        clock[0] += 91
        assert other.claim(only, 1) == ["aa"]


def test_time_in_which_a_file_system_does_not_answer_is_not_counted(tmp_path, clock, monkeypatch):
    """Its owner cannot renew it either, on the same file system."""
    of_another_machine(tmp_path, "aa")
    usual = untrusted.content

    def slow(*arguments):
        clock[0] += 200
        return usual(*arguments)

    with worker(tmp_path, clock) as one:
        assert one.claim({"aa": ""}, 1) == []
        monkeypatch.setattr(untrusted, "content", slow)
        assert one.claim({"aa": ""}, 1) == []
        monkeypatch.setattr(untrusted, "content", usual)
        clock[0] += 80
        assert one.claim({"aa": ""}, 1) == []
        clock[0] += 20
        assert one.claim({"aa": ""}, 1) == ["aa"]


def test_a_lease_that_cannot_be_read_is_not_written_over(tmp_path, clock, monkeypatch):
    """Another worker may hold the cell by now."""
    with worker(tmp_path, clock) as one:
        one.claim({"aa": ""}, 1)
        of_another_machine(tmp_path, "aa")
        with monkeypatch.context() as broken:
            broken.setattr(untrusted, "content", lambda *_: (_ for _ in ()).throw(OSError()))
            assert not one.renew()
        assert leases.all_of(tmp_path)["aa"]["worker"] == "other"
        assert one.renew() and not one._held


def test_a_claim_that_cannot_be_renewed_keeps_no_other_from_it(tmp_path, clock, monkeypatch):
    usual = leases.write_here

    def write(path, content):
        if path.stem == "aa":
            raise WriteError("no permission")
        usual(path, content)

    with worker(tmp_path, clock) as one:
        one.claim(CELLS, 3)
        monkeypatch.setattr(leases, "write_here", write)
        for _ in range(2):
            assert not one.renew()
        renewals = {key: lease["renewals"] for key, lease in leases.all_of(tmp_path).items()}
        assert renewals == {"aa": 0, "bb": 1, "cc": 1}


def test_a_renewal_that_failed_is_tried_again_soon(tmp_path, clock, monkeypatch):
    with worker(tmp_path, clock) as one:
        waits = []
        answers = iter([True, False, False, True])
        one.renewal = 30.0
        monkeypatch.setattr(one, "renew", lambda: next(answers))
        monkeypatch.setattr(one._ended, "wait", lambda s: waits.append(s) or len(waits) > 4)
        one._keep_renewing()
        assert waits == [30.0, 30.0, leases.AGAIN, leases.AGAIN, 30.0]


def test_a_claim_is_renewed_unless_another_worker_has_it_now(tmp_path, clock):
    with worker(tmp_path, clock) as one:
        one.claim(CELLS, 2)
        of_another_machine(tmp_path, "bb")
        one.renew()
        held = leases.all_of(tmp_path)
        assert held["aa"]["renewals"] == 1 and held["bb"]["worker"] == "other"
    assert leases.all_of(tmp_path).keys() == {"bb"}


def test_a_worker_that_makes_no_progress_loses_its_claims(tmp_path, clock):
    with worker(tmp_path, clock) as hung, worker(tmp_path, clock) as other:
        assert hung.claim(CELLS, 1) == ["aa"]

        def passes(seconds):
            """Time passes, and the thread of the hung worker renews its claims meanwhile."""
            for _ in range(seconds // 60):
                clock[0] += 60
                hung.renew()
                other.holders([CELLS])

        for _ in range(3):  # a worker that moves on keeps them
            passes(3000)
            hung.moved()
        assert other.claim({"aa": ""}, 1) == []
        passes(3000)
        assert other.claim({"aa": ""}, 1) == []
        passes(900)
        assert other.claim({"aa": ""}, 1) == ["aa"]
        hung.moved()
        hung.renew()  # it goes on after all
        assert leases.all_of(tmp_path)["aa"]["worker"] == other.worker


def test_every_step_of_a_cell_counts_as_progress(tmp_path, monkeypatch):
    steps, moved = [], Leases.moved
    monkeypatch.setattr(Leases, "moved", lambda self: (steps.append(1), moved(self)))
    stop = threading.Event()
    spec = cell()
    summary = runner.compute([spec], tmp_path, display=Silent(), stop=stop, chunk_rounds=1)
    assert len(summary.done) == 1
    blocks = spec.episodes // spec.block + spec.eps_episodes // spec.eps_block
    assert len(steps) >= 1 + toys.ROUNDS + blocks  # the claim, and every call


def test_two_workers_share_the_cells_and_each_is_computed_once(tmp_path):
    cells = [cell(first_seed=3 * group, mode=m) for group in range(3) for m in ("nominal",)]
    cells += [cell(mode="recoverable", first_seed=3 * group) for group in range(3)]
    ends, stop = [], threading.Event()
    work = lambda: ends.append(runner.compute(cells, tmp_path, display=Silent(), stop=stop))
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [key for end in ends for key in end.done]
    assert sorted(done) == sorted(cell_key(each, fingerprint()) for each in cells)
    assert all(len(end.done) + len(end.present) == len(cells) for end in ends)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(cells)
    assert leases.all_of(tmp_path) == {}


class Told(Silent):
    """Keeps the lines, and calls `then` after each."""

    def __init__(self, then):
        self.lines, self.then = [], then

    def note(self, text):
        self.lines.append(text)
        self.then()


def test_a_worker_waits_for_another_ones_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "WAIT", 0.01)
    spec = cell()
    key = cell_key(spec, fingerprint())
    (tmp_path / "cells").mkdir()
    of_another_machine(tmp_path, key, name="far", pid=7)
    told = Told(lambda: (tmp_path / "leases" / f"{key}.json").unlink())
    summary = runner.compute([spec], tmp_path, display=told, stop=threading.Event())
    assert told.lines == ["waiting for cells that process 7 on far computes"]
    assert summary.done == [key]


def test_a_worker_that_waits_can_be_stopped(tmp_path, monkeypatch):
    spec, stop = cell(), threading.Event()
    of_another_machine(tmp_path, cell_key(spec, fingerprint()))
    with pytest.raises(runner.Interrupted):
        runner.compute([spec], tmp_path, display=Told(stop.set), stop=stop)
