"""Several sweeps in one folder: none loses another's rows, what is unfinished is said, and a
failed write is no bad input."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

import pytest

from envs.robots.locomotion import Hopper
from irl_bench import report, sweep
from irl_bench.cli import sweep as cli
from irl_bench.core.cell import fingerprint
from irl_bench.plan import build as plans
from irl_bench.plan import document as documents
from irl_bench.plan.presets import BURN_IN
from irl_bench.running import runner
from irl_bench.storage.files import StoreError
from irl_bench.storage.plans import read_plan
from tests.conftest import QUICK, TINY

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("quick_compilation")


def document(*argv: str):
    request = cli.parse(
        ["sweep.py", "--env=chain", "--mode=cliff", "--budget=smoke", "--seeds=2", *argv]
    ).request
    return documents.document(plans.build(request), " ".join(argv), fingerprint())


def rows(plan):
    return {(entry["env"], entry["algo"], entry["mode"]) for entry in plan["entries"]}


def begin(out, *argv: str):
    """What a sweep does before its cells: the lines it says. Nothing is computed."""
    said: list[str] = []
    argv = argv if any(flag.startswith("--seeds") for flag in argv) else (*argv, "--seeds=2")
    request = cli.parse(
        ["sweep.py", "--env=chain", "--mode=cliff", "--budget=smoke", f"--out={out}", *argv]
    ).request
    sweep.compute(request, " ".join(argv), said.append)
    return said


@pytest.fixture
def nothing_is_computed(monkeypatch):
    monkeypatch.setattr(
        "irl_bench.running.runner.run", lambda cells, out, inputs, **_: runner.Summary()
    )


def test_plans_that_are_made_at_once_are_all_kept(tmp_path, nothing_is_computed):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda algo: begin(tmp_path, f"--algo={algo}"), ["bc", "dagger", "gail", "dpo"] * 3
            )
        )
    found = rows(read_plan(tmp_path))
    assert {algo for _, algo, _ in found} == {"bc", "dagger", "gail", "dpo", "expert", "untrained"}


def test_the_latest_request_rules(tmp_path, nothing_is_computed):
    """Horizons and command are those of the last sweep, also where its cells are there already."""
    begin(tmp_path, "--algo=bc")
    begin(tmp_path, "--algo=bc", "--horizons=20,40,60")
    plan = read_plan(tmp_path)
    assert plan["analysis"] == {"horizons": [20, 40, 60]} and "20,40,60" in plan["command"]
    begin(tmp_path, "--algo=bc")
    assert read_plan(tmp_path)["analysis"] == {"horizons": "auto"}


def test_what_takes_anothers_place_says_so(tmp_path, nothing_is_computed):
    asked = ("--algo=bc", "--seeds=5")
    assert begin(tmp_path, *asked) == []
    assert begin(tmp_path, *asked) == []
    (line,) = begin(tmp_path, *asked, "--bc.learning_rate=1e-4")
    assert "bc on chain (cliff), an earlier run with other settings; its cells are kept" in line


@pytest.mark.parametrize(
    "flags", [("--algo=dagger", "--seeds=3"), ("--algo=bc", "--bc.learning_rate=1e-4")]
)
def test_a_sweep_that_another_has_displaced_says_so_at_its_end(
    flags, tmp_path, nothing_is_computed
):
    own = document("--algo=bc")
    begin(tmp_path, "--algo=bc")
    assert documents.displaced(read_plan(tmp_path), own) == []
    begin(tmp_path, *flags)
    lines = documents.displaced(read_plan(tmp_path), own)
    assert any(
        line.startswith(
            "not in the report: bc on chain (cliff), as a sweep with other settings or seeds"
        )
        for line in lines
    )


@pytest.mark.usefixtures("no_pictures", "quick_compilation")
def test_a_report_leaves_out_what_is_not_finished_and_says_so(tmp_path, capsys, monkeypatch):
    line = [
        "sweep.py",
        "--algo=bc",
        "--env=chain",
        "--mode=cliff",
        "--budget=smoke",
        "--seeds=2",
        f"--out={tmp_path}",
    ]
    assert cli.main(cli.parse_or_exit(line)) == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(
            "irl_bench.running.runner.run", lambda cells, out, inputs, **_: runner.Summary()
        )
        begin(tmp_path, "--algo=dagger")  # another sweep has begun
    made = report.rebuild(tmp_path)
    assert {v["algo"] for v in made.verdicts} == {"bc", "expert", "untrained"}
    (told,) = made.unfinished
    assert told.startswith("not in the report: dagger on chain (cliff), 1 of its cells")
    assert "dagger on chain (cliff)" in (tmp_path / "report.html").read_text()
    assert cli.main(cli.parse_or_exit(line)) == 0
    assert told in capsys.readouterr().out
    with pytest.raises(StoreError, match="missing"):  # a study's parts are never read by halves
        report.load(tmp_path)
    for path in (tmp_path / "cells").iterdir():
        path.unlink()
    with pytest.raises(StoreError, match="no finished result yet"):
        report.rebuild(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_pilot_finds_the_number_of_demonstrations_and_runs_once(tmp_path, capsys):
    line = ["sweep.py", "--algo=bc", "--env=chain", "--mode=cliff", "--budget=smoke", "--seeds=2"]
    line += ["--demos=auto", "--demo_steps=2048", "--T_max=960", f"--out={tmp_path}"]
    assert cli.main(cli.parse_or_exit(line)) == 0
    told = capsys.readouterr().out
    record = read_plan(tmp_path)["worlds"]["chain"]
    demos, value = record["pilot"][-1]
    assert record["demos"] == demos and 0.1 <= value <= 0.3
    assert f"chain: {demos} demonstrations, by a pilot on seeds 2100000000 to 2100000004" in told
    assert {v["algo"] for v in report.load(tmp_path).verdicts} == {"bc", "expert", "untrained"}
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.glob("pilot/**/*.parquet")}
    assert cli.main(cli.parse_or_exit(line)) == 0
    assert stored == {p: p.stat().st_mtime_ns for p in tmp_path.glob("pilot/**/*.parquet")}


@pytest.mark.parametrize("more", [[], ["--dry_run"]])
def test_no_pilot_runs_where_T_max_is_too_short_for_a_window(more, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("a pilot was run"))
    line = ["sweep.py", "--algo=bc", "--env=chain,plant", "--budget=smoke", "--demos=auto"]
    assert cli.main(cli.parse_or_exit([*line, "--T_max=100", f"--out={tmp_path}", *more])) == 2
    told = capsys.readouterr().err
    assert told == (
        "error: --demos=auto: NO-WINDOW on chain, whatever the number of demonstrations: T_max=100 "
        "is below 8 x 10 x u = 960 with u = 12 steps; nearest: --T_max=960\n"
    )
    robot = ["sweep.py", "--algo=bc", "--env=hopper", "--budget=smoke", "--demos=auto"]
    assert cli.main(cli.parse_or_exit([*robot, f"--out={tmp_path}", *more])) == 2
    least = 80 * Hopper.latency
    told = capsys.readouterr().err
    assert f"T_max=1000 is below 8 x 10 x L = {least} with L = {Hopper.latency} steps" in told
    assert told.endswith(f"nearest: --T_max={least}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("algo", "burn_in"), [("bc", BURN_IN["hopper"]), ("bc,gail", 0)])
def test_a_pilots_episodes_begin_as_the_sweeps_do(algo, burn_in, tmp_path, monkeypatch):
    def run(cells, *_, **__):
        assert {(cell.algo, cell.burn_in) for cell in cells} == {("bc", burn_in)}
        raise KeyError("enough")

    monkeypatch.setattr(runner, "run", run)
    line = ["sweep.py", f"--algo={algo}", "--env=hopper", "--demos=auto", f"--out={tmp_path}"]
    request = cli.parse([*line, f"--T_max={80 * Hopper.latency}"]).request
    with pytest.raises(KeyError, match="enough"):
        sweep.compute(request, "", print)


@pytest.mark.slow
def test_two_sweeps_at_once_are_both_in_the_report(tmp_path):
    line = [
        sys.executable,
        ROOT / "launch" / "sweep.py",
        "--env=chain",
        "--budget=smoke",
        "--seeds=2",
        "--out=run",
    ]
    both = [
        subprocess.Popen(
            [*line, *flags],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **QUICK},
        )
        for flags in (["--algo=bc", "--mode=cliff"], ["--algo=dagger", "--mode=dagger_chain"])
    ]
    told = [program.communicate(timeout=300) for program in both]
    assert [program.returncode for program in both] == [0, 0], told
    found = {
        (v["algo"], v["mode"]) for v in json.loads((tmp_path / "run" / "verdicts.json").read_text())
    }
    assert {("bc", "cliff"), ("dagger", "dagger_chain")} <= found


def test_a_result_that_cannot_be_written_is_no_bad_input(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = [
        "sweep.py",
        "--algo=bc",
        "--env=chain",
        "--mode=cliff",
        "--budget=smoke",
        "--seeds=2",
        *TINY,
        f"--out={tmp_path / 'run'}",
    ]
    assert cli.main(cli.parse_or_exit(line)) == 74
    assert "cannot write" in capsys.readouterr().err
    assert not list((tmp_path / "run").glob("**/*.part"))
