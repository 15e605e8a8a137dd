"""Several sweeps in one folder: none loses another's rows, what is unfinished is said, and a failed write is no bad input."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

import pytest

from irl_bench import cli, report, store, sweep
from irl_bench import plan as plans
from irl_bench.cells import fingerprint

ROOT = pathlib.Path(__file__).parents[1]


def document(*argv: str):
    request = cli.parse(["sweep.py", "--env=chain", "--mode=cliff", "--budget=smoke", "--seeds=2", *argv]).request
    return plans.document(plans.build(request), " ".join(argv), fingerprint())


def rows(plan):
    return {(entry["env"], entry["algo"], entry["mode"]) for entry in plan["entries"]}


def record(out, made, said=None):
    with store.locked(out):
        sweep._record(out, made, (said if said is not None else []).append)


def test_plans_that_are_made_at_once_are_all_kept(tmp_path):
    made = [document(f"--algo={algo}") for algo in ("bc", "dagger", "gail", "dpo")]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: record(tmp_path, one), made * 5))
    found = rows(store.read_plan(tmp_path))
    assert {algo for _, algo, _ in found} == {"bc", "dagger", "gail", "dpo", "expert", "untrained"}


def test_a_plan_that_is_there_already_is_not_written_again(tmp_path):
    record(tmp_path, document("--algo=bc"))
    record(tmp_path, document("--algo=dagger"))
    before = (tmp_path / "plan.json").read_bytes()
    record(tmp_path, document("--algo=bc"))
    assert (tmp_path / "plan.json").read_bytes() == before


def test_what_takes_anothers_place_says_so(tmp_path):
    said: list[str] = []
    record(tmp_path, document("--algo=bc"), said)
    assert said == []
    record(tmp_path, document("--algo=bc", "--bc.learning_rate=1e-4"), said)
    (line,) = said
    assert "bc on chain (cliff), an earlier run with other settings; its cells are kept" in line


def test_a_report_leaves_out_what_is_not_finished_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("irl_bench.report.figures.draw", lambda data: {})
    line = ["sweep.py", "--algo=bc", "--env=chain", "--mode=cliff", "--budget=smoke", "--seeds=2", f"--out={tmp_path}"]
    assert cli.main(cli.parse_or_exit(line)) == 0
    capsys.readouterr()
    record(tmp_path, document("--algo=dagger"))  # another sweep has begun
    made = report.rebuild(tmp_path)
    assert {v["algo"] for v in made.verdicts} == {"bc", "expert", "untrained"}
    (told,) = made.unfinished
    assert told.startswith("not in the report: dagger on chain (cliff), 1 of its results")
    assert "dagger on chain (cliff)" in (tmp_path / "report.html").read_text()
    assert cli.main(cli.parse_or_exit(line)) == 0
    assert told in capsys.readouterr().out
    with pytest.raises(store.StoreError, match="missing"):  # a study's parts are never read by halves
        report.load(tmp_path)
    for path in (tmp_path / "cells").iterdir():
        path.unlink()
    with pytest.raises(store.StoreError, match="no finished result yet"):
        report.rebuild(tmp_path)


def test_two_sweeps_at_once_are_both_in_the_report(tmp_path):
    line = [sys.executable, ROOT / "launch" / "sweep.py", "--env=chain", "--budget=smoke", "--seeds=2", "--out=run"]
    both = [
        subprocess.Popen([*line, *flags], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for flags in (["--algo=bc", "--mode=cliff,recoverable"], ["--algo=dagger", "--mode=dagger_chain"])
    ]
    told = [program.communicate(timeout=300) for program in both]
    assert [program.returncode for program in both] == [0, 0], told
    found = {(v["algo"], v["mode"]) for v in json.loads((tmp_path / "run" / "verdicts.json").read_text())}
    assert {("bc", "cliff"), ("bc", "recoverable"), ("dagger", "dagger_chain")} <= found


def test_a_result_that_cannot_be_written_is_no_bad_input(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = ["sweep.py", "--algo=bc", "--env=chain", "--mode=cliff", "--budget=smoke", "--seeds=2", f"--out={tmp_path / 'run'}"]
    assert cli.main(cli.parse_or_exit(line)) == 74
    assert "cannot write" in capsys.readouterr().err
    assert not list((tmp_path / "run").glob("**/*.part"))
