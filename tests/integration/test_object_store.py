"""A sweep whose folder is in an object store ends in the bytes of a local one: from the command
line with a store in memory, and by processes that share a bucket of an S3 server alone."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time

import jax
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import irl_bench
from irl_bench import sweep
from irl_bench.cli import sweep as cli
from irl_bench.core.settings import BadInput
from irl_bench.running import leases, once, runner, sharing
from irl_bench.running.console import Silent
from irl_bench.storage import artifacts, files, remote
from tests.conftest import QUICK, TINY
from tests.integration.test_interruptions import ROOT, await_line, contents, start
from tests.integration.toy_sweep import LONG, cells
from tests.stores import URL

SWEEP = ["--algo=bc", "--env=chain", "--mode=cliff", "--budget=smoke", "--seeds=5", *TINY]


@pytest.mark.usefixtures("quick_compilation")
def test_a_sweep_ends_in_the_same_bytes(tmp_path, machines, objects, monkeypatch, capsys):
    monkeypatch.setattr(remote.folders, "cache", lambda: machines[0].root)
    monkeypatch.setattr("irl_bench.report.figures.draw", lambda data: {"regret.png": b"drawn"})
    for out in (tmp_path / "here", URL):
        cli.carry_out(cli.parse(["irl-bench sweep", *SWEEP, f"--out={out}"]))
    assert f"report: {URL}/report.html" in capsys.readouterr().out
    names = [name for name in objects.names() if not name.startswith(("log/", "leases/"))]
    own = ("plan.json", "report.html")  # they show the command
    here = sorted(p for p in (tmp_path / "here").rglob("*") if p.is_file() and p.name[0] != ".")
    there = {path.relative_to(tmp_path / "here").as_posix(): path for path in here}
    assert set(names) == there.keys() - {"log.jsonl"}
    for name in names:
        if name not in own:
            assert objects[name] == there[name].read_bytes(), name
    command = (str(tmp_path / "here").encode(), URL.encode())
    assert objects["report.html"] == there["report.html"].read_bytes().replace(*command)
    files.STORES.clear()
    cli.carry_out(cli.parse(["irl-bench sweep", *SWEEP, f"--out={URL}", "--dry_run"]))
    said = capsys.readouterr().out
    assert "plan: 3 cells, 3 done" in said and f"results in {URL}" in said

    # Another machine takes what was learned from the bucket.
    files.STORES.clear()
    monkeypatch.setattr(remote.folders, "cache", lambda: machines[1].root)
    loaded = [irl_bench.load(run, seed=3) for run in (URL, tmp_path / "here")]
    views = np.eye(65, dtype=np.float32)
    first, second = (jax.vmap(policy.act)(views) for policy in loaded)
    np.testing.assert_array_equal(first, second)
    with pytest.raises(BadInput, match=f"seed=9: {URL} has seeds 0 to 4 of bc; nearest: 4"):
        irl_bench.load(URL, seed=9)
    (learned,) = (name for name in names if name.startswith("learned/"))
    copy = machines[1].folder()
    for given in (f"{copy}:bc", copy):  # as a study names one of its parts
        (copy / learned).unlink()
        assert artifacts.read(given, ("policy",)).algo == "bc"
    for given in (URL, f"{URL}:bc", f"{URL}/{learned}"):
        alike = [flag for flag in SWEEP if "bc" not in flag]
        stored = ["--algo=stored", *alike, f"--given={given}", f"--out={tmp_path / 'again'}"]
        cli.carry_out(cli.parse(["irl-bench sweep", *stored]))
    verdicts = [
        json.loads((tmp_path / run / "verdicts.json").read_text()) for run in ("here", "again")
    ]
    rates = [
        next(v["hazard"] for v in run if v["algo"] == algo)
        for run, algo in zip(verdicts, ("bc", "stored"), strict=True)
    ]
    assert rates[0] == rates[1] > 0
    with pytest.raises(BadInput, match=f"{URL} must hold the policy of one algorithm.* none; nea"):
        cli.carry_out(
            cli.parse(["irl-bench sweep", *stored[:-2], f"--given={URL}:gail", stored[-1]])
        )


@pytest.mark.usefixtures("quick_compilation")
def test_of_two_machines_one_writes_the_report(machines, objects, monkeypatch):
    """The other one waits for it, and knows its verdicts."""
    monkeypatch.setattr(sharing, "WAIT", 0.05)
    monkeypatch.setattr(once, "WAIT", 0.05)
    monkeypatch.setattr(leases, "LOOKS", (0.05, 0.05))
    request = cli.parse(["irl-bench sweep", *SWEEP]).request
    said, verdicts = ([], []), []
    folders = [machine.folder(writing=True) for machine in machines]

    def work(folder, lines):
        asked = dataclasses.replace(request, out=str(folder))
        verdicts.append(sweep.sweep(asked, say=lines.append))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(folders, said, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ends = sorted(lines[-1] for lines in said)
    assert ends == [
        f"another worker writes the report; to print it: irl-bench report {URL}",
        f"report: {URL}/report.html",
    ]
    told = [[(v["algo"], v["mode"], v["verdict"]) for v in one] for one in verdicts]
    assert len(told) == 2 and told[0] == told[1] and len(told[0]) == 3
    assert json.loads(objects["verdicts.json"]) in verdicts
    assert sum(name.endswith(".written") for name in objects.names()) == 1
    whole = [len(list((folder / "cells").glob("*.parquet"))) for folder in folders]
    assert max(whole) == 3  # the writer of the report has read all cells


def test_a_store_that_refuses_is_one_line_with_status_2(machines, monkeypatch, capsys):
    def pipe_file(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(remote.folders, "cache", lambda: machines[0].root)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    assert cli.main(cli.parse(["irl-bench sweep", *SWEEP, f"--out={URL}"])) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"error: {URL}: access is denied (Access Denied); ")
    assert "nearest: credentials" in said.err


@pytest.mark.usefixtures("quick_compilation")
def test_a_store_that_fails_in_the_middle_loses_nothing(
    tmp_path, machines, objects, monkeypatch, capsys
):
    """It takes the first cell, and then nothing more; the same command puts the rest there."""
    folder, taken = machines[0].folder(writing=True), []

    def pipe_file(store, path, value, **options):
        if "cells/" in path:
            taken.append(path)
        if len(taken) > 1:
            raise OSError("no route")
        return usual(store, path, value, **options)

    usual = MemoryFileSystem.pipe_file
    chosen = cells()
    with monkeypatch.context() as broken, pytest.raises(remote.Refusal) as error:
        broken.setattr(MemoryFileSystem, "pipe_file", pipe_file)
        runner.run(chosen, folder, display=Silent())
    assert f"results so far are kept in {folder}" in str(error.value)
    assert len(contents(folder)) == 2
    assert sum(name.startswith("cells/") for name in objects.names()) == 1
    files.STORES.clear()
    assert len(runner.run(chosen, machines[0].folder(writing=True), display=Silent()).done) == 2
    assert {n: objects[f"cells/{n}"] for n in contents(folder)} == contents(folder)


# An S3 server.


@pytest.fixture(scope="module")
def server():
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """The URL of a run's folder in an empty bucket, with the environment of its users."""
    import fsspec

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(files, "STORES", {})
    monkeypatch.setattr(remote, "STORES", files.STORES)
    name = f"runs-{time.monotonic_ns()}"
    fsspec.filesystem("s3", use_listings_cache=False).mkdir(name)
    return f"s3://{name}/toys"


def on_machine(cache, bucket, *arguments):
    """A process on a machine of its own: it has another cache folder."""
    environment = {
        **os.environ,
        **QUICK,
        "XDG_CACHE_HOME": str(cache),
        "PYTHONPATH": str(ROOT),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return start(environment, bucket, 1, *arguments)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_a_killed_process_loses_nothing_in_a_bucket(tmp_path, bucket, monkeypatch):
    """A machine that works beside it takes its cells over and resumes them, all of which it knows
    from the bucket alone."""
    alone = tmp_path / "alone"
    runner.run(cells(**LONG), alone, display=Silent())
    killed = on_machine(tmp_path / "one", bucket, "", "400")
    assert await_line(killed, "computing")
    other = on_machine(tmp_path / "two", bucket, "", "400")
    monkeypatch.setattr(remote.folders, "cache", lambda: tmp_path / "look")
    with remote.copied(bucket) as folder:
        store = files.store_of(folder)
        assert store
        until = time.monotonic() + 60
        while time.monotonic() < until and killed.poll() is None:
            if any(path.parts[-3] == "checkpoints" for path in store.list(folder)):
                break
            time.sleep(0.05)
    assert killed.poll() is None
    killed.kill()
    killed.communicate()
    said = other.communicate(timeout=300)
    assert other.returncode == 0, said
    assert "resumes at round" in said[0]
    with remote.copied(bucket) as folder:
        assert contents(folder) == contents(alone)
        store = files.store_of(folder)
        assert store and {path.parent.name for path in store.listed(folder)} == {
            "cells",
            "learned",
            "log",
        }


def test_a_bucket_is_refused_in_one_line(bucket, server, tmp_path, monkeypatch):
    import requests as http

    monkeypatch.setattr(remote.folders, "cache", lambda: tmp_path)
    with pytest.raises(remote.Refusal, match=r"there is no bucket absent; .*nearest"):
        remote.folder("s3://absent/run", writing=True)
    with pytest.raises(remote.Refusal, match=r"there is no bucket absent; .*nearest"):
        remote.folder("s3://absent/run")
    http.post(f"{server}/moto-api/reset-auth", data=b"0", timeout=10)  # ask for rights from now on
    try:
        with pytest.raises(remote.Refusal, match=r"access is denied .*nearest: credentials"):
            remote.folder(bucket, writing=True)
    finally:
        http.post(f"{server}/moto-api/reset-auth", data=b"inf", timeout=10)
    remote.folder(bucket, writing=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    started = time.monotonic()
    with pytest.raises(remote.Refusal, match=r"does not answer .*AWS_ENDPOINT_URL"):
        remote.folder(f"{bucket}/other", writing=True)
    assert time.monotonic() - started < 30
    s3fs.S3FileSystem.clear_instance_cache()


def test_requests_of_s3fs_are_those_that_are_counted(bucket, tmp_path, monkeypatch):
    """No package adds any of its own: no questions about sizes, buckets or folders."""
    import s3fs

    monkeypatch.setattr(remote.folders, "cache", lambda: tmp_path)
    folder = remote.folder(bucket, writing=True)
    store, asked = files.store_of(folder), []
    assert store
    usual = s3fs.S3FileSystem._call_s3
    monkeypatch.setattr(
        s3fs.S3FileSystem,
        "_call_s3",
        lambda fs, method, *a, **k: asked.append(method) or usual(fs, method, *a, **k),
    )
    path = folder / "leases" / "a.json"
    assert store.list(folder / "leases") == {}
    assert store.create(path, b"one") and not store.create(path, b"two")
    (seen,) = store.list(folder / "leases").values()
    assert seen.size == 3 and seen.version and abs((seen.modified or 0) - time.time()) < 60
    store.put(path, b"three")
    assert store.list(folder / "leases")[path].version != seen.version
    assert store.read(folder / "absent") is None
    store.remove(path)
    kinds = {"list_objects_v2": 3, "put_object": 3, "get_object": 4, "delete_object": 1}
    assert {kind: asked.count(kind) for kind in set(asked)} == kinds
