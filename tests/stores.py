"""An object store in the memory of this process, and machines that use it."""

import collections

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from irl_bench.storage import files, remote

URL = "memory://bucket/run"


class Machine:
    """A machine of its own: `folder` is its working copy of a URL."""

    def __init__(self, root, monkeypatch):
        self.root, self.monkeypatch = root, monkeypatch

    def folder(self, url=URL, writing=False):
        self.monkeypatch.setattr(remote.folders, "cache", lambda: self.root)
        return remote.folder(url, writing)


class Objects:
    """The objects of the bucket, by their names in the run's folder."""

    def names(self):
        return sorted(name.removeprefix("/bucket/run/") for name in MemoryFileSystem.store)

    def __getitem__(self, name):
        return MemoryFileSystem.store[f"/bucket/run/{name}"].getvalue()

    def __setitem__(self, name, content):
        MemoryFileSystem().pipe_file(f"/bucket/run/{name}", content)

    def __delitem__(self, name):
        MemoryFileSystem().rm_file(f"/bucket/run/{name}")


@pytest.fixture
def machines(tmp_path, monkeypatch):
    """Two machines and an empty store, which answers at once or fails at once."""
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    monkeypatch.setattr(remote, "PAUSE", 0.0)
    monkeypatch.setattr(files, "STORES", {})
    monkeypatch.setattr(remote, "STORES", files.STORES)
    return [Machine(tmp_path / name, monkeypatch) for name in ("one", "two")]


@pytest.fixture
def objects(machines):
    return Objects()


@pytest.fixture
def billed(machines, monkeypatch):
    """Counts requests by their kinds, as a store would bill them."""
    counts = collections.Counter()

    def counted(kind, usual):
        def request(store, *args, **options):
            counts[kind] += 1
            return usual(store, *args, **options)

        return request

    kinds = {"find": "list", "pipe_file": "put", "cat_file": "get", "rm_file": "delete"}
    for name, kind in kinds.items():
        monkeypatch.setattr(MemoryFileSystem, name, counted(kind, getattr(MemoryFileSystem, name)))
    return counts
