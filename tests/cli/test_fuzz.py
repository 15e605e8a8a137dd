"""Flags at random: a valid plan or run, or one line and exit status 2; never a traceback, never a
file elsewhere."""

import contextlib
import io
import shutil

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from irl_bench.cli import flags, sweep
from irl_bench.storage.plans import read_plan

NAMES = [
    *flags.TEXTS,
    *flags.NUMBERS,
    *flags.SWITCHES,
    "bc.learning_rate",
    "bc.",
    "lane_keep.friction",
    "chain.hazard",
    "nope",
    "no",
]
VALUES = [
    *(
        "0",
        "1",
        "-1",
        "5",
        "1e1",
        "2.5",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "true",
        "",
        " ",
        "bc",
        "dagger",
        "chain",
        "lane_keep",
    ),
    *(
        "auto",
        "64,128",
        "128,64",
        "smoke",
        "full",
        "../../etc",
        "/",
        "json:dumps",
        "a:b",
        "runs/x",
        "cliff",
        "recoverable",
    ),
    *("expert", "policy:a:b", "\n", "\x00", "ü", "'", "--seeds", "1_0", "0x10", "٣"),
]
value = st.one_of(
    st.sampled_from(VALUES), st.text(max_size=12), st.floats().map(str), st.integers().map(str)
)
name = st.one_of(st.sampled_from(NAMES), st.text(max_size=12))
flag = st.builds(lambda dashes, n, v: f"{dashes}{n}={v}", st.sampled_from(["--", "-"]), name, value)
argument = st.one_of(flag, flag, flag, flag, st.builds("--{}".format, name), value)


def status_of(arguments: list[str]) -> int:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = sweep.main(sweep.parse_or_exit(["sweep.py", *arguments]))
        except SystemExit as stop:
            status = stop.code
    assert status in (0, 2)
    if status == 2:
        assert out.getvalue() == ""
        assert err.getvalue().startswith("error: ") and err.getvalue().count("\n") == 1
    return status


def check(arguments: list[str], folder) -> None:
    status_of(["--dry_run", *arguments])
    assert list(folder.iterdir()) == []


common = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    "database": None,
}


@settings(max_examples=60, derandomize=True, **common)
@given(st.lists(argument, max_size=4))
def test_flags_at_random(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    check(arguments, tmp_path)


@pytest.mark.slow
@settings(max_examples=2000, **common)
@given(st.lists(argument, max_size=4))
def test_flags_at_random_at_length(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    check(arguments, tmp_path)


TOY = {
    "algo": "tests.worlds.toys:make",
    "env": "tests.worlds.toys:TwoState",
    "mode": "nominal",
    "seeds": "1",
    "seeds_at_once": "1",
    "demos": "4",
    "demo_steps": "8",
    "episodes": "32",
    "T_max": "16",
    "out": "run",
}
"""Flags of a run that takes a second."""
CHANGES = {
    "algo": ("expert", "tests.worlds.toys:make_failing", "tests.worlds.toys:nope", "bc,bc"),
    "mode": ("recoverable", "nominal,recoverable", "cliff", ""),
    "seeds": ("2", "0", "nan", "1e0"),
    "seeds_at_once": ("2", "-1"),
    "first_seed": ("5", "2147483647"),
    "demos": ("1", "3", "0"),
    "demo_steps": ("1", "17", "inf"),
    "episodes": ("1", "33", "4"),
    "reference_episodes": ("1", "8", "64"),
    "T_max": ("2", "17", "1"),
    "horizons": ("2,4,8", "16", "8,4", "auto"),
    "burn_in": ("3", "-1"),
    "demo_noise": ("0.5", "inf"),
    "two_state.slip": ("0", "0.5", "2", "nan"),
    "observation_only": ("true", "maybe"),
    "tensorboard": ("true", "false"),
    "shard": ("1/2", "2/2", "3/2"),
    "cells": ("0", "zz"),
    "out": ("a/b", "", "\x00"),
}
"""Flag -> values, of which no valid one makes the run long or changes the process for the next."""
change = st.sampled_from([(name, value) for name in CHANGES for value in CHANGES[name]])


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
# To shrink a failure would take many more runs.
@settings(max_examples=40, phases=[Phase.generate], **common)
@given(st.lists(change, max_size=2).map(dict))
def test_flags_at_random_of_runs(tmp_path, monkeypatch, changes):
    folder = tmp_path / "here"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    monkeypatch.chdir(folder)
    line = {**TOY, **changes}
    status = status_of([f"--{name}={value}" for name, value in line.items()])
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert {path.name for path in folder.iterdir()} <= {line["out"].partition("/")[0]}
    if status == 0:
        assert read_plan(folder / line["out"])
