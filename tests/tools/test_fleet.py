"""Simulated fleets on an object store: the clock, a small sweep with deaths, and the record of the
guide."""

import collections
import json
import pathlib
import threading

import pytest

from irl_bench.cli import bench
from irl_bench.core.settings import BadInput
from irl_bench.tools.fleet import record
from irl_bench.tools.fleet.clock import Clock, Killed
from irl_bench.tools.fleet.simulation import content_of, simulate
from irl_bench.tools.fleet.stores import LIMITS, PRICES, Bucket, server
from tests.tools.bench_flags import values

ROOT = pathlib.Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "scale.md"
RECORD = ROOT / "reliability" / "fleet.json"


# The clock.


def test_time_moves_on_when_all_sleep():
    clock, seen = Clock(), []

    def work(name, *naps):
        for nap in naps:
            clock.sleep(nap)
            seen.append((clock.now, name))

    clock.run([(0.0, lambda: work("a", 1.0, 4.0)), (0.5, lambda: work("b", 2.0, 2.5))])
    assert seen == [(1.0, "a"), (2.5, "b"), (5.0, "a"), (5.0, "b")]


def test_one_thread_runs_at_a_time_and_equal_fleets_take_equal_steps():
    def steps():
        clock, running, seen = Clock(), threading.Lock(), []

        def work(number):
            for step in range(20):
                assert running.acquire(blocking=False)
                seen.append((number, step, clock.now))
                running.release()
                clock.sleep((number * 7 + step * 3) % 5)

        clock.run([(0.0, lambda n=n: work(n)) for n in range(50)])
        return seen

    assert steps() == steps()


def test_an_error_ends_the_run_once_the_others_are_done():
    clock, ended = Clock(), []

    def wrong():
        clock.sleep(1.0)
        raise ValueError("a worker is broken")

    def killed():
        raise Killed

    with pytest.raises(ValueError, match="broken"):
        clock.run([(0.0, wrong), (0.0, killed), (0.0, lambda: (clock.sleep(9.0), ended.append(1)))])
    assert ended == [1] and clock.now == 9.0


# The fleet.


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    return simulate(12, 40, dying=2, store="memory", place=tmp_path_factory.mktemp("fleet"))


def test_every_cell_is_stored_once_with_its_bytes(fleet):
    objects = fleet[0].bucket.find("fleet/run", "cells/")
    assert len(objects) == 40
    for key, spec in fleet[0].cells.items():
        assert fleet[0].bucket.cat_file(f"fleet/run/cells/{key}.parquet") == content_of(key, spec)
    stored = collections.Counter(key for _, key, _ in fleet[0].computed)
    assert stored.keys() == fleet[0].cells.keys()
    assert fleet[1]["computed_twice"] == sum(stored.values()) - 40 <= 2  # at a takeover alone


def test_the_cells_of_dead_workers_are_taken_over(fleet):
    died = fleet[0].died
    assert sorted(died) == [0, 1]
    for number, (when, key) in died.items():
        takers = [(at, who) for at, other, who in fleet[0].computed if other == key]
        assert takers and all(who != number and at > when for at, who in takers)
        assert not any(who == number and at > when for at, _, who in fleet[0].begun)
    low, high = fleet[1]["taken_over_after"]
    assert 30.0 <= low <= high <= 90.0 + 90.0  # a lease, and a cell that the taker still computes


def test_one_worker_writes_the_report_and_all_wait_for_it(fleet):
    assert len(fleet[0].reports) == 1 == fleet[1]["reports"]
    assert len(fleet[0].ended) == 10 and min(fleet[0].ended) >= fleet[0].reports[0][0]
    names = fleet[0].bucket.find("fleet/run", "")
    assert "fleet/run/report.html" in names
    left = [name for name in names if "/leases/" in name]
    assert len(left) == 1 and left[0].endswith(".written")


def test_requests_of_a_cell_are_those_of_the_guide(fleet):
    """What docs/guides/batch.md says of a cell, and what a worker asks for beside it."""
    parts = collections.Counter(fleet[1]["requests_by_folder"])
    cells, workers = 40, 12
    assert parts["PUT cells"] == parts["PUT learned"] == parts["GET learned"] == cells
    assert parts["LIST checkpoints"] == cells + 2  # of those that died too
    assert 3 * cells <= parts["GET cells"] <= 3 * cells + 4 * workers
    assert parts["PUT log"] <= cells
    assert parts["LIST cells"] <= 5 * workers
    assert parts["LIST leases"] <= cells + 15 * workers
    assert parts["DELETE leases"] <= cells + 4 * workers
    assert parts["PUT plan and report"] + parts["GET plan and report"] <= 9 * workers


def test_no_worker_but_the_writer_of_the_report_reads_cells_of_others(fleet):
    writer = fleet[0].reports[0][1]
    own = collections.defaultdict(set)
    for _, key, who in fleet[0].computed:
        own[who].add(key)
    met = 0
    for number in range(2, 12):
        folder = pathlib.Path(fleet[0].places[number]) / "cells"
        here = {path.stem for path in folder.glob("*.parquet")}
        if number == writer:
            assert here == fleet[0].cells.keys()
        else:
            met += len(here - own[number])
    assert met <= 3 * 12  # claimed in the moment in which another worker stored them


def test_equal_fleets_ask_for_the_same(fleet):
    again = simulate(12, 40, dying=2, store="memory")[1]
    assert again["requests_by_folder"] == fleet[1]["requests_by_folder"]
    assert again["end_seconds"] == fleet[1]["end_seconds"]


def test_one_worker_alone_writes_its_report():
    figures = simulate(1, 3, dying=0, store="memory")[1]
    assert figures["reports"] == 1 and figures["computed_twice"] == 0


def test_an_s3_server_answers_as_many_requests_as_are_counted():
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    for workers, cells, dying in ((4, 6, 1), (1, 1, 0)):  # one server after the other
        there = simulate(workers, cells, dying=dying, store="s3")[1]
        here = simulate(workers, cells, dying=dying, store="memory")[1]
        assert there["answered_by_server"] == there["requests"] == here["requests"]
        assert there["requests_by_folder"] == here["requests_by_folder"]


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "moto.server", None)
    with pytest.raises(BadInput, match=r"nearest: pip install .*--store=memory"), server():
        pass


def test_a_bucket_in_memory_lists_what_begins_alike():
    bucket = Bucket()
    for name in ("run/cells/a", "run/cells/b", "run/checkpoints/a/1", "run/plan.json"):
        bucket.pipe_file(f"fleet/{name}", name.encode())
    with pytest.raises(FileExistsError):
        bucket.pipe_file("fleet/run/cells/a", b"", mode="create")
    assert [*bucket.find("fleet/run", "cells/")] == ["fleet/run/cells/a", "fleet/run/cells/b"]
    assert [*bucket.find("fleet/run", "checkpoints/a/")] == ["fleet/run/checkpoints/a/1"]
    assert len(bucket.find("fleet/run", "")) == 4 and bucket.find("fleet/run", "leases/") == {}
    bucket.rm_file("fleet/run/cells/a")
    with pytest.raises(FileNotFoundError):
        bucket.cat_file("fleet/run/cells/a")


# The command and its record.


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["--workers=0"], "nearest: 1"),
        (["--workers=10,-3"], "nearest: 1"),
        (["--workers=many"], "nearest: 10"),
        (["--workers=100000"], "nearest: 5000"),
        (["--workers=5000", "--cells_each=1000"], "nearest: 1000"),
    ],
)
def test_a_wrong_number_of_workers_is_one_line(words, near, tmp_path):
    with pytest.raises(BadInput) as error:
        bench.scale(values("--suite=scale", *words, f"--out={tmp_path / 'fleet.json'}"))
    assert near in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_fleets_are_added_to_a_record(tmp_path, capsys):
    out = tmp_path / "fleet.json"
    for workers in ("2,4", "4"):
        bench.scale(values(f"--workers={workers}", "--store=memory", f"--out={out}"))
    fleets = json.loads(out.read_text())["fleets"]
    assert [*fleets] == ["memory-2-workers-2-cells", "memory-4-workers-4-cells"]
    assert fleets["memory-4-workers-4-cells"]["command"].startswith("python launch/bench.py ")
    assert "4 workers, 4 cells (memory): " in capsys.readouterr().out


def test_the_guide_shows_what_is_stored():
    stored = json.loads(RECORD.read_text())
    text = GUIDE.read_text()
    assert text == record.page(text, stored)
    for name in record.TABLES:
        assert f"<!-- fleet: {name} -->" in text, name
    assert stored["prices_usd"] == PRICES and stored["limits_per_second"] == LIMITS


def test_the_stored_fleets_are_sound():
    fleets = json.loads(RECORD.read_text())["fleets"]
    assert max(one["workers"] for one in fleets.values()) == 1000
    for name, one in fleets.items():
        assert one["reports"] == 1 and one["computed_twice"] <= one["died"], name
        for side, most in one["peak_per_second"].items():
            assert most <= LIMITS[side], name
        if name.startswith("s3"):
            assert one["answered_by_server"] == one["requests"], name
            alike = fleets.get(name.replace("s3", "memory"), one)
            assert one["requests_by_folder"] == alike["requests_by_folder"], name


def test_the_plan_lies_on_the_line_through_two_fleets():
    def one(cells):
        requests = dict.fromkeys(PRICES, 100 + 7 * cells)
        return {
            "workers": 10,
            "cells": cells,
            "requests": requests,
            "end_seconds": 50.0 + cells,
            "ideal_seconds": cells / 1.0,
            "bytes_put": cells,
            "bytes_got": 2 * cells,
        }

    found = record.extrapolated(one(10), one(30), 1000)
    assert found["requests"] == dict.fromkeys(PRICES, 7100)
    assert found["end_seconds"] == 1050.0 and found["bytes_got"] == 2000
    assert found["usd"] == pytest.approx(7100 * sum(PRICES.values()))
