"""The status of a run, from its folder alone."""

import json
import os
import time

import pytest

from irl_bench.running.leases import EXPIRY, Leases, all_of, lost
from irl_bench.storage.plans import read_plan
from irl_bench.studies.study import INDEX
from irl_bench.upkeep.status import Times, status


def test_stored_running_and_left(runs):
    text, complete = status(runs / "one")
    assert not complete and " cells are not stored yet: " in text
    plan = read_plan(runs / "one")
    assert plan
    stored = {path.stem for path in (runs / "one").glob("cells/*")}
    todo = [key for entry in plan["entries"] for key in entry["cells"] if key not in stored]
    with Leases(runs / "one") as leases:
        leases.claim({todo[0]: "toy two_state nominal seeds 3-5"}, 1)
        text, _ = status(runs / "one", cells=True)
    assert "running: toy two_state nominal seeds 3-5, process " in text
    assert f"  {todo[0]}  running  " in text and f"  {todo[1]}  to do    " in text
    assert sum(f"  {key}  stored   " in text for key in stored) == len(stored)
    assert f"{len(todo)} cells are not stored yet" in text


def test_a_complete_run(runs):
    text, complete = status(runs / "whole")
    assert complete and text.endswith("all cells are stored")


def test_a_study_is_not_complete_before_all_parts_are(runs):
    study = runs / "study"
    study.mkdir()
    (runs / "whole").rename(study / "part")
    index = {"study": "decomposition", "command": "a", "parts": {"part": False, "later": False}}
    (study / INDEX).write_text(json.dumps(index))
    text, complete = status(study)
    assert not complete and text.splitlines()[-1] == "later: not begun"


@pytest.mark.parametrize(
    "change", [{"pid": 2**22 + 1}, {"pid": "abc"}, {"pid": 2**40}, {"pid": 0}, {"since": None}]
)
def test_who_is_gone_computes_nothing(runs, todo, change):
    """A dead process, and files that are no leases."""
    with Leases(runs / "one") as leases:
        leases.claim({todo: "a cell"}, 1)
        path = runs / "one" / "leases" / f"{todo}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change, "worker": "b"}))
    assert path.exists()
    assert "running:" not in status(runs / "one")[0]
    with Leases(runs / "one") as leases:
        assert leases.claim({todo: "a cell"}, 1) == [todo]


def test_who_was_not_seen_for_long_is_lost(runs):
    key = sorted((runs / "one").glob("cells/*"))[0].stem
    with Leases(runs / "one") as leases:
        leases.claim({key: "a cell"}, 1)
        lease = all_of(runs / "one")[key]
        assert not lost(runs / "one", key, lease)
        path = runs / "one" / "leases" / f"{key}.json"
        os.utime(path, (time.time() - 2 * EXPIRY,) * 2)
        assert lost(runs / "one", key, {**lease, "host": "another"})
        assert "running:" not in status(runs / "one")[0]  # the cell is stored


def test_failed_seeds_are_counted(runs):
    log = runs / "whole" / "log.jsonl"
    first, *rest = log.read_text().splitlines()
    log.write_text("\n".join([json.dumps({**json.loads(first), "failed": [1, 2]}), *rest]) + "\n")
    row = next(line for line in status(runs / "whole")[0].splitlines() if " expert " in line)
    assert row.split()[-1] == "2"


def test_times_come_from_the_log_then_from_the_table(tmp_path):
    cell = {"algo": "bc", "env": "lane_keep", "width": 5, "horizon": 2048, "episodes": 512}
    log = tmp_path / "log.jsonl"
    assert Times(log).of(cell) == pytest.approx(11.0)
    log.write_text(json.dumps({**cell, "wall": 7.0}) + "\n" + '{"algo": "bc", "wal')
    assert Times(log).of(cell) == 7.0
    unknown = {**cell, "algo": "mine:make"}
    assert Times(log).total([cell, cell, unknown]) == (14.0, 1)
