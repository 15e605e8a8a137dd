"""Flags at random: a valid plan, or one line and exit status 2; never a traceback, never a file."""

import contextlib
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irl_bench.cli import flags, sweep

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


def check(arguments: list[str], folder) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = sweep.main(sweep.parse_or_exit(["sweep.py", "--dry_run", *arguments]))
        except SystemExit as stop:
            status = stop.code
    assert status in (0, 2)
    if status == 2:
        assert out.getvalue() == ""
        assert err.getvalue().startswith("error: ") and err.getvalue().count("\n") == 1
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
