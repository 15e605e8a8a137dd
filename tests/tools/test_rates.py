"""The rates of cells are measured and stored; a wrong name is one line."""

import json

import pytest

from irl_bench.cli import bench
from irl_bench.core.settings import BadInput
from irl_bench.tools import rates
from tests.tools.bench_flags import values


def test_what_was_measured_is_added_to_the_record(tmp_path, monkeypatch):
    steps, out, said = {"chain": 2.0, "lane_keep": 1.0}, tmp_path / "rates.json", []
    monkeypatch.setattr(rates, "of_world", lambda name: {"step": steps[name], "compile": 3.0})
    monkeypatch.setattr(
        rates,
        "of_algorithm",
        lambda name, env, world: {"unit": world["step"], "world": env, "compile": 4.0},
    )
    rates.measure(["chain"], ["bc"], out, said.append)
    rates.measure([], ["airl"], out, said.append)
    record = json.loads(out.read_text())
    assert record["worlds"]["chain"] == {"step": 2.0, "compile": 3.0}
    row = {"unit": 1.0, "world": "lane_keep", "compile": 4.0}  # the step of the world it trains on
    assert record["algorithms"] == {"airl": row, "bc": row} and len(said) == 3
    assert record["date"] and record["machine"]["cores"]


def test_an_unknown_name_is_one_line(tmp_path):
    out = tmp_path / "rates.json"
    with pytest.raises(BadInput, match=r"no world or algorithm 'hoper'; .*hopper"):
        bench.main(values("--suite=cells", "--what=chain,hoper", f"--out={out}"))
    with pytest.raises(BadInput, match="--out"):
        bench.main(values("--suite=cells", "--what=chain", f"--out={tmp_path}"))
    assert not out.exists()


@pytest.mark.slow
def test_a_measurement_runs_to_its_record(tmp_path, monkeypatch, quick_compilation):
    monkeypatch.setattr(rates, "USUAL", "chain")
    monkeypatch.setattr(rates, "LONG", 0.1)
    out = tmp_path / "rates.json"
    rates.measure(["chain"], ["bc"], out)
    record = json.loads(out.read_text())
    world, learner = record["worlds"]["chain"], record["algorithms"]["bc"]
    assert min(world["step"], world["temporary"], learner["unit"], learner["temporary"]) > 0
    assert learner["compile"] > 2 * world["compile"] > 0
    _, cell = rates.planned("bc", "chain")
    wide = 65 + 4  # numbers of a row: the observation and the actions
    rows = cell.config["steps_per_round"] * cell.config["batch_size"]
    assert learner["trained"] == rates.SEEDS * wide * rows and learner["world"] == "chain"
