"""One of the workers on an object store writes the report, and another one if it dies."""

import threading

import pytest

from irl_bench.running.leases import Leases, last_key
from irl_bench.running.once import Once
from irl_bench.storage.files import StoreError, WriteError

KEY = last_key(["a" * 20, "b" * 20])


class Writer:
    """A worker on a machine of its own, whose clock moves when it waits."""

    def __init__(self, machine):
        self.folder, self.now, self.written, self.told = machine.folder(), 0.0, 0, 0
        self.once = Once(self.folder, KEY)

    def work(self):
        self.written += 1

    def tell(self):
        self.told += 1

    def sleep(self, seconds):
        self.now += seconds

    def write(self, sleep=None):
        leases = Leases(self.folder, clock=lambda: self.now, threaded=False)
        return self.once.write(self.work, self.tell, leases, sleep or self.sleep)


def test_a_worker_alone_writes_it_whenever_it_runs(machines, objects):
    for number in (1, 2):
        one = Writer(machines[0])
        assert one.write() and one.written == 1 and one.told == 0, number
        assert objects.names() == [f"leases/{KEY}.written"]


def test_of_workers_that_ran_together_one_writes_it(machines):
    one, other = (Writer(machine) for machine in machines)
    assert one.write() and not other.write()
    assert (one.written, other.written) == (1, 0) and (one.told, other.told) == (0, 1)


def test_who_comes_while_it_is_written_waits_for_it(machines, monkeypatch):
    one, other = (Writer(machine) for machine in machines)
    writing = Leases(one.folder, threaded=False)
    assert writing.claim({KEY: "the report"}, 1) == [KEY]

    def sleep(seconds):
        other.now += seconds
        if other.now == 40.0:
            one.once.store.put(one.once.mark, b"another ", check=False)
            writing.release([KEY])

    assert not other.write(sleep)
    assert other.written == 0 and other.told == 1 and other.now < 80.0


def test_another_worker_takes_over_from_a_writer_that_dies(machines):
    one, other = (Writer(machine) for machine in machines)
    Leases(one.folder, threaded=False).claim({KEY: "the report"}, 1)
    assert other.write() and other.written == other.told == 1
    assert 90.0 <= other.now < 150.0


@pytest.mark.parametrize("kind", [StoreError, WriteError])
def test_what_is_wrong_with_a_cell_is_told_to_all_and_what_with_a_disk_to_nobody(machines, kind):
    one, other = (Writer(machine) for machine in machines)

    def broken():
        raise kind("cells/a.parquet is damaged")

    with pytest.raises(kind, match="damaged"):
        one.once.write(broken, leases=Leases(one.folder, threaded=False))
    if kind is WriteError:
        assert other.write() and other.written == 1
    else:
        with pytest.raises(StoreError, match=r"^cells/a.parquet is damaged$"):
            other.write()
    assert other.now == 0.0
    again = Writer(machines[1])  # once it is mended
    assert again.write() and again.written == 1


def test_outside_of_a_store_each_worker_writes_it(tmp_path):
    written = []
    for _ in range(2):
        assert Once(tmp_path, KEY).write(lambda: written.append(threading.get_ident()))
    assert len(written) == 2 and list(tmp_path.iterdir()) == []
