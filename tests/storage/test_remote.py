"""Run folders in an object store, here one in the memory of this process: what is put there is
checked, what comes from there cannot do harm, and a store that fails loses nothing."""

import os
import pathlib
import tempfile
import types

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from irl_bench.core.settings import BadInput
from irl_bench.launchers import tasks
from irl_bench.running import leases
from irl_bench.storage import artifacts, cells, checkpoints, files, remote, untrusted
from irl_bench.storage.cells import cell_path, encode, is_done, learned_path, look
from irl_bench.storage.files import StoreError, write_atomic, write_here
from irl_bench.storage.plans import read_plan, update_plan, write_plan
from irl_bench.upkeep import runs
from tests.storage.test_cells import KEY, MANIFEST, PLAN
from tests.stores import URL
from tests.worlds import toys

ROWS = {"seed": [0, 1], "round": [1, 1], "T": [1, 1], "quantity": ["cost", "cost"], "value": [0, 1]}


def cell(key=KEY, value=1.0):
    manifest = {**MANIFEST, "spec": toys.cell().to_dict()}
    return encode(key, {**ROWS, "value": [0.0, value]}, manifest)


def test_what_is_written_is_in_the_store_and_on_another_machine(machines, objects):
    one, two = (machine.folder(writing=True) for machine in machines)
    assert one != two and objects.names() == []  # the probe is gone
    write_atomic(cell_path(one, KEY), cell())
    assert objects.names() == [f"cells/{KEY}.parquet"]
    assert objects[f"cells/{KEY}.parquet"] == cell_path(one, KEY).read_bytes() == cell()
    cells.fetch(two, [KEY])
    assert is_done(two, KEY) and cell_path(two, KEY).read_bytes() == cell()


def test_a_plain_folder_needs_no_store(tmp_path, monkeypatch):
    monkeypatch.setattr(remote.importlib, "import_module", lambda name: pytest.fail(name))
    assert remote.folder(tmp_path, writing=True) == tmp_path
    with remote.copied(str(tmp_path)) as folder:
        assert folder == tmp_path
    write_atomic(tmp_path / "cells" / "a", b"a")
    assert not is_done(tmp_path, KEY) and not look(tmp_path, KEY)


def test_a_cell_seen_late_is_found_by_looking(machines, objects):
    """A listing may be older than the cell."""
    folder = machines[0].folder()
    objects[f"cells/{KEY}.parquet"] = cell()
    assert not is_done(folder, KEY)
    assert look(folder, KEY) and is_done(folder, KEY)


def test_a_cell_that_was_removed_since_the_listing_is_not_done(machines, objects):
    objects[f"cells/{KEY}.parquet"] = cell()
    folder = machines[0].folder()
    del objects[f"cells/{KEY}.parquet"]
    assert not is_done(folder, KEY)


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[:-9], lambda c: b"", lambda c: c[:50] + bytes([c[50] ^ 1]) + c[51:]],
    ids=["truncated", "empty", "flipped"],
)
def test_a_damaged_object_is_named_and_never_taken_as_done(machines, objects, damage):
    objects[f"cells/{KEY}.parquet"] = damage(cell())
    folder = machines[0].folder()
    for attempt in (is_done, look, lambda out, key: cells.fetch(out, [key])):
        with pytest.raises(StoreError, match=f"^{URL}/cells/{KEY}.parquet "):
            attempt(folder, KEY)
        assert not cell_path(folder, KEY).exists()
    objects[f"cells/{KEY}.parquet"] = cell()  # somebody has mended it
    assert is_done(folder, KEY)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PAR1" + b"x" * 500 + b"PAR1"])
def test_an_object_that_is_too_small_for_a_cell_is_named_unread(machines, objects, billed, content):
    """A worker reads no cells of others, and would take it for one."""
    folder = machines[0].folder()
    objects[f"cells/{KEY}.parquet"] = content
    billed.clear()
    with pytest.raises(StoreError, match=rf"^{URL}/cells/{KEY}.* it has {len(content)} bytes; n"):
        cells.survey(folder)
    assert billed == {"list": 1}
    smallest = {name: [] for name in ROWS}
    objects[f"cells/{KEY}.parquet"] = encode(KEY, smallest, {})
    cells.survey(folder)
    assert cells.present(folder, [KEY]) == [KEY]


def test_an_object_of_another_size_than_its_copy_is_named(machines, objects):
    folder = machines[0].folder()
    write_atomic(cell_path(folder, KEY), cell())
    objects[f"cells/{KEY}.parquet"] = cell()[:-9]
    with pytest.raises(StoreError, match=rf"{URL}/cells/{KEY}.* differ in size; .*verify"):
        cells.fetch(folder, [KEY])
    assert cell_path(folder, KEY).read_bytes() == cell()


class Faulty:
    """Makes requests of one kind fail: the first `count` of them, before or after they have taken
    effect."""

    def __init__(self, monkeypatch, kind, error, count=10**9, after=False):
        self.calls = 0
        usual = getattr(MemoryFileSystem, kind)

        def request(files, *args, **options):
            self.calls += 1
            if self.calls > count:
                return usual(files, *args, **options)
            if after:
                usual(files, *args, **options)
            raise error

        monkeypatch.setattr(MemoryFileSystem, kind, request)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["pipe_file", "cat_file"])
def test_a_request_that_fails_some_times_is_repeated(machines, objects, monkeypatch, kind, after):
    folder = machines[0].folder(writing=True)
    faulty = Faulty(monkeypatch, kind, OSError("slow down"), remote.TRIES - 1, after)
    write_atomic(cell_path(folder, KEY), cell())
    assert faulty.calls >= remote.TRIES and objects[f"cells/{KEY}.parquet"] == cell()


def test_other_bytes_than_were_put_are_put_again(machines, objects, monkeypatch):
    folder, usual, lies = machines[0].folder(writing=True), MemoryFileSystem.cat_file, [b"x"]
    read = lambda store, path, **_: lies.pop() if lies else usual(store, path)
    monkeypatch.setattr(MemoryFileSystem, "cat_file", read)
    write_atomic(cell_path(folder, KEY), cell())
    assert not lies and objects[f"cells/{KEY}.parquet"] == cell()
    lies[:] = [b"x"] * remote.TRIES
    with pytest.raises(remote.Refusal, match="other bytes come back"):
        write_atomic(cell_path(folder, KEY), cell())
    assert not lies


def test_what_a_store_did_not_take_is_kept_and_put_by_the_next_run(machines, objects, monkeypatch):
    folder = machines[0].folder(writing=True)
    with monkeypatch.context() as broken:
        Faulty(broken, "pipe_file", OSError("no route"))
        with pytest.raises(remote.Refusal) as error:
            write_atomic(cell_path(folder, KEY), cell())
    text = str(error.value)
    assert text.startswith(f"{URL}: the store does not answer as it should (no route); ")
    assert f"kept in {folder}; nearest: " in text and "\n" not in text
    assert is_done(folder, KEY) and objects.names() == []
    files.STORES.clear()  # as in another process
    assert machines[0].folder(writing=True) == folder
    assert objects.names() == [f"cells/{KEY}.parquet"]


OTHER = KEY[::-1]


def left_behind(folder):
    """Results of two cells in a working copy that the store lacks: (cell, learned) of each."""
    pairs = []
    for key in (KEY, OTHER):
        pairs.append((cell_path(folder, key), learned_path(folder, key)))
        for path, content in zip(pairs[-1], (cell(key), learned(key)), strict=True):
            write_here(path, content)
    return pairs


def learned(key):
    """The bytes of a learned file."""
    parts = {"policy": [np.zeros((toys.cell().width, 2), np.float32)]}
    with tempfile.TemporaryDirectory() as aside:
        return artifacts.write(pathlib.Path(aside), toys.cell(), key, parts).read_bytes()


def test_a_learned_file_is_compared_with_the_cell_in_the_store(machines, objects):
    """The machine that reads it has computed neither."""
    manifest = {**MANIFEST, "spec": toys.cell().to_dict(), "learned": "0" * 64}
    objects[f"cells/{KEY}.parquet"] = encode(KEY, ROWS, manifest)
    objects[f"learned/{KEY}.safetensors"] = learned(KEY)
    machines[1].folder()
    with pytest.raises(BadInput, match=f"^{URL}/learned/{KEY}.* is not what the stored cell"):
        artifacts.read(URL, ("policy",))
    objects[f"cells/{KEY}.parquet"] = cell()  # of an earlier version
    cell_path(machines[1].folder(), KEY).unlink()
    assert artifacts.read(URL, ("policy",)).arrays


def test_what_a_cell_has_learned_is_put_there_before_it(machines, objects, monkeypatch):
    folder, order = machines[0].folder(), []
    left_behind(folder)
    usual = remote.Store.put
    put = lambda store, path, *rest, **more: (order.append(path), usual(store, path, *rest, **more))
    monkeypatch.setattr(remote.Store, "put", put)
    remote.push(folder)
    assert [path.parent.name for path in order] == ["learned", "learned", "cells", "cells"]


@pytest.mark.parametrize("kind", ["cells", "learned"])
@pytest.mark.parametrize("damage", [lambda c: c[:-9], lambda c: b"", lambda c: c[:-1] + b"!"])
def test_a_damaged_result_is_not_put_there_and_all_others_are(machines, objects, kind, damage):
    folder = machines[0].folder()
    (own, of_own), (_, of_other) = left_behind(folder)
    wrong = of_own if kind == "learned" else own
    wrong.write_bytes(damage(wrong.read_bytes()))
    files.STORES.clear()
    with pytest.raises(StoreError, match=rf"^{wrong} is .*away and run the sweep again$"):
        machines[0].folder(writing=True)
    there = {f"cells/{OTHER}.parquet", f"learned/{of_other.name}"}
    assert {*objects.names()} == there | ({f"learned/{of_own.name}"} if kind == "cells" else set())
    for path in (own, of_own):  # as the line says
        path.unlink()
    assert machines[0].folder(writing=True) == folder


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError("Access Denied"), r"access is denied \(Access Denied\).*credentials"),
        (FileNotFoundError("NoSuchBucket"), "there is no bucket bucket.*nearest: a bucket"),
        (ConnectionError("refused"), r"does not answer as it should \(refused\)"),
        (type("NoCredentialsError", (Exception,), {})("none"), "access is denied"),
    ],
)
def test_a_store_that_refuses_is_one_line_before_anything_runs(
    machines, objects, monkeypatch, error, words
):
    faulty = Faulty(monkeypatch, "pipe_file", error)
    with pytest.raises(StoreError, match=words) as told:
        machines[0].folder(writing=True)
    assert "\n" not in str(told.value) and faulty.calls <= remote.FIRST_TRIES
    assert files.STORES == {}


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("s4://bucket/run", "s3://bucket/path"),
        ("file:///runs/a", "/runs/a"),
        ("s3://bucket/../run", "s3://bucket/run"),
        ("s3://key:secret@bucket/run", "s3://keysecretbucket/run"),
        ("s3://bucket/run?a=b", "s3://bucket/runa=b"),
        ("memory://", "memory://bucket/path"),
        ("s3://bucket//run", "s3://bucket/run"),
        ("s3:/bucket/run", "the text s3://bucket/run"),
        (pathlib.Path("s3://bucket/run"), "the text s3://bucket/run"),
    ],
)
def test_what_is_no_folder_in_a_store_is_one_line(machines, url, near):
    with pytest.raises(BadInput, match="nearest: ") as error:
        remote.folder(url)
    assert str(error.value).endswith(f"nearest: {near}") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "module", [None, types.SimpleNamespace()], ids=["without fsspec", "without s3fs"]
)
def test_a_missing_package_is_named(machines, monkeypatch, module):
    def fail(*_, **__):
        raise ImportError("Install s3fs to access S3")

    if module:
        module.filesystem = fail
    monkeypatch.setattr(remote.importlib, "import_module", (lambda _: module) if module else fail)
    with pytest.raises(BadInput, match=r"package .* missing; nearest: pip install 'irl-bench\[s3"):
        remote.folder("s3://bucket/run")
    assert files.STORES == {}


HOSTILE = [
    "../outside.json",
    "cells/../../outside.json",
    "cells/..",
    "/etc/outside.json",
    "cells//outside.json",
    ".id",
    "a b/outside.json",
    "log/../../../outside.jsonl",
    "leases/\n.json",
]


def test_a_hostile_listing_writes_nothing_outside(machines, objects, monkeypatch, tmp_path):
    """Every object of such a bucket is offered to everything that brings files in."""
    names = {f"/bucket/run/{name}": {"size": 1, "created": 0.0} for name in HOSTILE}
    names["/bucket/run/learned/good.safetensors"] = {"size": 1, "created": 0.0}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *_, **__: names)
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *_, **__: b"x")
    before = set(tmp_path.parent.rglob("*"))
    folder = machines[0].folder()
    store = files.store_of(folder)
    assert store and [p.name for p in store.listed(folder)] == ["good.safetensors"]
    remote.pull(folder, "*")
    cells.fetch(folder, ["../outside", "../../outside"])
    with remote.copied(URL) as copy:
        assert [path.name for path in copy.rglob("*") if path.is_file()] == ["good.safetensors"]
    new = {path for path in tmp_path.parent.rglob("*") if path.is_file()} - before
    assert {path.relative_to(folder).as_posix() for path in new} == {"learned/good.safetensors"}
    assert not os.path.exists("/etc/outside.json")  # noqa: PTH110


def look_at(name):
    with remote.copied(URL):
        pytest.fail(f"{name} is read")


@pytest.mark.parametrize(
    ("name", "limit", "attempts"),
    [
        (f"cells/{KEY}.parquet", cells.MOST_BYTES, [lambda out: cells.fetch(out, [KEY])]),
        (f"cells/{KEY}.parquet", cells.MOST_BYTES, [lambda out: is_done(out, KEY)]),
        (f"learned/{KEY}.safetensors", 2**32, [lambda out: artifacts.read(URL)]),
        ("log.jsonl", runs.MOST_LOG, []),
        ("log/0123abcd.jsonl", runs.MOST_LOG, []),
    ],
)
def test_an_object_that_would_fill_the_memory_is_not_read(
    machines, objects, billed, monkeypatch, name, limit, attempts
):
    objects[name] = b"x"
    usual = MemoryFileSystem.find
    about = {"size": limit + 1}
    find = lambda *args, **more: {
        each: {**seen, **about} for each, seen in usual(*args, **more).items()
    }
    monkeypatch.setattr(MemoryFileSystem, "find", find)
    folder = machines[0].folder()
    for attempt in (*attempts, look_at):
        billed.clear()
        with pytest.raises(StoreError) as told:
            attempt(folder)
        assert str(told.value) == (
            f"{URL}/{name} has {limit + 1:,} bytes, more than {limit:,}; nearest: move it away"
        )
        assert billed["get"] == 0
    about["size"] = limit
    folder = machines[1].folder()
    remote.pull(folder, name)
    assert (folder / name).read_bytes() == b"x"


def test_a_plan_that_would_fill_the_memory_is_not_read(machines, objects, monkeypatch):
    monkeypatch.setattr(untrusted, "MOST", 3)
    objects["plan.json"] = b"1234"
    with pytest.raises(StoreError, match=f"^{URL}/plan.json has 4 bytes, more than 3; nearest: "):
        machines[0].folder()


def test_a_lease_that_is_too_large_says_nothing(machines, objects):
    objects[f"leases/{KEY}.json"] = b"x" * (leases.LARGEST + 1)
    with remote.copied(URL) as copy:
        assert leases.all_of(copy) == {}


def test_checkpoints_may_have_any_size(machines, objects, monkeypatch):
    """Replay memories take gigabytes."""
    folder = machines[0].folder()
    monkeypatch.setattr(untrusted, "MOST", 10)
    checkpoints.save(of_cell(folder), 1, arrays(1), {"serial": 1})
    (path,) = remote.STORES[folder].list(of_cell(folder))
    assert remote.STORES[folder].read(path) == objects[objects.names()[0]]


def test_few_bytes_are_read_together(machines, objects, monkeypatch):
    monkeypatch.setattr(remote, "AT_ONCE", 3)
    monkeypatch.setattr(remote, "AT_ONCE_BYTES", 10)
    groups, usual = [], MemoryFileSystem.cat
    cat = lambda store, names, **more: (groups.append(names), usual(store, names, **more))[1]
    monkeypatch.setattr(MemoryFileSystem, "cat", cat)
    for number, size in enumerate((1, 1, 1, 1, 9, 9, 99)):
        objects[f"cells/{number}.parquet"] = b"x" * size
    folder = machines[0].folder()
    remote.pull(folder, "*.parquet")
    assert [len(names) for names in groups] == [3, 2, 1, 1]
    assert len([*folder.rglob("*.parquet")]) == 7


def test_a_plan_that_names_other_files_as_cells_brings_none(machines, objects):
    folder = machines[0].folder()
    objects["cells/a.parquet"] = cell("a")
    for key in ("../cells/a", "../../a", "/etc/a"):
        assert not is_done(folder, key)
        cells.fetch(folder, [key])
    assert not cell_path(folder, "a").exists()


# Checkpoints.


def arrays(value):
    return {"x": np.full(3, value, np.float32), "empty": np.zeros((0, 2))}


def of_cell(folder):
    return folder / "checkpoints" / KEY


def test_a_checkpoint_goes_on_elsewhere(machines, objects):
    one, two = (machine.folder() for machine in machines)
    for serial in range(4):
        checkpoints.save(of_cell(one), serial, arrays(serial), {"serial": serial})
    assert len(objects.names()) == checkpoints.KEPT
    restored = checkpoints.restore(of_cell(two), pytest.fail)
    assert restored is not None and restored[1] == {"serial": 3}
    assert (restored[0]["x"] == 3).all() and restored[0]["empty"].shape == (0, 2)
    checkpoints.save(of_cell(two), 4, arrays(4), {"serial": 4})
    checkpoints.remove(of_cell(two))
    assert objects.names() == [] and not of_cell(two).exists()


@pytest.mark.parametrize("damage", [lambda c: c[:-5], lambda c: b"", lambda c: c[:-1] + b"\0"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(machines, objects, damage):
    one, two = (machine.folder() for machine in machines)
    for serial in range(2):
        checkpoints.save(of_cell(one), serial, arrays(serial), {"serial": serial})
    newest = objects.names()[-1]
    objects[newest] = damage(objects[newest])
    notes = []
    restored = checkpoints.restore(of_cell(two), notes.append)
    assert restored is not None and restored[1] == {"serial": 0}
    assert len(notes) == 1 and "the one before it is used" in notes[0]
    checkpoints.remove(of_cell(two))
    assert objects.names() == []


def test_a_hostile_checkpoint_writes_nothing_outside(machines, objects, tmp_path):
    from safetensors.numpy import save

    folder = machines[0].folder()
    for name in ("../../x", "/tmp/irl_bench_x", "a/../../../x", ""):
        files_ = {name: np.zeros(1, np.uint8), "seal.json": np.zeros(1, np.uint8)}
        objects[f"checkpoints/{KEY}/000000000001.0123abcd.safetensors"] = save(files_)
        notes = []
        assert checkpoints.restore(of_cell(folder), notes.append) is None
        assert len(notes) == 1 and "it names a file" in notes[0]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# Plans and logs.


RECORD = {"u": None, "latency": 0, "horizon": 8, "nominal": "cliff"}


def plan(*worlds):
    return {**PLAN, "worlds": dict.fromkeys(worlds, RECORD)}


def test_two_machines_that_start_at_once_write_one_plan_of_both(machines, objects):
    one, two = (machine.folder() for machine in machines)

    def change(before):
        if before is None:  # the other one is faster
            write_plan(two, plan("b"))
            return plan("a")
        return {**before, "worlds": {**before["worlds"], "a": RECORD}}

    update_plan(one, change)
    both = read_plan(two)
    assert both and both["worlds"] == {"a": RECORD, "b": RECORD}
    assert both == read_plan(one)


def test_a_plan_that_stays_the_same_is_not_written(machines, objects, monkeypatch):
    one, two = (machine.folder() for machine in machines)
    update_plan(one, lambda _: plan("a"))
    Faulty(monkeypatch, "pipe_file", PermissionError("no"))
    assert update_plan(two, lambda before: before) == read_plan(one)


def test_logs_of_all_machines_are_read_as_one(machines, objects):
    for machine, line in zip(machines, ("a\n", "b\n"), strict=True):
        folder = machine.folder()
        (folder / "log.jsonl").write_text(line)
        remote.push(folder)
        files.STORES.clear()
    assert len(objects.names()) == 2
    with remote.copied(URL, results=False) as copy:
        assert sorted((copy / "log.jsonl").read_text().split()) == ["a", "b"]


def test_a_launcher_counts_the_cells_that_other_machines_have_stored(machines):
    one, two = (machine.folder(writing=True) for machine in machines)
    entry = {
        "env": "chain",
        "algo": "bc",
        "mode": "cliff",
        "cells": [KEY, KEY[::-1]],
        "seeds": [0, 2],
        "settings": {"width": 1, "horizon": 8, "episodes": 4},
        "rounds": 1,
    }
    write_plan(one, {**plan("chain"), "entries": [entry]})
    assert tasks.progress(two) == "0 of 2 cells are stored"
    write_atomic(cell_path(one, KEY), cell())
    assert tasks.progress(two) == "1 of 2 cells are stored"
