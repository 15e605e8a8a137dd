"""Algorithms, worlds and policies from outside the repository: those of CONTRIBUTING.md,
extracted and run."""

import hashlib
import json
import math
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import irl_bench
from envs import chain
from irl_bench import algos
from irl_bench.cli import sweep
from irl_bench.core.quantities import REFERENCES
from irl_bench.core.settings import BadInput
from irl_bench.horizon.slopes import slope
from irl_bench.plan import build as plans
from irl_bench.plan import document as documents
from irl_bench.plan import registry
from irl_bench.plan.request import Request

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLE = re.compile(r"<!-- file: (\S+) -->\n```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """An empty folder that holds the files of CONTRIBUTING.md, as the current one."""
    found = dict(EXAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text()))
    assert {"ridge.py", "gusts.py", "brake.py"} <= found.keys()
    for name, text in found.items():
        (tmp_path / name).write_text(text)
        sys.modules.pop(name.removesuffix(".py"), None)  # another test's, from another folder
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in found:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_the_registries_are_the_folders():
    files = {
        path.stem
        for path in (ROOT / "irl_bench" / "algos").glob("*.py")
        if not path.stem.startswith("_")
    }
    assert {module.rpartition(".")[2] for module in algos.ALGORITHMS.values()} == files
    assert set(REFERENCES) < algos.ALGORITHMS.keys()
    shared = (
        "Tabular",
        "Robot",
        "Planar",
        "Free",
        "Reaching",
        "InvertedPendulum",
        "Highway",
    )  # what several worlds have in common
    defined = {
        f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}:{name}"
        for path in (ROOT / "envs").rglob("*.py")
        for name in re.findall(
            rf"^class (\w+)\((?:World|demonstrators\.Demonstrated|{'|'.join(shared)})\):",
            path.read_text(),
            re.MULTILINE,
        )
    }
    abstract = {
        "envs.tabular:Tabular",
        "envs.demonstrators.__init__:Demonstrated",
        "envs.history:History",
        "envs.robots.playground:Playground",
        *(f"envs.robots.locomotion:{name}" for name in shared[1:5]),
    }
    assert set(envs.WORLDS.values()) == defined - abstract


@pytest.mark.parametrize("name", [*envs.WORLDS])
def test_a_world_is_made_by_name_with_dials(name):
    world = envs.make(name)
    assert world.name == name
    for dial in registry.world(name).dials.values():
        value = 0.5 * (max(dial.low, -1.0) + min(dial.high, max(dial.low, -1.0) + 1.0))
        value = math.ceil(value) if dial.whole else value
        assert getattr(envs.make(name, **{dial.name: value}).dials, dial.name) == value
    with pytest.raises(ValueError, match=r"did you mean|known are"):
        envs.make(name, frictoin=1.0)
    with pytest.raises(ValueError, match="finite"):
        envs.make(name, **{next(iter(registry.world(name).dials)): float("nan")})


def test_an_option_may_be_a_file_whose_hash_becomes_part_of_the_source(tmp_path):
    angle = np.linspace(0.0, 2.0 * np.pi, 80, endpoint=False)
    sides = np.full(80, 5.0), np.full(80, 4.0)
    path = tmp_path / "round.csv"
    np.savetxt(path, np.stack([60 * np.cos(angle), 60 * np.sin(angle), *sides], 1), delimiter=",")
    loaded = registry.world("race", {"track": str(path), "friction": 0.9})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"round-{digest[:12]}.csv"
    assert registry.values_of(loaded)["track"] == name and loaded.source == {name: digest}
    assert registry.world("race", {"track": name}).source == loaded.source
    option = registry.world("race").options["track"]
    assert option.default == "bank" and option.range == "bank | FILE.csv"
    assert option.parse("some/where.csv") == "some/where.csv"
    assert option.check(pathlib.Path("SOME.CSV")) == "SOME.CSV"
    with pytest.raises(BadInput, match=r"bank \| FILE.csv.*nearest: bank"):
        option.parse("where.txt")
    with pytest.raises(BadInput, match=r"none\.csv cannot be read") as error:
        registry.world("race", {"track": "none.csv"})
    assert "\n" not in str(error.value)
    other = registry.world("lane_keep").options["view"]
    with pytest.raises(BadInput, match=r"hidden \| visible"):
        other.parse("view.csv")


def test_an_unknown_world_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'lane_keep'"):
        envs.make("lane_keeping")


@pytest.mark.slow
def test_contributings_algorithm_runs_on_several_devices(examples):
    """The command that README and CONTRIBUTING print, smaller: on as many devices as there are
    cores, at the chain's size."""
    line = (
        "--algo=ridge:make --env=chain --mode=dagger_chain --ridge.penalty=1e-4 --budget=smoke "
        "--seeds=10 --out=two"
    )
    done = subprocess.run(
        [sys.executable, ROOT / "launch" / "sweep.py", *line.split()],
        cwd=examples,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "ridge:make" in done.stdout


@pytest.mark.usefixtures("no_pictures")
def test_contributings_files_go_through_the_sweep(examples, capsys):
    common = [
        "--seeds=2",
        "--demos=2",
        "--demo_steps=32",
        "--episodes=4",
        "--budget=smoke",
        "--out=run",
    ]
    line = [
        "sweep.py",
        "--algo=ridge:make",
        "--policy=brake:act",
        "--env=gusts:make",
        "--gusts.gust=0.5",
        "--ridge.penalty=1e-4",
    ]
    assert sweep.main(sweep.parse_or_exit([*line, *common])) == 0
    out = capsys.readouterr().out
    verdicts = json.loads((examples / "run" / "verdicts.json").read_text())
    found = {(v["env"], v["algo"], v["mode"]) for v in verdicts}
    assert {
        ("gusts:make", "ridge:make", "nominal"),
        ("gusts:make", "policy:brake:act", "nominal"),
    } <= found
    assert {("gusts:make", "expert", "nominal"), ("gusts:make", "untrained", "nominal")} <= found
    assert "gusts" in out and (examples / "run" / "report.html").exists()

    plan = json.loads((examples / "run" / "plan.json").read_text())
    entry = next(entry for entry in plan["entries"] if entry["algo"] == "ridge:make")
    assert (
        entry["settings"]["config"] == {"penalty": 1e-4}
        and entry["settings"]["dials"]["gust"] == 0.5
    )
    assert entry["settings"]["plugin"].keys() == {"ridge.py", "gusts.py"}

    # What was run tells how long more would take.
    assert sweep.main(sweep.parse_or_exit([*line, *common[1:], "--seeds=12", "--dry_run"])) == 0
    told = capsys.readouterr().out
    assert "12 cells, 4 done" in told and "unknown" not in told

    # The same by a call runs nothing and changes no byte; then the policy alone, without files.
    before = (examples / "run" / "verdicts.json").read_bytes()
    again = irl_bench.run(
        "ridge:make",
        "gusts:make",
        policy="brake:act",
        seeds=2,
        demos=2,
        demo_steps=32,
        episodes=4,
        budget="smoke",
        out="run",
        gusts={"gust": 0.5},
        **{"ridge.penalty": 1e-4},
    )
    assert again == verdicts and (examples / "run" / "verdicts.json").read_bytes() == before
    scored = irl_bench.score(
        "brake:act", "gusts:make", seeds=2, episodes=4, eps_episodes=16, gust=0.5
    )
    swept = next(v for v in verdicts if v["algo"] == "policy:brake:act")
    assert scored["hazard"] > 0.01
    for figure in ("hazard", "recovery"):
        assert scored[figure] == pytest.approx(swept[figure], rel=1e-4)


def test_the_expert_scores_itself_without_regret():
    world = envs.make("chain")

    def act(observation, key):
        return jnp.where(observation[-1] > 0, 3, jnp.argmax(observation) % 3).astype(jnp.int32)

    figures = irl_bench.score(act, world, seeds=2, episodes=4, eps_episodes=4, eps_steps=16)
    assert figures["verdict"] in ("NO-REGRET", "NO-WINDOW") and figures["hazard"] == 0


def test_score_compares_with_the_closed_form():
    world, right = envs.make("chain"), np.append(chain.CORRECT, chain.RECOVER)
    played = np.where(np.arange(len(right)) % 8 == 1, (right + 1) % 3, right)

    def act(observation, key):
        return jnp.asarray(played, jnp.int32)[jnp.argmax(observation)]

    figures = irl_bench.score(act, world, seeds=4, episodes=32, eps_episodes=4, eps_steps=16)
    grid = np.array(figures["horizons"])
    exact = slope(grid, chain.closed_form(*chain.exact_rates(played, world.dials), grid))
    assert figures["exact_slope"] == pytest.approx(exact, abs=1e-4)
    assert 0 < figures["closed_form_z"] < 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"world": "chian"}, "did you mean 'chain'"),
        ({"mode": "clif"}, "did you mean 'cliff'"),
        ({"seeds": 0}, "seeds=0"),
        ({"horizons": [64, 32]}, "increasing"),
        ({"hazard": 2.0}, "hazard"),
        ({"hazard": "x"}, "hazard='x' must be a number"),
        ({"hazard": None}, "hazard=None must be a number"),
        ({"horizons": 5}, "horizons=5 must be 'auto'"),
        ({"seed": 3}, "did you mean seeds or first_seed"),
        ({"budget": "smoke"}, "did you mean run"),
        ({"world": chain.Chain}, r"not the class Chain; nearest: Chain\(\)"),
        ({"first_seed": 2**40}, r"must be in \[0, 2147483628\]"),
        ({"policy": lambda observation, key: jnp.zeros(2)}, "action must be"),
        ({"policy": lambda observation, key: 1.0}, "action must be"),
    ],
)
def test_score_refuses_bad_input(arguments, message):
    call = {"policy": lambda observation, key: jnp.int32(0), "world": "chain", **arguments}
    with pytest.raises(BadInput, match=message):
        irl_bench.score(**call)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algo": "bcc"}, "did you mean 'bc'"),
        ({"bc": {"learning_rat": 1.0}}, "did you mean bc.learning_rate"),
        ({"bc": {"learning_rate": float("nan")}}, "nan"),
        ({"dagger": {"rounds": 3}}, "not in the sweep"),
        ({"seed": 3}, "did you mean seeds or first_seed"),
        ({"learning_rate": 1e-3}, r"did you mean bc=\{'learning_rate': 0.001\}"),
        ({"hazard": 0.5}, r"did you mean chain=\{'hazard': 0.5\}"),
        ({"bc": 3}, r"settings are a dict; nearest: bc=\{"),
        ({"observation_only": "no"}, "observation_only='no' must be True or False"),
        ({"seeds": 0}, "at least 1"),
        ({"seeds": 5.0}, r"seeds=5.0 is of type float, not an integer; nearest: 5"),
        ({"seeds": True}, "seeds=True is of type bool"),
        ({"seeds": "5"}, "seeds='5' is of type str, not an integer; nearest: 5"),
        ({"bc": {"rounds": 10**400}}, r"nearest: 10000"),
        ({"episodes": np.float32(8)}, r"episodes=.*8.0.* is of type float32"),
        ({"T_max": "many"}, "T_max='many' is of type str"),
        ({"horizons": [64.0, 128]}, r"horizons=64.0 is of type float"),
        ({"first_seed": np.int64(-1)}, "first_seed=-1 must be at least 0"),
        ({"budget": "hug"}, "did you mean"),
        ({"out": "taken"}, "is a file"),
        ({"out": None}, "out=None must be a folder's name"),
        ({"mode": 3}, "mode=3 must be a name or a list of names"),
    ],
)
def test_run_refuses_bad_input(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    with pytest.raises(BadInput, match=message):
        irl_bench.run(**{"algo": "bc", "env": "chain", "budget": "smoke", **arguments})


def test_numpys_numbers_are_numbers(monkeypatch):
    request = Request(
        algo=("bc",),
        env=("chain",),
        budget="smoke",
        seeds=jnp.int32(5),
        first_seed=np.uint8(3),
        episodes=np.array(64),
        T_max=np.int16(512),
        horizons=np.array([64, 128, 256]),
        settings={
            "bc": {
                "learning_rate": np.float32(0.5),
                "rounds": np.int64(7),
                "hidden": np.array([8, 8]),
            },
            "chain": {"hazard": np.float64(0.5)},
        },
    )
    plan = plans.build(request)
    same = plans.build(
        Request(
            algo=("bc",),
            env=("chain",),
            budget="smoke",
            seeds=5,
            first_seed=3,
            episodes=64,
            T_max=512,
            horizons=(64, 128, 256),
            settings={
                "bc": {"learning_rate": 0.5, "rounds": 7, "hidden": (8, 8)},
                "chain": {"hazard": 0.5},
            },
        )
    )
    assert plan == same
    json.dumps(documents.document(plan, "", {}))
    figures = irl_bench.score(
        lambda o, k: jnp.int32(0),
        "chain",
        seeds=np.int64(2),
        episodes=np.int32(4),
        eps_episodes=2,
        eps_steps=8,
    )
    assert figures["seeds"] == 2


def _plan(*argv: str) -> plans.Plan:
    return plans.build(sweep.parse(["sweep.py", "--budget=smoke", *argv]).request)


def test_an_edited_file_is_another_cell(examples):
    before = _plan("--algo=ridge:make", "--env=chain").cells[-1]
    with (examples / "ridge.py").open("a") as file:
        file.write("\n# edited\n")
    after = _plan("--algo=ridge:make", "--env=chain").cells[-1]
    assert before.plugin != after.plugin and before.plugin.keys() == after.plugin.keys() == {
        "ridge.py"
    }


def test_other_params_are_another_cell(examples):
    sources = []
    for gain in (1.0, 2.0):
        (examples / "weights.txt").write_text(str(gain))
        (examples / "stored.py").write_text(
            "import pathlib\nimport jax.numpy as jnp\n\ndef load():\n"
            "    return {'gain': jnp.float32(pathlib.Path('weights.txt').read_text())}\n\n"
            "def act(params, observation, key):\n    return -params['gain'] * observation\n"
        )
        sources.append(registry.algorithm("policy:stored:act").source)
    sys.modules.pop("stored")
    assert (
        sources[0]["stored.py"] == sources[1]["stored.py"]
        and sources[0]["params of stored:act"] != sources[1]["params of stored:act"]
    )


def test_all_files_of_a_package_count(examples):
    package = examples / "outer" / "inner"
    package.mkdir(parents=True)
    (package / "mine.py").write_text((examples / "ridge.py").read_text())
    (examples / "outer" / "helper.py").write_text("x = 1\n")
    assert registry.algorithm("outer.inner.mine:make").source.keys() == {
        "outer/inner/mine.py",
        "outer/helper.py",
    }
    for name in ("outer", "outer.inner", "outer.inner.mine"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("files", "line", "message"),
    [
        ({}, "--algo=ridge:mak", "did you mean 'make'"),
        ({"bc.py": "ridge.py"}, "--algo=bc,bc:make", "taken"),
        ({"seeds.py": "ridge.py"}, "--algo=seeds:make", "taken"),
        ({}, "--algo=ridge:make --ridge.penaltie=1", "--ridge.penalty"),
        ({}, "--algo=ridge:make --ridge.penalty=-1", "nearest: 1e-09"),
        ({}, "--env=gusts:make --gusts.gusts=1", "--gusts.gust"),
        ({}, "--env=gusts:Dials", "must return an envs.World"),
        ({}, "--policy=brake:act --env=chain", "action must be"),
        ({}, "--algo=brake:params", "not a function"),
        ({}, "--algo=gusts:make --env=chain", "make(spec, config)"),
    ],
)
def test_bad_outside_files_are_one_line(files, line, message, examples, capsys):
    for name, source in files.items():
        (examples / name).write_text((examples / source).read_text())
    try:
        status = sweep.main(
            sweep.parse_or_exit(["sweep.py", "--dry_run", "--budget=smoke", *line.split()])
        )
    except SystemExit as stop:
        status = stop.code
    err = capsys.readouterr().err
    assert status == 2 and err.count("\n") == 1 and message in err, err
    for name in files:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_a_broken_file_shows_its_own_traceback(examples):
    (examples / "broken.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        registry.algorithm("broken:make")


def test_ridge_is_the_closed_form():
    namespace: dict = {}
    text = dict(EXAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text()))["ridge.py"]
    exec(compile(text, "ridge.py", "exec"), namespace)
    from irl_bench.core.types import Demonstrations, Spec, Task

    rng = np.random.default_rng(0)
    x, y, mask = rng.normal(size=(3, 7, 65)), rng.integers(0, 4, (3, 7)), rng.integers(0, 2, (3, 7))
    demos = Demonstrations(jnp.float32(x), jnp.int32(y), jnp.float32(mask))
    learner = namespace["make"](Spec(envs.make("chain"), 8, 3, 7), namespace["Config"](penalty=0.1))
    task = Task(demos, None)
    weights, metrics = learner.update(learner.init(jax.random.PRNGKey(0), task), task)
    keep = mask.reshape(-1) > 0
    a = np.concatenate([x, np.ones((3, 7, 1))], -1).reshape(-1, 66)[keep]
    b = np.eye(4)[y.reshape(-1)[keep]]
    exact = np.linalg.solve(a.T @ a + 0.1 * keep.sum() * np.eye(66), a.T @ b)
    np.testing.assert_allclose(weights, exact, atol=1e-4)
    np.testing.assert_allclose(metrics["mse"], ((a @ exact - b) ** 2).sum() / keep.sum(), rtol=1e-4)
