"""Studies: their numbers from constructed curves, their parts, and a run from start to files."""

import json
import pathlib
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.horizon import Curves
from irl_bench.plan import build
from irl_bench.report import ReportData, tables
from irl_bench.report.data import plain
from irl_bench.studies import aggregate, demo_efficiency, levels, measures, study, transfer
from tests.conftest import TINY


def curves(algo: str, cost: np.ndarray, env: str = "w") -> Curves:
    """Returns the curves of S seeds with constant costs per step, float[S]."""
    seeds, steps = len(cost), np.arange(1, 9)
    ones = np.ones(seeds)
    return Curves(
        env=env,
        algo=algo,
        mode="m",
        seeds=np.arange(seeds),
        T=steps,
        cost=cost[:, None] * steps,
        graded=cost[:, None] * steps,
        expert_cost=None,
        on_steps=ones,
        on_to_off=0 * ones,
        off_steps=ones,
        off_to_on=0 * ones,
        eps_expert=np.zeros((seeds, 3)),
        eps_own=np.zeros((seeds, 3)),
        departures=None,
        failed=np.zeros(seeds, bool),
        interactive=False,
        episodes=4,
        consumes=(7, 11),
        returns=8 * (1 - cost),
    )


def report(**costs: np.ndarray) -> ReportData:
    made = [curves(name, np.asarray(cost, float)) for name, cost in costs.items()]
    return ReportData(made, [], [], {"worlds": {"w": {"nominal": "m"}}, "entries": []})


def test_score_is_one_for_the_expert_and_zero_for_random_actions(constructed_worlds):
    constructed_worlds["w"] = 8 * (1 - 0.6)
    data = report(expert=[0.1, 0.1], bc=[0.1, 0.35, 0.6])
    np.testing.assert_allclose(measures.scores(data, "w", "bc", "m"), [1.0, 0.5, 0.0], atol=1e-12)
    assert measures.scores(report(bc=[0.1]), "w", "bc", "m") is None


@pytest.mark.slow
def test_random_actions_earn_what_a_loop_says():
    world = envs.make("chain")
    mode = next(iter(world.modes))
    record = {"dials": {}, "options": {}}
    found = levels.random_return("chain", 16, record, mode)
    bound = world.bind(world.dials_for(mode))
    step = jax.jit(bound.step)
    total = []
    for episode in range(50):
        state = jax.jit(bound.reset)(jax.random.PRNGKey(1000 + episode))
        actions = np.random.default_rng(episode).integers(0, world.n_actions, 16)
        total.append(0.0)
        for action in actions:
            state = step(state, jnp.int32(action))
            total[-1] += float(state.reward)
    error = np.std(total) / np.sqrt(len(total))
    assert abs(found - np.mean(total)) < 4 * error
    assert found == levels.random_return("chain", 16, record, mode)


def test_ratio_of_regrets_is_paired_by_seed():
    rng = np.random.default_rng(0)
    other = np.exp(rng.normal(size=12))
    last = np.array([8])
    estimate, low, high = measures.paired_ratio(
        curves("gail", other * 0.25), curves("bc", other), last
    )
    assert (
        estimate == pytest.approx(0.25)
        and low == pytest.approx(0.25)
        and high == pytest.approx(0.25)
    )
    noisy = other * np.exp(rng.normal(size=12))
    estimate, low, high = measures.paired_ratio(curves("gail", noisy), curves("bc", other), last)
    assert estimate == pytest.approx(noisy.mean() / other.mean()) and low < estimate < high
    assert measures.paired_ratio(curves("gail", -noisy), curves("bc", other), last) is None
    lost = curves("gail", other * 0.25)
    lost.failed[3] = True  # the seed is left out of both, and the others stay with their own
    estimate, low, high = measures.paired_ratio(lost, curves("bc", other), last)
    assert (
        estimate == pytest.approx(0.25)
        and low == pytest.approx(0.25)
        and high == pytest.approx(0.25)
    )


def test_gain_over_bc_is_paired_by_seed():
    """Scores differ a lot between seeds and by 0.25 within each; the order of seeds is free."""
    cost = np.array([0.6, 0.1, 0.4, 0.5])
    gail, bc = curves("gail", cost[::-1] - 0.2), curves("bc", cost)
    gail.seeds[:] = gail.seeds[::-1].copy()
    own, theirs = 0.25 + (1 - cost[::-1]), 1 - cost
    np.testing.assert_allclose(demo_efficiency.paired_gain(gail, own, bc, theirs), 0.25)
    bc.failed[1] = True  # the scores are those of the usable seeds
    theirs = np.delete(theirs, 1)
    np.testing.assert_allclose(demo_efficiency.paired_gain(gail, own, bc, theirs), 0.25)
    assert demo_efficiency.paired_gain(gail, own, bc, None) is None


@pytest.fixture
def few_bootstrap_samples(monkeypatch):
    monkeypatch.setattr(aggregate, "REPETITIONS", 50)


def test_demo_efficiency_reads_every_number(few_bootstrap_samples, constructed_worlds):
    constructed_worlds["w"] = 0.0
    expert = {"expert": [0.0] * 4, "untrained": [1.0] * 4}
    found = {}
    for n in (16, 2):
        found[f"demos-{n}"] = report(
            **expert,
            bc=[0.4, 0.5, 0.5, 0.6],
            clone=[0.2, 0.3, 0.3, 0.4],
            gail=[0.04, 0.05, 0.05, 0.06],
        )
        found[f"flag_seen/demos-{n}"] = report(**expert, gail=[0.0, 0.01, 0.01, 0.9])
    read = demo_efficiency.read(found)
    rows, whole = read["tables"].values()
    names = ["bc", "clone", "gail", "gail (flag seen)"]
    expected = [(n, name) for n in (2, 16) for name in names]
    assert [(row["demos"], row["algorithm"]) for row in whole] == expected
    assert whole[0]["IQM of the score"].startswith("0.5 [") and whole[0]["worlds"] == 1
    assert [(row["demos"], row["algorithm"]) for row in rows] == expected
    bc, clone, gail, seen = rows[:4]
    assert gail["score"].startswith("0.95 [") and gail["regret / BC's"].startswith("0.1 [")
    assert bc["regret / BC's"] == "–" and gail["worst seed"] == pytest.approx(0.94)
    assert seen["score"].startswith("0.99 [") and seen["worst seed"] == pytest.approx(0.1)
    assert (gail["lost seeds"], seen["lost seeds"], bc["lost seeds"]) == (0, 1, 1)
    assert gail["above BC's"].startswith("0.45 [") and clone["above BC's"].startswith("0.2 [")
    assert gail["above the clone's"].startswith("0.25 [") and clone["above the clone's"] == "–"
    # Seed by seed 0.2, 0.29, 0.29 and -0.5: the middle two are 0.245.
    assert seen["above the clone's"].startswith("0.245 [") and bc["above BC's"] == "–"
    assert any("uniformly random actions" in line for line in read["text"])
    figure = demo_efficiency.draw(read)
    titles = [axis.get_xlabel() for axis in figure.axes]
    assert titles == ["demonstrations"] * 3 + ["score τ"]
    dots = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_ydata()) for line in dots if line.get_markersize() == 2) == 8 * 4


def test_parts_of_demo_efficiency_hide_and_show_the_flag():
    line = "--experiment=demo_efficiency --gail.rounds=30 --out=runs/x"
    command = sweep.parse(["sweep.py", *line.split()])
    parts = demo_efficiency.parts(command.request, command.demos, pathlib.Path("runs/x"))
    assert command.request.seeds == 20
    named = {part.name: part.request for part in parts}
    assert set(named) == {
        name for n in (1, 4, 16, 64) for name in (f"demos-{n}", f"flag_seen/demos-{n}")
    }
    hidden, seen = named["demos-16"], named["flag_seen/demos-16"]
    assert hidden.algo == ("bc", "clone", "dagger", "gail", "airl") and hidden.demos == 16
    assert hidden.settings == {"gail": {"rounds": 30}}
    assert seen.algo == ("gail", "airl") and seen.demos == 16
    assert seen.settings == {
        "gail": {"rounds": 30, "mask_failure": False},
        "airl": {"mask_failure": False},
    }
    line = "--experiment=demo_efficiency --env=lane_keep,hopper --demos=4 --out=runs/x"
    command = sweep.parse(["sweep.py", *line.split()])
    parts = demo_efficiency.parts(command.request, command.demos, pathlib.Path("runs/x"))
    assert [part.request.env for part in parts] == [("lane_keep", "hopper"), ("lane_keep",)]
    line = "--experiment=demo_efficiency --env=hopper --algo=bc,gail --out=runs/x"
    command = sweep.parse(["sweep.py", *line.split()])
    parts = demo_efficiency.parts(command.request, command.demos, pathlib.Path("runs/x"))
    assert not any("flag_seen" in part.name for part in parts)  # a robot marks no failure


def test_interquartile_mean_and_profile_are_the_definitions(few_bootstrap_samples):
    rng = np.random.default_rng(1)
    scores = {"a": rng.normal(size=(8, 2)), "b": 1.0 + rng.normal(size=(8, 2))}
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = aggregate.iqm(scores), aggregate.iqm(scores)
    assert first == again and (np.random.get_state()[1] == state).all()  # noqa: NPY002
    for name, values in scores.items():
        middle = np.sort(values.ravel())[4:-4]
        estimate, low, high = first[name]
        assert estimate == pytest.approx(middle.mean()) and low < estimate < high
        share, _, _ = aggregate.profiles(scores)[name]
        expected = [(values > threshold).mean() for threshold in aggregate.THRESHOLDS]
        np.testing.assert_allclose(share, expected)


def test_transfer_compares_each_method_under_each_change(tmp_path, constructed_worlds):
    constructed_worlds["w"] = 0.0
    request = sweep.parse(
        ["sweep.py", "--experiment=transfer", "--airl.rounds=30", f"--out={tmp_path}"]
    )
    parts = transfer.parts(request.request, request.demos, tmp_path)
    assert request.demos == (64,) and request.request.seeds == 20
    named = {part.name: part for part in parts}
    # Three sights, two starts, and the true reward once for both.
    learned = len(transfer.METHODS) - 1
    assert len(named) == len(parts) == 3 * (2 * (3 + 4 * learned) + 4)
    again = named["lane_keep/visible/random/friction/reward_airl_state_action"]
    assert again.request.algo == ("ppo",) and again.request.given == str(
        tmp_path / "lane_keep/visible/random/learn/airl_state_action"
    )
    assert again.request.settings == {
        "ppo": {"reward": "learned"},
        "lane_keep": {"view": "visible", "friction": 0.25},
    }
    source = lambda place: named[f"lane_keep/{place}"].request.settings
    assert source("flag_seen/clone/learn/airl_state_action") == {
        "airl": {"rounds": 30, "g": "state_action", "init": "bc", "mask_failure": False},
        "lane_keep": {"view": "hidden"},
    }
    random = source("visible/random/learn/gail")["gail"]
    assert random == {"init": "random", "mask_failure": True}
    assert source("hidden/random/learn/airl")["airl"]["rounds"] == 30  # the command's
    order = [part.name for part in parts]
    assert all(order.index(part.after) < order.index(part.name) for part in parts if part.after)

    found = {}
    for part in parts:
        if "/learn/" not in part.name:
            # No measure: the expert of a changed world, worth half of what it was, and random
            # actions in the unchanged one.
            same = "/none/" in part.name
            references = {
                "expert": [0.0 if same else 0.5] * 3,
                "untrained": [2.0 if same else 1.0] * 3,
            }
            shift = 0.1 if "/random/" in part.name and "reward_airl/" in part.name + "/" else 0.0
            costs = [cost - shift for cost in (0.1, 0.2, 0.3)]
            found[part.name] = report(**references, **{part.request.algo[0]: costs})
    read = transfer.read(found)
    assert len(read["tables"]) == 3 * 4
    table = read["tables"]["lane_keep, friction = 0.25, the offset always in sight, flag hidden"]
    row = {(row["method"], row["learned beside"]): row for row in table}
    assert len(table) == len(row) == 2 * learned + 1
    clone = row["AIRL's g(s)", "a clone"]
    assert clone["less AIRL's policy"] == "0 [0, 0]" and clone["score"].startswith("0.8 [")
    assert row["AIRL's g(s)", "a random policy"]["less AIRL's policy"] == "0.1 [0.1, 0.1]"
    assert row["true reward", tables.MISSING]["less AIRL's policy"] == tables.MISSING
    # In two halves, and from what a file holds of the first.
    names = [part.name for part in parts]
    half = {name for name in names if "/clone/" in name}
    halves = [
        {name: found[name] for name in found if (name in half) is first} for first in (True, False)
    ]
    first, second = (transfer.read(part) for part in halves)
    assert 0 < len(first["points"]) < len(read["points"])
    stored = json.loads(json.dumps(plain(first)))["points"]
    joined = transfer.join([*stored, *second["points"]], names)
    assert plain(joined["tables"]) == plain(read["tables"]) and joined["text"] == read["text"]
    assert f"{names[-1]}" in transfer.join(stored, names)["text"][-1]
    # What is not measured in the unchanged world has no scale.
    lacking = {name: found[name] for name in found if "visible/random/none/" not in name}
    assert not any(
        point["part"].startswith("lane_keep/visible/random/")
        for point in transfer.read(lacking)["points"]
    )

    titles = [axis.get_title() for axis in transfer.draw(read).axes if axis.get_title()]
    assert (
        titles[:2]
        == [
            "lane_keep, hidden: nothing changed",
            "lane_keep, hidden: friction = 0.25",
        ]
        and len(titles) == len(set(titles)) == 12
    )

    request = sweep.parse(
        ["sweep.py", "--experiment=transfer", "--env=ant", "--demos=50", f"--out={tmp_path}"]
    )
    named = {part.name: part for part in transfer.parts(request.request, request.demos, tmp_path)}
    again = named["ant/only/clone/leg/reward_airl"].request
    assert again.settings == {
        "ppo": {"reward": "learned"},
        "ant": {"disabled_joint": 1.0, "disabled_count": 2.0},
    }
    only = ["sweep.py", "--experiment=transfer", "--lane_keep.view=visible", f"--out={tmp_path}"]
    request = sweep.parse(only)
    places = [part.name for part in transfer.parts(request.request, request.demos, tmp_path)]
    assert {place.split("/")[1] for place in places} == {"visible"}
    request = sweep.parse(["sweep.py", "--experiment=transfer", "--env=hopper"])
    with pytest.raises(BadInput, match="lane_keep, ant; nearest"):
        transfer.parts(request.request, request.demos, tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--experiment=demo_eficiency", "demo_efficiency"),
        ("--experiment=transfer --algo=bc", "leave out --algo"),
        ("--experiment=transfer --reward=runs/x", "--reward"),
        ("--experiment=transfer --demos=1,2", "--demos=2"),
        ("--experiment=transfer --given=runs/x", "--given"),
        ("--experiment=demo_efficiency --demos=4,4", "twice"),
        ("--experiment=demo_efficiency --bc.lr=1", "no setting"),
        ("--experiment=demo_efficiency --mode=nominal", "--mode"),
        ("--demos=1,4", "--experiment=demo_efficiency"),
        ("--parts=lane_keep", "is for a study, and this is a sweep"),
        ("--experiment=transfer --parts=a,,b", "a part that is empty"),
    ],
)
def test_bad_input_is_one_line_with_the_nearest(line, words):
    with pytest.raises(BadInput, match=words):
        sweep.parse(["sweep.py", *line.split()])


def rebuilt(out):
    program = pathlib.Path(__file__).parents[2] / "launch" / "report.py"
    return subprocess.run([sys.executable, program, out], capture_output=True, text=True)


PARTS = ("w/one/bc", "w/one/clone", "w/two/bc", "w/twofold/bc")


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ((), PARTS),
        (("w",), PARTS),
        (("w/two",), ("w/one/clone", "w/two/bc")),
        (("w/twofold/bc", "w/one/bc"), ("w/one/bc", "w/twofold/bc")),
    ],
)
def test_some_parts_of_a_study(only, expected):
    """With those that they take from, and no others whose names begin alike."""
    parts = [
        study.Part(name, build.Request(), after="w/one/clone" if name == "w/two/bc" else None)
        for name in PARTS
    ]
    assert tuple(part.name for part in study.chosen(parts, only)) == expected
    with pytest.raises(BadInput, match=r"no part 'w/tow'; nearest: --parts=w/two$"):
        study.chosen(parts, ("w/tow",))


@pytest.mark.usefixtures("quick_compilation")
def test_a_study_is_run_part_by_part(tmp_path, monkeypatch, capsys):
    """As on two machines or two evenings; nothing is computed twice."""
    monkeypatch.setattr("irl_bench.report.figures.draw", lambda data: {})
    line = (
        "--experiment=demo_efficiency --env=chain --algo=bc --budget=smoke --demos=2,4 "
        f"{' '.join(TINY)} --out={tmp_path}"
    )
    run = lambda *more: sweep.main(sweep.parse(["sweep.py", *line.split(), *more]))
    assert run("--parts=demos-4") == 0
    text = capsys.readouterr().out
    assert "parts to come: demos-2\ndemo_efficiency is read once all of its parts are there" in text
    assert not (tmp_path / "demos-2").exists() and not (tmp_path / "demo_efficiency.json").exists()
    assert run("--parts=demos-4,demos-2") == 0
    assert "parts to come" not in capsys.readouterr().out
    found = json.loads((tmp_path / "demo_efficiency.json").read_text())
    assert "--parts" not in found["command"] and {p["demos"] for p in found["points"]} == {2, 4}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/cells/*.parquet")}
    assert run() == 0 and rebuilt(tmp_path).returncode == 0
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/cells/*.parquet")}
    changed = [part for part in line.split() if "T_max" not in part]
    assert sweep.main(sweep.parse(["sweep.py", *changed, "--T_max=64", "--parts=demos-2"])) == 2
    error = capsys.readouterr().err
    assert "their command has --T_max=128, this one --T_max=64; nearest: another --out" in error
    assert run("--parts=demo-4") == 2
    assert "no part 'demo-4'; nearest: --parts=demos-4" in capsys.readouterr().err


def test_parts_run_beside_each_other_all_count(tmp_path, monkeypatch, capsys):
    """One worker ends while another is in the middle of its part."""
    line = (
        "--experiment=demo_efficiency --env=chain --algo=bc --budget=smoke --demos=2,4 "
        f"--out={tmp_path}"
    )
    command = sweep.parse(["sweep.py", *line.split()])
    run = lambda name: study.run(
        command.study, command.request, command.demos, command.line, only=(name,)
    )
    begun, rebuilt = [], []

    def compute(request, *_):
        if not begun:
            begun.append(request)
            run("demos-2")
        entries = [{"env": "chain", "algo": "bc", "mode": "cliff"}]
        return types.SimpleNamespace(planned={"entries": entries})

    monkeypatch.setattr(study.sweep, "compute", compute)
    monkeypatch.setattr(study.sweep, "finish", lambda *_: None)
    monkeypatch.setattr(study, "rebuild", lambda *_, **options: rebuilt.append(options) or {})
    run("demos-4")
    text = capsys.readouterr().out
    assert "parts to come: demos-4" in text and "parts to come: demos-2" not in text
    assert rebuilt == [{"partial": False}]


def test_a_part_comes_with_the_one_it_is_read_against(tmp_path):
    command = sweep.parse(
        ["sweep.py", "--experiment=transfer", "--budget=smoke", f"--out={tmp_path}"]
    )
    parts = transfer.parts(command.request, command.demos, tmp_path)
    at = "lane_keep/hidden/clone"
    names = [part.name for part in study.chosen(parts, (f"{at}/friction/reward_airl",))]
    assert names == [f"{at}/learn/airl", f"{at}/none/reward_airl", f"{at}/friction/reward_airl"]


@pytest.mark.usefixtures("quick_compilation")
def test_a_study_runs_to_its_files_and_is_rebuilt_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("irl_bench.report.figures.draw", lambda data: {})  # of its parts
    line = (
        "--experiment=demo_efficiency --env=chain --algo=bc --budget=smoke --demos=2,4 "
        f"{' '.join(TINY)} --out={tmp_path}"
    )
    assert sweep.main(sweep.parse(["sweep.py", *line.split()])) == 0
    names = (
        "demo_efficiency.json",
        "demo_efficiency.html",
        "figures/demo_efficiency.png",
        "figures/demo_efficiency.pdf",
    )
    first = {name: (tmp_path / name).read_bytes() for name in names}
    found = json.loads(first["demo_efficiency.json"])
    assert {(p["algo"], p["demos"]) for p in found["points"]} == {("bc", 2), ("bc", 4)}
    assert all(
        p["score"][0] <= 1.0 for p in found["points"]
    )  # two demonstrations may do worse than chance
    assert all((tmp_path / f"demos-{n}" / "report.html").exists() for n in (2, 4))

    for name in names:
        (tmp_path / name).unlink()
    done = rebuilt(tmp_path)
    assert done.returncode == 0 and "score" in done.stdout and not done.stderr, done.stderr
    assert first == {name: (tmp_path / name).read_bytes() for name in names}
    next(tmp_path.glob("*/cells/*.parquet")).unlink()
    done = rebuilt(tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_dry_run_of_a_study_says_what_waits_for_what(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("irl_bench.cli.on_cluster._memory", lambda left: f"{len(left)} parts")
    command = sweep.parse(
        [
            "sweep.py",
            "--experiment=transfer",
            "--budget=smoke",
            "--dry_run",
            "--cluster=4x2",
            f"--out={tmp_path}/new",
        ]
    )
    assert sweep.main(command) == 0
    text = capsys.readouterr().out
    assert "planned once lane_keep/hidden/clone/learn/airl has been run" in text
    assert "lane_keep/hidden/clone/friction/reward_true:" in text
    told = text[text.rindex("on 4 machines with 2 devices each, one task for each machine:") :]
    assert "tasks: 4, with " in told and "unknown" not in told and "--shard" not in told
    assert f"memory of a device: {text.count('plan: ')} parts" in told
    assert not (tmp_path / "new").exists()


def test_narrowed_drops_settings_of_what_is_not_in_the_sweep():
    request = build.Request(
        algo=("bc", "dagger"),
        env=("chain",),
        settings={"bc": {"rounds": 2}, "dagger": {"loss": "mse"}},
    )
    assert study.narrowed(request, algo=("bc",)).settings == {"bc": {"rounds": 2}}


def test_a_transfer_folder_of_other_parts_is_one_line():
    with pytest.raises(ValueError, match="earlier version"):
        transfer.read({"friction/reward_true": report(expert=[0.0], untrained=[1.0])})
