"""What a process leaves behind that was killed between storing a cell and tidying up."""

import json

from irl_bench.running import leases, leftovers
from irl_bench.storage.cells import write_cell
from tests.storage.test_cells import KEY, MANIFEST, columns
from tests.worlds.toys import cell


def leave(out, key, pid):
    (out / "checkpoints" / key).mkdir(parents=True)
    lease = leases.Lease(
        worker="w", host=leases.here(), name="n", pid=pid, since=1.0, renewals=0, label="l"
    )
    (out / "leases").mkdir(exist_ok=True)
    (out / "leases" / f"{key}.json").write_text(json.dumps(lease))


def test_of_stored_cells_alone(tmp_path):
    write_cell(tmp_path, cell(), KEY, columns(), MANIFEST)
    other, dead = "f" * 20, 2**31 - 2
    for key in (KEY, other):
        leave(tmp_path, key, dead)
    leftovers.remove(tmp_path, [KEY, other])
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [other]
    assert [path.stem for path in (tmp_path / "leases").iterdir()] == [other]


def test_the_lease_of_a_living_process_stays(tmp_path):
    write_cell(tmp_path, cell(), KEY, columns(), MANIFEST)
    leave(tmp_path, KEY, 1)
    leftovers.remove(tmp_path, [KEY])
    assert [path.stem for path in (tmp_path / "leases").iterdir()] == [KEY]
    assert not (tmp_path / "checkpoints").exists()
