"""Two workers that compute one cell and round differently leave one cell and the learned file that
fits it, in whatever order their steps come."""

import hashlib
import itertools
import os
import pathlib
import random

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from irl_bench.storage import cells, files, remote
from irl_bench.storage.cells import cell_path, learned_path, read_cell, write_cell
from irl_bench.tools.fleet.clock import Clock
from tests.storage.test_cells import KEY, MANIFEST, columns
from tests.worlds.toys import cell

LEFT = [None, b"left by a worker that died"]
"""What stands in the place of the learned file before."""


class Turns:
    """Lets two workers take their steps in an order. One runs at a time, up to its next step."""

    def __init__(self, monkeypatch, steps):
        self.clock, self.worker, self.left = Clock(), 0, [[], []]
        for where, name in steps:
            monkeypatch.setattr(where, name, self.step(getattr(where, name)))

    def step(self, usual):
        def stepped(*args, **options):
            worker = self.worker
            if self.left[worker]:
                self.clock.sleep(self.left[worker].pop(0) - self.clock.now)
                self.worker = worker
            return usual(*args, **options)

        return stepped

    def run(self, times, folders):
        """Both workers store the cell.

        Args:
          times: of the steps of each.
          folders: in which each one works.
        """
        self.left, self.clock = [list(each) for each in times], Clock()

        def work(worker):
            self.worker = worker
            rows = columns(seeds=(0,), horizon=2, offset=worker)
            write_cell(folders[worker], cell(), KEY, rows, MANIFEST, b"%d" % worker)

        self.clock.run([(-2.0, lambda: work(0)), (-1.0, lambda: work(1))])


def orders(steps):
    """All orders of so many steps of each of two workers, as the times of both."""
    for first in itertools.combinations(range(2 * steps), steps):
        yield first, [time for time in range(2 * steps) if time not in first]


def fits(path, learned):
    return read_cell(path)[0]["learned"] == hashlib.sha256(learned).hexdigest()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.parametrize("left", LEFT)
def test_in_a_folder(tmp_path, monkeypatch, left):
    steps = [(cells, "is_done"), (files, "_link"), (files, "_holds"), (pathlib.Path, "replace")]
    turns, ends = Turns(monkeypatch, steps), set()
    for number, times in enumerate(orders(5)):
        out = tmp_path / str(number)
        if left:
            learned_path(out, KEY).parent.mkdir(parents=True)
            learned_path(out, KEY).write_bytes(left)
        turns.run(times, [out, out])
        learned = learned_path(out, KEY).read_bytes()
        assert fits(cell_path(out, KEY), learned), times
        ends.add(learned)
    assert ends == {b"0", b"1"}


WHOLE = [(remote.Store, name) for name in ("create", "put", "read")]
REQUESTS = [(MemoryFileSystem, name) for name in ("pipe_file", "cat_file")]


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize(
    ("steps", "chosen"),
    [(WHOLE, list(orders(4))), (REQUESTS, random.Random(0).sample(list(orders(8)), 150))],
    ids=["all orders", "some orders of single requests"],
)
def test_in_a_store(machines, objects, monkeypatch, left, steps, chosen):
    """Each on a machine of its own. What a working copy holds fits too."""
    folders, ends = [machine.folder() for machine in machines], set()
    turns = Turns(monkeypatch, steps)
    for times in chosen:
        for name in objects.names():
            del objects[name]
        for out in folders:
            cell_path(out, KEY).unlink(missing_ok=True)
            learned_path(out, KEY).unlink(missing_ok=True)
        if left:
            objects[f"learned/{KEY}.safetensors"] = left
        turns.run(times, folders)
        stored, learned = objects[f"cells/{KEY}.parquet"], objects[f"learned/{KEY}.safetensors"]
        for out in folders:
            assert cell_path(out, KEY).read_bytes() == stored, times
            here = learned_path(out, KEY)
            assert fits(cell_path(out, KEY), learned), times
            assert not here.exists() or here.read_bytes() == learned, times
        ends.add(learned)
    assert ends == {b"0", b"1"}
