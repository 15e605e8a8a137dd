"""Runs in an object store are looked at, checked, joined and reported from there."""

import json
import time
import types

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from irl_bench.cli import merge as cli_merge
from irl_bench.cli import program
from irl_bench.cli import report as cli_report
from irl_bench.cli import status as cli_status
from irl_bench.core.settings import BadInput
from irl_bench.running.leases import EXPIRY, Leases
from irl_bench.storage import files, remote
from irl_bench.storage.cells import cell_path
from irl_bench.storage.plans import read_plan
from irl_bench.upkeep import verify
from irl_bench.upkeep.status import status
from tests.stores import URL

NAMES = ("cells/*", "learned/*", "plan.json")


@pytest.fixture
def store(runs, machines):
    """Puts a run of `runs` into the store."""

    def put(name, url=URL):
        folder = machines[0].folder(url)
        for pattern in NAMES:
            for path in (runs / name).glob(pattern):
                files.write_atomic(folder / path.relative_to(runs / name), path.read_bytes())
        (folder / "log.jsonl").write_bytes((runs / name / "log.jsonl").read_bytes())
        remote.push(folder)
        files.STORES.clear()  # other programs follow
        machines[1].folder(url)  # whose machine has nothing yet
        files.STORES.clear()

    return put


def of_command(monkeypatch, command, *arguments, **values):
    """Runs a command in this process, whose memory is the store."""
    monkeypatch.setattr(program, "remaining", lambda _: list(arguments))
    command.main(types.SimpleNamespace(**values))


def test_the_status_copies_no_cell(store, runs, billed):
    store("whole")
    billed.clear()
    with remote.copied(URL, results=False) as folder:
        text, complete = status(folder)
        assert list(folder.glob("cells/*")) == [] and not (folder / "learned").exists()
    assert complete and text == status(runs / "whole")[0]
    assert billed == {"list": 1, "get": 2}  # the plan and the log


def test_the_status_says_who_computes(store, runs, machines):
    store("one")
    plan = read_plan(runs / "one")
    assert plan
    todo = [
        key
        for entry in plan["entries"]
        for key in entry["cells"]
        if not cell_path(runs / "one", key).exists()
    ]
    with Leases(machines[0].folder(), renewal=1e6) as leases:
        leases.claim({todo[0]: "a cell"}, 1)
        with remote.copied(URL, results=False) as folder:
            assert "running: a cell, process " in status(folder)[0]
    with remote.copied(URL, results=False) as folder:
        assert "running:" not in status(folder)[0]


def test_who_was_not_seen_for_long_by_the_stores_clock_is_lost(
    store, todo, machines, objects, monkeypatch
):
    store("one")
    leases = Leases(machines[0].folder(), renewal=1e6)
    leases.claim({todo: "a cell"}, 1)
    name = f"leases/{todo}.json"
    objects[name] = json.dumps({**json.loads(objects[name]), "host": "elsewhere"}).encode()
    now = time.time()
    for later, running in ((0, True), (2 * EXPIRY, False)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        with remote.copied(URL, results=False) as folder:
            assert ("running:" in status(folder)[0]) == running


@pytest.mark.parametrize("folder", ["cells", "learned"])
def test_a_truncated_object_is_found(store, objects, folder):
    store("whole")
    name = next(name for name in objects.names() if name.startswith(f"{folder}/"))
    objects[name] = objects[name][:-9]
    with remote.copied(URL) as copy:
        (problem,) = verify.check(copy).problems
        assert problem.startswith(f"{copy}/{name} ")


def test_what_verify_prints_names_objects(store, objects, machines, monkeypatch, capsys):
    from irl_bench.cli import verify as cli_verify
    from irl_bench.running import process

    store("whole")
    name = next(name for name in objects.names() if name.startswith("cells/"))
    objects[name] = objects[name][:-9]
    monkeypatch.setattr(process, "configure", lambda: None)
    monkeypatch.setattr(program, "remaining", lambda _: [URL])
    values = types.SimpleNamespace(again=0, cells=None, seed=None, outside=False)
    assert cli_verify.main(values) == cli_verify.WRONG
    said = capsys.readouterr().out
    assert f"{URL}/{name} is truncated" in said and "tmp" not in said


def test_a_report_is_written_back(store, runs, objects, machines, monkeypatch, capsys):
    store("whole")
    monkeypatch.setattr(remote.folders, "cache", lambda: machines[1].root)
    of_command(monkeypatch, cli_report, URL, partial=False, stored=None, films=False)
    assert f"report: {URL}/report.html" in capsys.readouterr().out
    for name in ("verdicts.json", "report.html"):
        assert objects[name] == (runs / "whole" / name).read_bytes()


def test_shares_in_a_store_are_joined_in_a_store(store, runs, objects, machines, monkeypatch):
    store("one", "memory://bucket/one")
    store("other", "memory://bucket/other")
    monkeypatch.setattr(remote.folders, "cache", lambda: machines[1].root)
    shares = ("memory://bucket/one", "memory://bucket/other")
    of_command(monkeypatch, cli_merge, *shares, out=URL)
    for pattern in NAMES:
        for path in (runs / "whole").glob(pattern):
            assert objects[path.relative_to(runs / "whole").as_posix()] == path.read_bytes()
    assert objects["verdicts.json"] == (runs / "whole" / "verdicts.json").read_bytes()


def test_a_store_that_refuses_a_look_keeps_nothing(machines, monkeypatch):
    def find(*_, **__):
        raise PermissionError("no")

    monkeypatch.setattr(MemoryFileSystem, "find", find)
    with pytest.raises(remote.Refusal) as error:
        of_command(monkeypatch, cli_status, URL, watch=False, cells=False)
    assert str(error.value).startswith(f"{URL}: access is denied (no); nearest: ")


def test_what_holds_no_run_is_named_by_its_url(machines, monkeypatch):
    with pytest.raises(BadInput, match=f"^{URL} is not the folder of a run") as error:
        of_command(monkeypatch, cli_status, URL, watch=False, cells=False)
    assert "tmp" not in str(error.value)
