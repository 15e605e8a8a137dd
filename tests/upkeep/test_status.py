"""The status of a run, from its folder alone."""

import json
import os
import time

import pytest

from irl_bench.plan.rates import CORES, rates
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


def test_times_come_from_the_log_then_from_the_rates(runs):
    entry = next(e for e in read_plan(runs / "one")["entries"] if e["algo"] == "expert")
    entry["env"] = "lane_keep"
    settings, log = entry["settings"], runs / "times.jsonl"
    settings |= {"width": 5, "horizon": 2048, "episodes": 512, "burn_in": 0, "eps_episodes": 0}
    step = rates()["worlds"]["lane_keep"]["step"]
    assert Times(log).alone(entry) == pytest.approx(5 * 512 * 2048 * step)
    assert Times(log).of(entry) == Times(log).alone(entry) / CORES
    named = {name: settings[name] for name in ("width", "horizon", "episodes")}
    line = {**named, "algo": "expert", "env": "lane_keep", "wall": 7.0, "cells_at_once": 3}
    log.write_text(json.dumps(line) + "\n" + '{"algo": "expert", "wal')
    assert Times(log).of(entry) == 7.0 and Times(log).alone(entry) == 21.0
    unknown = {**entry, "algo": "mine:make", "rounds": 3}
    assert Times(log).total([entry, entry, unknown]) == (14.0, 1)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"burn_in": "no"}, "settings"), ({"config": {"batch_size": "no"}}, "settings"),
        ({"config": 3}, "settings"), ({"env_steps": None}, "consumes"), ({"demos": -1}, "settings"),
    ],
)  # fmt: skip
def test_a_strangers_plan_tells_no_time_and_does_no_harm(change, where, runs):
    entry = next(e for e in read_plan(runs / "one")["entries"] if e["algo"] == "expert")
    entry["env"] = "lane_keep"
    assert Times(runs / "no log").of(entry) > 0
    entry[where] |= change
    assert Times(runs / "no log").of(entry) is None
