"""The search: any algorithm that trains, one line for what cannot be searched, no lost result."""

import json
import types

import numpy as np
import pytest

from irl_bench.cli import errors
from irl_bench.cli import search as command
from irl_bench.core.exits import UNWRITTEN
from irl_bench.core.settings import BadInput
from irl_bench.plan import registry
from irl_bench.tools import search

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZES = {"seeds": range(2), "demos": 4, "demo_steps": 16, "episodes": 4}


@pytest.mark.parametrize(
    ("algo", "settings", "rounds"),
    [
        ("bc", {"rounds": 2, "steps_per_round": 5}, 2),
        pytest.param("dagger", {"iterations": 2}, 3, marks=pytest.mark.slow),
    ],
)
def test_algorithms_without_rollouts_of_their_own_are_judged_by_the_evaluation(
    algo, settings, rounds
):
    rates = {"learning_rate": np.array([1e-3, 1e-2], np.float32)}
    lines = []
    record = search.search(algo, "chain", rates, settings=settings, say=lines.append, **SIZES)
    assert record["history"] == [] and lines[-1].startswith(f"round {rounds} of {rounds}")
    returns = [np.mean(row["return"]) for row in record["candidates"]]
    assert len(returns) == 2 and returns == sorted(returns, reverse=True)
    assert all(len(row["level"]) == 2 for row in record["candidates"])


@pytest.mark.parametrize(
    ("algo", "name", "message"),
    [
        ("judged", "noise", "takes a reward from an earlier run; nearest: one of bc, dagger, dart"),
        ("bc", "held_out", r"held_out shapes what is compiled.*nearest: --set=held_out="),
    ],
)
def test_what_cannot_be_searched_is_one_line(algo, name, message):
    values = {name: np.array([0.1, 0.2], np.float32)}
    with pytest.raises(BadInput, match=message):
        search.search(algo, "chain", values, settings={}, say=pytest.fail, **SIZES)


@pytest.mark.parametrize("algo", search.searchable())
def test_the_proposed_space_is_valid(algo):
    found = registry.algorithm(algo)
    flags = types.SimpleNamespace(
        algo=algo, set=[], grid=[], space=[search.example(found)], candidates=2, first_seed=0
    )
    points, _ = command.points(flags, found.settings, "")
    (column,) = points.values()
    assert len(column) == 2 and np.isfinite(column).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"grid": ["penalty"]}, "--grid=penalty: penalty must be a number .*not ''; nearest: 1"),
        ({"grid": ["pnalty:1"]}, "--grid=pnalty:1: gail has no setting.*did you mean 'penalty'"),
        ({"space": ["penalty:1:x:log"]}, "--space=penalty:1:x:log: penalty must be a number"),
        ({"space": ["rounds:1:2:log"]}, "--space=rounds.*nearest: --set=rounds=1"),
        ({"space": ["penalty:1"]}, "--space=penalty:1: it must be.*nearest: --space=EXAMPLE"),
        ({}, "one of --space and --grid is needed; nearest: --space=EXAMPLE"),
    ],
)
def test_errors_name_the_flag_and_the_setting(flags, message):
    given = {"algo": "gail", "set": [], "grid": [], "space": [], "candidates": 2, "first_seed": 0}
    with pytest.raises(BadInput, match=message):
        command.points(
            types.SimpleNamespace(**{**given, **flags}),
            registry.algorithm("gail").settings,
            "EXAMPLE",
        )


def wanted(out, **flags):
    """The flags of a search."""
    given = {"algo": "bc", "env": "chain", "space": ["learning_rate:1e-3:1e-2:log"], "grid": []}
    sizes = {"candidates": 2, "seeds": 1, "first_seed": 0, "demos": 4, "demo_steps": 16}
    return types.SimpleNamespace(
        **{**given, **sizes, "set": [], "env_set": [], "episodes": 4, "out": str(out), **flags}
    )


RECORD = {
    "candidates": [
        {"settings": {"x": 1.0}, "level": [0.5], "return": [2.0], "before": {"return": [1.0]}}
    ]
}


def test_options_of_the_world_reach_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr("irl_bench.running.process.configure", lambda: None)
    asked = {}
    monkeypatch.setattr(search, "search", lambda *_, **given: asked.update(given) or RECORD)
    flags = {"env": "lane_keep", "env_set": ["view=visible", "mass=2"]}
    command.main(wanted(tmp_path / "s.json", **flags))
    assert asked["world_settings"] == {"view": "visible", "mass": 2.0}
    with pytest.raises(BadInput, match="--env_set=veiw: no such setting; did you mean view="):
        command.main(wanted(tmp_path / "s.json", env="lane_keep", env_set=["veiw=visible"]))


def test_the_table_is_printed_even_if_the_file_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("irl_bench.running.process.configure", lambda: None)

    def searched(*_, **__):
        (tmp_path / "below").write_text("in the way")  # while the search runs
        return RECORD

    monkeypatch.setattr(search, "search", searched)
    status = errors.guarded(lambda: command.main(wanted(tmp_path / "below" / "s.json")))
    out, err = capsys.readouterr()
    assert status == UNWRITTEN and err.count("\n") == 1 and "cannot write" in err
    assert "x=1 level 0.5000 return 1->2" in out and "stored" not in out


def test_the_file_is_checked_before_the_search(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("irl_bench.running.process.configure", lambda: None)
    monkeypatch.setattr(search, "search", lambda *_, **__: pytest.fail("it was searched"))
    assert errors.guarded(lambda: command.main(wanted(tmp_path))) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"--out={tmp_path} is a folder" in err
    assert errors.guarded(lambda: command.main(wanted(tmp_path / "s.json", algo="expert"))) == 2
    assert "nearest: one of bc, dagger" in capsys.readouterr().err


def test_the_record_is_stored(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("irl_bench.running.process.configure", lambda: None)
    monkeypatch.setattr(search, "search", lambda *_, **__: RECORD)
    command.main(wanted(tmp_path / "new" / "s.json"))
    assert json.loads((tmp_path / "new" / "s.json").read_text()) == RECORD
    assert "stored" in capsys.readouterr().out
