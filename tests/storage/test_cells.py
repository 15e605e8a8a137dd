"""Results on disk: equal bytes for equal results, and nothing damaged or foreign is ever taken
for one."""

import errno
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irl_bench.report import curves
from irl_bench.storage.cells import (
    SCHEMA,
    cell_path,
    is_done,
    read_cell,
    write_cell,
)
from irl_bench.storage.files import StoreError
from irl_bench.storage.plans import read_plan, write_plan
from irl_bench.tools.chaos import tricks
from tests.worlds.toys import cell

KEY = "0123456789abcdef0123"
PLAN = {"version": 1, "entries": [], "analysis": {}, "worlds": {}, "command": "", "budget": "smoke"}
MANIFEST = {
    "rounds": 2,
    "consumes": {"expert_queries": 4, "env_steps": 0, "interactive": False},
    "failures": [],
}


def columns(seeds=(0, 1, 2), horizon=16, offset=0.0, failed=()):
    """The final rows of a cell: cost T + 100 seed + offset, and each scalar its seed."""
    rows = []
    for seed in seeds:
        bad = seed in failed
        for quantity in ("cost", "graded_cost"):
            rows += [
                (seed, 2, t, quantity, np.nan if bad else t + 100 * seed + offset)
                for t in range(1, horizon + 1)
            ]
        scalars = ["on_steps", "on_to_off", "off_steps", "off_to_on", "departures"]
        scalars += [
            f"eps_{which}@{tau}" for which in ("expert", "own") for tau in ("0.05", "0.1", "0.2")
        ]
        rows += [(seed, 2, 0, quantity, np.nan if bad else float(seed)) for quantity in scalars]
        rows += [
            (seed, 2, 0, "failed", float(bad)),
            (seed, 1, 0, "train/loss", 5.0),
            (seed, 1, horizon, "level", 0.5),
        ]
    seed, round_, t, quantity, value = zip(*rows, strict=True)
    return {"seed": seed, "round": round_, "T": t, "quantity": quantity, "value": value}


def one_line(caught, path):
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_round_trip(tmp_path):
    assert not is_done(tmp_path, KEY)
    path = write_cell(tmp_path, cell(), KEY, columns(), MANIFEST)
    assert path == cell_path(tmp_path, KEY) and is_done(tmp_path, KEY)
    manifest, table = read_cell(path)
    assert (
        manifest["key"] == KEY and manifest["spec"] == cell().to_dict() and manifest["rounds"] == 2
    )
    assert table.schema == SCHEMA and set(table["cell"].to_pylist()) == {KEY}
    np.testing.assert_array_equal(table["value"].to_numpy(), columns()["value"])
    assert pq.read_table(path).equals(table)  # a plain Parquet file to everybody else
    assert [file.name for file in (tmp_path / "cells").iterdir()] == [path.name]


def test_equal_results_are_equal_bytes(tmp_path):
    table = pa.table({**columns(), "cell": ["?"] * len(columns()["seed"])})
    table = table.select(["T", "value", "cell", "round", "seed", "quantity"])
    one = write_cell(tmp_path / "a", cell(), KEY, columns(), MANIFEST).read_bytes()
    two = write_cell(
        tmp_path / "b", cell(), KEY, table, dict(reversed(MANIFEST.items()))
    ).read_bytes()
    assert one == two
    assert (
        one != write_cell(tmp_path / "c", cell(), KEY, columns(offset=1e-12), MANIFEST).read_bytes()
    )


def test_flipped_bits_and_truncation_are_refused(tmp_path):
    path = write_cell(tmp_path, cell(), KEY, columns(), MANIFEST)
    sound = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in [*range(0, len(sound), 11), *range(len(sound) - 8, len(sound))]:
        damaged = bytearray(sound)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(StoreError) as caught:
            is_done(tmp_path, KEY)
        one_line(caught, path)
    for length in [0, 1, 3, 8, len(sound) // 2, len(sound) - 1]:
        path.write_bytes(sound[:length])
        with pytest.raises(StoreError) as caught:
            read_cell(path)
        one_line(caught, path)
    path.write_bytes(sound + b"\n")
    with pytest.raises(StoreError):
        read_cell(path)


def test_foreign_files_are_refused(tmp_path):
    path = cell_path(tmp_path, KEY)
    path.parent.mkdir()
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(StoreError, match="not a cell") as caught:
        is_done(tmp_path, KEY)
    one_line(caught, path)
    other = write_cell(tmp_path, cell(), "f" * 20, columns(), MANIFEST)
    path.write_bytes(other.read_bytes())
    with pytest.raises(StoreError, match="not what its name says") as caught:
        is_done(tmp_path, KEY)
    one_line(caught, path)
    with pytest.raises(StoreError, match="missing"):
        read_cell(cell_path(tmp_path, "e" * 20))


def test_a_text_that_all_rows_repeat_does_not_fill_the_memory(tmp_path):
    """A file of 100 kB whose column of text would take 4 GB."""
    path = write_cell(tmp_path, cell(), KEY, columns(), MANIFEST)
    manifest, table = read_cell(path)
    rows = 2000
    text = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["x" * 2_000_000])
    swollen = table.slice(0, 1).take([0] * rows)
    schema = table.schema.set(4, pa.field("quantity", text.type))
    tricks._forge(path, swollen.set_column(4, schema.field(4), text), tricks._header(manifest))
    assert path.stat().st_size < 200_000
    with pytest.raises(StoreError, match=r"it has 2,000 rows and a quantity of 2,000,000 bytes$"):
        read_cell(path)


def test_a_sound_result_is_kept_and_a_damaged_one_not_overwritten(tmp_path):
    path = write_cell(tmp_path, cell(), KEY, columns(), MANIFEST)
    sound, stamp = path.read_bytes(), path.stat().st_mtime_ns
    write_cell(tmp_path, cell(), KEY, columns(), MANIFEST)
    assert path.stat().st_mtime_ns == stamp
    path.write_bytes(sound[:-9])
    with pytest.raises(StoreError) as caught:
        write_cell(tmp_path, cell(), KEY, columns(), MANIFEST)
    one_line(caught, path)
    assert path.read_bytes() == sound[:-9]


def test_a_full_disk_leaves_the_last_good_state(tmp_path, monkeypatch):
    write_cell(tmp_path, cell(), KEY, columns(), MANIFEST)
    write_plan(tmp_path, PLAN)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        write_cell(tmp_path, cell(), "a" * 20, columns(), MANIFEST)
    one_line(caught, cell_path(tmp_path, "a" * 20))
    with pytest.raises(StoreError, match="No space left"):
        write_plan(tmp_path, {"version": 1, "entries": [1]})
    assert is_done(tmp_path, KEY) and read_plan(tmp_path) == PLAN
    assert [file.name for file in (tmp_path / "cells").iterdir()] == [f"{KEY}.parquet"]


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StoreError, match="cannot write") as caught:
        write_cell(tmp_path / "out", cell(), KEY, columns(), MANIFEST)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "out").read_text() == "mine"


def test_plan_round_trip_and_damage(tmp_path):
    assert read_plan(tmp_path) is None
    plan = PLAN | {"entries": [entry("bc", [KEY], [0, 3])], "worlds": WORLDS, "command": "é"}
    path = write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan
    sound = path.read_bytes()
    for position in range(len(sound) - 1):
        damaged = bytearray(sound)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        try:
            assert read_plan(tmp_path) == plan  # another white space
        except StoreError as error:
            assert "\n" not in str(error) and str(path) in str(error)
    for content in (b"[]", b"{}", b"", sound[:-20]):
        path.write_bytes(content)
        with pytest.raises(StoreError):
            read_plan(tmp_path)


def entry(algo, keys, seeds, mode="nominal"):
    return {
        "env": "tests.worlds.toys:TwoState",
        "algo": algo,
        "mode": mode,
        "cells": keys,
        "seeds": seeds,
        "settings": {"width": 3, "horizon": 16, "episodes": 32},
        "rounds": 2,
        "consumes": {},
    }


WORLDS = {
    "tests.worlds.toys:TwoState": {"u": None, "latency": 1, "horizon": 16, "nominal": "nominal"}
}


def test_curves_take_the_seeds_asked_for_and_the_expert_of_the_mode(tmp_path):
    keys = ["a" * 20, "b" * 20, "c" * 20, "d" * 20]
    write_cell(tmp_path, cell(algo="bc"), keys[0], columns(), MANIFEST)
    write_cell(
        tmp_path, cell(algo="bc", first_seed=3), keys[1], columns((3, 4, 5), failed=(4,)), MANIFEST
    )
    write_cell(tmp_path, cell(algo="expert"), keys[2], columns((0, 1), offset=0.5), MANIFEST)
    write_cell(
        tmp_path, cell(algo="expert", mode="recoverable"), keys[3], columns(offset=9.0), MANIFEST
    )
    learner = entry("bc", keys[:2], [1, 4])
    experts = [entry("expert", keys[3:], [0, 3], "recoverable"), entry("expert", keys[2:3], [0, 2])]
    write_plan(tmp_path, PLAN | {"entries": [*experts, learner], "worlds": WORLDS})
    got = curves.read(tmp_path, learner)
    steps = np.arange(1, 17)
    assert got.seeds.tolist() == [1, 2, 3, 4] and got.T.tolist() == steps.tolist()
    assert got.failed.tolist() == [False, False, False, True] and np.isnan(got.cost[3]).all()
    np.testing.assert_array_equal(got.cost[:3], steps + 100 * np.array([[1], [2], [3]]))
    np.testing.assert_array_equal(got.expert_cost, steps + 100 * np.array([[0], [1]]) + 0.5)
    assert got.on_to_off[:3].tolist() == [1, 2, 3] and got.eps_own.shape == (4, 3)
    assert (
        got.departures is not None
        and not got.interactive
        and got.episodes == 32
        and got.consumes == (4, 0)
    )
    with pytest.raises(StoreError, match="seed 6"):
        curves.read(tmp_path, entry("bc", keys[:2], [1, 6]))
    with pytest.raises(StoreError, match="not what the plan says"):
        curves.read(tmp_path, entry("dagger", keys[:2], [1, 4]))
