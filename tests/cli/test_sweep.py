"""The command line: what it accepts, what it prints, and one line with exit status 2 for
everything else."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import pytest

import envs
import irl_bench
from irl_bench import algos
from irl_bench.cli import catalogue, flags, main, sweep
from irl_bench.core.settings import show
from irl_bench.plan import presets as table
from irl_bench.plan import registry
from irl_bench.studies import STUDIES, study

ROOT = pathlib.Path(__file__).parents[2]


def run(*argv: str) -> int:
    """The exit status of `launch/sweep.py *argv`, in this process."""
    try:
        command = sweep.parse_or_exit(["sweep.py", *argv])
    except SystemExit as stop:
        return stop.code
    return sweep.main(command)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in an empty folder and may not run a cell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "irl_bench.running.runner.run", lambda *_, **__: pytest.fail("cells were run")
    )
    return tmp_path


BAD = {
    "--algo=bcc": "did you mean 'bc'",
    "--algo=": "is not a name",
    "--algo=bc,,dagger": "is not a name",
    "--algo=bc,bc": "given twice",
    "--algo=../bc": "is not a name",
    "--algo=bc:": "package.module:attribute",
    "--algo=no.such.module:make": "no module",
    "--algo=json:make": "json has no 'make'; known are",
    "--algo=json:__doc__": "not a function",
    "--algo=os.path:json;rm": "is not a name",
    "--env=lane_kep": "did you mean 'lane_keep'",
    "--env=json:dumps2": "did you mean 'dumps'",
    "--env=json:dumps": "cannot be called as dumps()",
    "--policy=bc": "package.module:act",
    "--policy=json:dumps": "act(observation, key)",
    "--mode=clif": "did you mean 'cliff'",
    "--mode=recoverabel": "did you mean 'recoverable'",
    "--env=lane_keep --mode=cliff": "did you mean",
    "--env=lane_keep,chain --mode=cliff": "leave lane_keep out",
    "--budget=huge": "smoke | default | full",
    "--budget=Default": "nearest: default",
    "--bc.learning_rat=1e-3": "did you mean --bc.learning_rate",
    "--bc.learning_rate=nan": "not nan",
    "--bc.learning_rate=inf": "nearest:",
    "--bc.learning_rate=-1e-3": "nearest:",
    "--bc.learning_rate=fast": "nearest:",
    "--bc.learning_rate": "Missing value",
    "--algo=dagger --bc.learning_rate=1e-3": "bc is not in the sweep",
    "--env=chain --lane_keep.friction=0.6": "lane_keep is not in the sweep",
    "--lane_keep.fricton=0.6": "did you mean --lane_keep.friction",
    "--lane_keep.friction=nan": "not nan",
    "--lane_keep.friction=-1": "nearest:",
    "--chain.hazard=2": "nearest: 1",
    "--chain.hazard=-inf": "nearest: 0",
    "--horizons=128,64": "nearest: 64,128",
    "--horizons=64,64,128": "nearest: 64,128",
    "--horizons=0,64": "nearest: 1",
    "--horizons=-64,64": "nearest: 1",
    "--horizons=64,many": "integer",
    "--horizons=64,nan": "nan",
    "--horizons=64,1e400": "1000000000",
    "--horizons=64": "at least two",
    "--horizons=64,1000000": "longest",
    "--horizons=": "integer",
    "--seeds=0": "nearest: 1",
    "--seeds=-3": "nearest: 1",
    "--seeds=2.5": "nearest: 2",
    "--seeds=ten": "nearest:",
    "--seeds=nan": "not nan",
    "--seeds=inf": "nearest:",
    "--first_seed=-1": "nearest: 0",
    "--first_seed=1e12": "nearest:",
    "--demos=0": "nearest: 1",
    "--demos=1,x": "must be an integer in [1, 1000000000], not 'x'; nearest: 1\n",
    "--demos=0,4,2.5": "nearest: 1,4,2\n",
    "--demos=x": "nearest: 80\n",
    "--lane_keep.frames=3": "nearest: 2\n",
    "--lane_keep.frames=7": "nearest: 8\n",
    "--lane_keep.demonstrator=60": "nearest: 50\n",
    "--algo=rlhf --rlhf.control=shuffled": "nearest: --rlhf.shuffled=true\n",
    "--experiment=": "--experiment= is empty; there are copycat, ",
    "--experiment=seed_table --env=chain": "--env=chain: chain has no option 'demonstrator'",
    "--experiment=extrapolation --env=chain": "nearest: --env=lane_keep\n",
    "--experiment=decomposition --env=chain": "--env=chain: chain has no option 'demonstrator'",
    "--experiment=decomposition --observation_only": "nearest: leave out --observation_only\n",
    "--algo=gail --env=halfcheetah --gail.mask_failure=false": (
        "--gail.mask_failure=false: halfcheetah marks no failure in its observations; nearest: "
        "--gail.mask_failure=true\n"
    ),
    "--algo=gailfo --observation_only": (
        "--gailfo.init=bc needs demonstrations with actions; nearest: --algo=gailfo "
        "--gailfo.init=random\n"
    ),
    "--algo=gail --gail.init=random --observation_only": (
        "reads actions needs demonstrations with actions; nearest: --algo=gailfo "
        "--gailfo.init=random\n"
    ),
    "--algo=dpo --observation_only": "error: a clone needs demonstrations with actions; ",
    "--algo=rlhf --rlhf.teacher=human --rlhf.init=airl": (
        "error: --rlhf.teacher=human and --rlhf.init=airl both need --given; nearest: "
        "--rlhf.init=bc\n"
    ),
    "--demo_steps=-1": "nearest: 1",
    "--episodes=0": "nearest: 1",
    "--reference_episodes=0": "nearest: 1",
    "--env=lane_keep --episodes=100003": "nearest:",
    "--seeds=5 --seeds=6": "already defined",
    "--dry_run --dry_run": "already defined",
    "--dry_run --cluster=8": "must be MACHINESxDEVICES",
    "--cluster=8x4": "only tells what a plan would take; nearest: --dry_run --cluster=8x4",
    "--algo=bc --algo=dagger": "already defined",
    "--sedes=5": "did you mean --seeds",
    "--undefok=sedes --sedes=5": "leave it out",
    "--flagfile=flags.txt": "leave it out",
    "-undefok=x": "leave it out",
    "bc": "stray argument 'bc'",
    "--dry_run lane_keep --seeds=5": "stray argument 'lane_keep'",
    "-- --seeds=5": "stray argument",
    "--tensorboard=maybe": "true or false, not 'maybe'; nearest: --tensorboard=true",
    "--notensorboard=1": "does not take an argument",
    "--out=": "--out",
    "--describe=bcc": "did you mean 'bc'",
    "--describe=": "known are",
    "--describe=json:make": "json",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_exit_status_2(line, capsys, elsewhere):
    assert run(*line.split(" ")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert BAD[line] in err
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        "--seeds=5\n6",
        "--algo=b\nc",
        "--out=a\nb",
        "--out=\x00",
        "--bc.learning_rate=1\r2",
        "--x\ny=1",
    ],
)
def test_control_characters_stay_on_one_line(line, capsys, elsewhere):
    assert run(line) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(elsewhere.iterdir()) == []


def test_a_long_value_is_cut_but_the_nearest_one_is_said(capsys):
    assert run("--seeds=" + "9" * 5000) == 2
    err = capsys.readouterr().err
    assert len(err) < 700 and "nearest: 100000" in err


@pytest.mark.parametrize("name", ["taken", "taken/below/it"])
def test_output_folder_that_is_a_file(name, capsys, elsewhere):
    (elsewhere / "taken").write_text("mine")
    for extra in ([], ["--dry_run"]):
        assert run(f"--out={name}", "--env=chain", "--budget=smoke", *extra) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "taken is a file" in err
    assert (elsewhere / "taken").read_text() == "mine"


@pytest.mark.skipif(
    not pathlib.Path("/proc/self").exists(), reason="needs a file system that nobody can write to"
)
def test_output_folder_that_cannot_be_written(capsys):
    assert run("--out=/proc/irl_bench", "--env=chain", "--budget=smoke") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "cannot be written" in err


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 99}', "\x00\xff"])
def test_damaged_plan_is_named_and_kept(content, capsys, elsewhere):
    (elsewhere / "plan.json").write_text(content)
    assert run("--out=.", "--env=chain", "--budget=smoke") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "plan.json" in err
    assert (elsewhere / "plan.json").read_text() == content


def test_damaged_cell_is_named_and_kept(capsys, elsewhere, monkeypatch):
    from irl_bench.core.cell import cell_key, fingerprint
    from irl_bench.plan import build as plans
    from irl_bench.storage.cells import cell_path

    request = sweep.parse(
        ["sweep.py", "--algo=bc", "--env=chain", "--budget=smoke", "--out=."]
    ).request
    path = cell_path(elsewhere, cell_key(plans.build(request).cells[0], fingerprint()))
    path.parent.mkdir()
    path.write_bytes(b"PAR1 not a cell PAR1")
    assert run("--algo=bc", "--env=chain", "--budget=smoke", "--out=.", "--dry_run") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and path.name in err
    assert path.read_bytes() == b"PAR1 not a cell PAR1"


def test_a_bug_shows_its_traceback(monkeypatch):
    def broken(*_):
        raise ValueError("a bug, not bad input")

    monkeypatch.setattr("irl_bench.sweep.build", broken)
    with pytest.raises(ValueError, match="a bug"):
        run("--env=chain")


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("--seeds=1e1", "seeds", 10),
        ("--seeds 12", "seeds", 12),
        ("--episodes=1.024e3", "episodes", 1024),
        ("--first_seed=1e6", "first_seed", 1_000_000),
        ("--horizons=64,1.28e2,512", "horizons", (64, 128, 512)),
        ("--horizons=auto", "horizons", "auto"),
        ("--algo=dagger", "algo", ("dagger",)),
        ("--env=chain,lane_keep", "env", ("chain", "lane_keep")),
        ("--mode=cliff", "mode", ("cliff",)),
        ("--tensorboard", "tensorboard", True),
        ("--lane_keep.friction=0.6", "settings", {"lane_keep": {"friction": 0.6}}),
        ("--bc.learning_rate=1e-4", "settings", {"bc": {"learning_rate": 1e-4}}),
        ("--bc.hidden=64,32", "settings", {"bc": {"hidden": (64, 32)}}),
        ("--bc.hidden=64x32", "settings", {"bc": {"hidden": (64, 32)}}),
        ("", "seeds", None),
        ("", "out", "runs/sweep"),
    ],
)
def test_flags_become_a_request(line, field, value):
    assert getattr(sweep.parse(["sweep.py", *line.split()]).request, field) == value


def test_the_smallest_budget_of_a_study_has_fewer_worlds_unless_they_are_named():
    def worlds(*more):
        return sweep.parse(["sweep.py", "--experiment=hazard", *more]).request.env

    assert worlds("--budget=smoke") == ("chain", "lane_keep")
    assert worlds("--budget=smoke", "--env=swing_up") == ("swing_up",)
    assert worlds() == ("chain", "lane_keep", "swing_up")


def test_dry_run_of_a_study_adds_its_parts_up(capsys, elsewhere):
    assert run("--dry_run", "--experiment=demo_efficiency", "--demos=4,8", "--algo=bc",
               "--budget=smoke", "--seeds=7") == 0  # fmt: skip
    out = capsys.readouterr().out.splitlines()
    assert "all parts: 12 cells, 0 done" in out
    parts, total = (
        [float(line.split()[2]) for line in chosen if line.startswith("expected time: ")]
        for chosen in (out[:-1], out[-1:])
    )
    assert len(parts) == 2 and total[0] == pytest.approx(sum(parts), abs=0.11)
    assert "note: 7 seeds take as long as 10, since 5 are computed at once (--seeds_at_once)" in out


def test_dry_run_of_a_study_counts_the_parts_that_wait(capsys, elsewhere):
    assert run("--dry_run", "--experiment=transfer", "--budget=smoke") == 0
    *_, cells, time = capsys.readouterr().out.splitlines()
    assert cells.endswith("and those of 4 parts that wait for others")
    assert time.endswith(", without the parts that wait")


def test_dry_run_prints_the_plan_and_writes_nothing(capsys, elsewhere):
    assert run("--dry_run", "--budget=smoke", "--seeds=7", "--out=runs/x") == 0
    out = capsys.readouterr().out
    for word in (
        "budget smoke",
        "runs/x",
        "lane_keep",
        "recoverable",
        "expert",
        "untrained",
        "0..6",
        "minutes",
    ):
        assert word in out
    assert list(elsewhere.iterdir()) == []


def test_dry_run_estimates_from_the_folders_log(capsys, elsewhere):
    request = sweep.parse(["sweep.py", "--algo=bc", "--env=chain", "--budget=smoke"]).request
    from irl_bench.plan import build as plans

    lines = []
    for cell in plans.build(request).cells:
        known = {
            name: getattr(cell, name) for name in ("algo", "env", "width", "horizon", "episodes")
        }
        lines.append(json.dumps({**known, "wall": 60.0, "cells_at_once": 2}))
    count = len(lines)
    (elsewhere / "log.jsonl").write_text("\n".join([*lines, '{"cut short']))
    assert run("--algo=bc", "--env=chain", "--budget=smoke", "--out=.", "--dry_run") == 0
    out = capsys.readouterr().out
    assert f"expected time: {float(count):.1f} minutes" in out and "unknown" not in out


def test_dry_run_of_a_cluster_tells_tasks_time_and_memory(capsys, elsewhere, monkeypatch):
    monkeypatch.setattr("irl_bench.cli.on_cluster.Program", _Small)
    line = ("--algo=bc,airl", "--env=chain", "--mode=dagger_chain", "--seeds=20", "--dry_run")
    assert run(*line, "--cluster=2x3", "--out=runs/x") == 0
    out = capsys.readouterr().out
    assert "on 2 machines with 3 devices each" in out and "(--shard=1/2 to 2/2)" in out
    # Four programs of four cells each: expert, untrained, bc, airl.
    assert "tasks: 2, with " in out and "unknown" not in out
    assert re.search(r"time: [\d.]+ (minutes|hours) for the longest task", out)
    assert re.search(r"memory of a device: about [\d.]+ [MG]B at most, for (bc|airl) on chain", out)
    assert list(elsewhere.iterdir()) == []
    assert run(*line, "--cluster=500x3", "--out=runs/x") == 0
    assert "machines would have nothing to do" in capsys.readouterr().out


class _Small:
    """In place of a program, whose shapes take seconds to find."""

    def __init__(self, cell, inputs):
        self.world = envs.make(cell.env)
        self.state_shape = {"weights": jax.ShapeDtypeStruct((1, cell.width, 10), "float32")}


def test_list_names_everything(capsys):
    assert run("--list") == 0
    out = capsys.readouterr().out
    for name in (*algos.ALGORITHMS, *envs.WORLDS, *table.BUDGETS):
        assert name in out


@pytest.mark.parametrize("name", [*algos.ALGORITHMS])
def test_describe_prints_every_setting_of_an_algorithm(name, capsys):
    assert run(f"--describe={name}") == 0
    out = capsys.readouterr().out
    for setting in registry.algorithm(name).settings.values():
        row = next(line for line in out.splitlines() if line.split()[:1] == [setting.name])
        assert show(setting.default) in row and setting.range in row and setting.help in row
        assert setting.help and (setting.unit == "1" or setting.unit in row)


@pytest.mark.parametrize("name", [*envs.WORLDS])
def test_describe_prints_every_dial_mode_and_budget_of_a_world(name, capsys):
    assert run(f"--describe={name}") == 0
    out = capsys.readouterr().out
    found = registry.world(name)
    for setting in found.settings.values():
        row = next(line for line in out.splitlines() if line.split()[:1] == [setting.name])
        assert setting.range in row and setting.help in row and setting.help
    for word in (
        *found.world.modes,
        *table.BUDGETS,
        f"T_max = {found.world.horizon}",
        "u = ",
        "L = ",
    ):
        assert word in out


def test_help_names_every_flag(capsys):
    assert run("--help") == 0
    out = capsys.readouterr().out
    for name in (*flags.TEXTS, *flags.NUMBERS, *flags.SWITCHES, "bc.learning_rate"):
        assert f"--{name}" in out
    assert run("--help", "--algo=gail", "--env=lane_keep") == 0
    out = capsys.readouterr().out
    assert "--lane_keep.friction" in out and "--gail.disc_hidden" in out


def test_the_catalogue_says_what_the_modules_say():
    """It reads sources; the registry imports them."""
    for name in algos.ALGORITHMS:
        assert catalogue.algorithm_summary(name) == registry.algorithm(name).help
    for name in envs.WORLDS:
        assert catalogue.world_summary(name) == registry.summary(name)
    for name in STUDIES:
        assert catalogue.study_summary(name) == study.find(name).help


@pytest.mark.parametrize("argument", ["--help", "--list"])
def test_texts_import_neither_jax_nor_what_draws(argument):
    program = (
        "import sys; sys.argv = ['irl-bench', 'sweep', sys.argv[1]]\n"
        "from irl_bench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'jax', 'brax', 'flax', 'scipy', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    line = [sys.executable, "-c", program, argument]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--algo" in done.stdout


@pytest.mark.parametrize("name", main.COMMANDS)
def test_each_command_has_a_program_and_helps(name):
    """The installed command and `launch/` are one code; both end with 0 and the same text."""
    here = [sys.executable, "-m", "irl_bench.cli", name, "--help"]
    program = [sys.executable, str(ROOT / "launch" / f"{name}.py"), "--help"]
    installed, launched = (
        subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)
        for line in (here, program)
    )
    assert installed.returncode == launched.returncode == 0, installed.stderr + launched.stderr
    words = launched.stdout.replace(f"python launch/{name}.py", f"irl-bench {name}")
    assert "irl-bench " in installed.stdout and "launch/" not in installed.stdout
    assert len(words.split()) == pytest.approx(len(installed.stdout.split()), abs=3)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--version"], 0, irl_bench.__version__),
        (["--help"], 0, "usage: irl-bench COMMAND"),
        ([], 2, "usage: irl-bench COMMAND"),
        (["sweeep"], 2, "did you mean 'sweep'"),
        (["demos", "--evn=chain"], 2, "evn"),
        (["report"], 2, "runs/sweep"),
    ],
)
def test_the_installed_command(arguments, status, words):
    line = [sys.executable, "-m", "irl_bench.cli", *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == status and words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_flag_wins_over_the_budget_and_the_budget_over_the_world(monkeypatch):
    from irl_bench.plan import build as plans

    def rate(*argv: str) -> float:
        request = sweep.parse(["sweep.py", "--algo=bc", "--env=chain", *argv]).request
        return next(cell for cell in plans.build(request).cells if cell.algo == "bc").config[
            "learning_rate"
        ]

    monkeypatch.setattr(table, "CONFIGS", {})
    monkeypatch.setattr(table, "BUDGET_CONFIGS", {})
    assert rate() == registry.algorithm("bc").settings["learning_rate"].default
    monkeypatch.setattr(table, "CONFIGS", {("chain", "bc"): {"learning_rate": 0.002}})
    assert rate() == 0.002
    monkeypatch.setattr(
        table, "BUDGET_CONFIGS", {("smoke", "chain", "bc"): {"learning_rate": 0.003}}
    )
    assert rate() == 0.002
    assert rate("--budget=smoke") == 0.003
    assert rate("--budget=smoke", "--bc.learning_rate=0.004") == 0.004


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--algo=BC", "did you mean 'bc'?"),
        ("--algo=DAgger", "did you mean 'dagger'?"),
        ("--env=Hopper", "did you mean 'hopper'?"),
        ("--budget=Smoke", "nearest: smoke"),
        ("--seed=3", "did you mean --seeds (how many) or --first_seed (which)?"),
        ("--Seeds=3", "did you mean --seeds?"),
        ("--world=chain", "did you mean --env?"),
    ],
)
def test_what_others_write_names_what_is_meant(line, words, capsys, elsewhere):
    assert run(line) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("program", ["demos.py", "report.py", "bench.py"])
def test_help_is_no_error(program):
    line = [sys.executable, ROOT / "launch" / program, "--help"]
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0 and f"python launch/{program}" in done.stdout, done.stderr
