"""Studies: their numbers from constructed curves, their parts, and a run from start to files."""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.horizon import Curves
from irl_bench.plan import build
from irl_bench.report import ReportData
from irl_bench.studies import aggregate, demo_efficiency, levels, study, transfer


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
    return ReportData(made, [], [], {"worlds": {"w": {"nominal": "m"}}})


def test_score_is_one_for_the_expert_and_zero_for_random_actions(constructed_worlds):
    constructed_worlds["w"] = 8 * (1 - 0.6)
    data = report(expert=[0.1, 0.1], bc=[0.1, 0.35, 0.6])
    np.testing.assert_allclose(study.scores(data, "w", "bc", "m"), [1.0, 0.5, 0.0], atol=1e-12)
    assert study.scores(report(bc=[0.1]), "w", "bc", "m") is None


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
    estimate, low, high = demo_efficiency.paired_ratio(
        curves("gail", other * 0.25), curves("bc", other), last
    )
    assert (
        estimate == pytest.approx(0.25)
        and low == pytest.approx(0.25)
        and high == pytest.approx(0.25)
    )
    noisy = other * np.exp(rng.normal(size=12))
    estimate, low, high = demo_efficiency.paired_ratio(
        curves("gail", noisy), curves("bc", other), last
    )
    assert estimate == pytest.approx(noisy.mean() / other.mean()) and low < estimate < high
    assert demo_efficiency.paired_ratio(curves("gail", -noisy), curves("bc", other), last) is None
    lost = curves("gail", other * 0.25)
    lost.failed[3] = True  # the seed is left out of both, and the others stay with their own
    estimate, low, high = demo_efficiency.paired_ratio(lost, curves("bc", other), last)
    assert (
        estimate == pytest.approx(0.25)
        and low == pytest.approx(0.25)
        and high == pytest.approx(0.25)
    )


def test_gain_over_bc_is_paired_by_seed():
    """Scores differ a lot between seeds and by 0.25 within each; the order of seeds is free."""
    cost = np.array([0.6, 0.1, 0.4, 0.5])
    data = report(expert=[0.1] * 4, untrained=[0.9] * 4, bc=cost, gail=cost[::-1] - 0.2)
    gail, bc = (next(c for c in data.curves if c.algo == name) for name in ("gail", "bc"))
    gail.seeds[:] = gail.seeds[::-1].copy()
    np.testing.assert_allclose(demo_efficiency.paired_gain(data, gail, bc), 0.25, rtol=1e-6)
    bc.failed[1] = True
    np.testing.assert_allclose(demo_efficiency.paired_gain(data, gail, bc), 0.25, rtol=1e-6)


@pytest.fixture
def few_bootstrap_samples(monkeypatch):
    monkeypatch.setattr(aggregate, "REPETITIONS", 50)


def test_demo_efficiency_reads_every_number(few_bootstrap_samples, constructed_worlds):
    constructed_worlds["w"] = 0.0
    found = {
        f"demos-{n}": report(
            expert=[0.0] * 4,
            untrained=[1.0] * 4,
            bc=[0.4, 0.5, 0.5, 0.6],
            gail=[0.04, 0.05, 0.05, 0.06],
        )
        for n in (16, 2)
    }
    read = demo_efficiency.read(found)
    rows, whole = read["tables"].values()
    assert [(row["demos"], row["algorithm"]) for row in whole] == [
        (2, "bc"),
        (2, "gail"),
        (16, "bc"),
        (16, "gail"),
    ]
    assert whole[0]["IQM of the score"].startswith("0.5 [") and whole[0]["worlds"] == 1
    assert [(row["demos"], row["algorithm"]) for row in rows] == [
        (2, "bc"),
        (2, "gail"),
        (16, "bc"),
        (16, "gail"),
    ]
    assert rows[1]["score"].startswith("0.95 [") and rows[1]["regret / BC's"].startswith("0.1 [")
    assert rows[0]["regret / BC's"] == "–" and rows[1]["worst seed"] == pytest.approx(0.94)
    titles = [axis.get_xlabel() for axis in demo_efficiency.draw(read).axes]
    assert titles == ["demonstrations"] * 3 + ["score τ"]


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
    assert request.demos == (64,) and request.request.seeds == 10
    named = {part.name: part for part in parts}
    assert len(named) == len(parts) == 3 + 4 * len(transfer.METHODS)
    again = named["lane_keep/friction/reward_airl_state_action"]
    assert again.request.algo == ("ppo",) and again.request.given == str(
        tmp_path / "lane_keep/learn/airl_state_action"
    )
    assert again.request.settings == {"ppo": {"reward": "learned"}, "lane_keep": {"friction": 0.25}}
    assert named["lane_keep/learn/airl_state_action"].request.settings == {
        "airl": {"rounds": 30, "g": "state_action", "mask_failure": False}
    }
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
            made = report(**references, **{part.request.algo[0]: [0.1, 0.2, 0.3]})
            found[part.name] = made
    read = transfer.read(found)
    assert len(read["tables"]) == 4
    row = next(
        row
        for row in read["tables"]["lane_keep, friction = 0.25"]
        if row["method"] == "AIRL's g(s)"
    )
    assert row["less AIRL's policy"] == "0 [0, 0]" and row["score"].startswith("0.8 [")
    titles = [axis.get_title() for axis in transfer.draw(read).axes]
    assert titles == [
        f"lane_keep: {name}"
        for name in ("nothing changed", "friction = 0.25", "mass = 3", "crosswind = 15")
    ]

    request = sweep.parse(
        ["sweep.py", "--experiment=transfer", "--env=ant", "--demos=50", f"--out={tmp_path}"]
    )
    named = {part.name: part for part in transfer.parts(request.request, request.demos, tmp_path)}
    again = named["ant/leg/reward_airl"].request
    assert again.settings == {
        "ppo": {"reward": "learned"},
        "ant": {"disabled_joint": 1.0, "disabled_count": 2.0},
    }
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
    ],
)
def test_bad_input_is_one_line_with_the_nearest(line, words):
    with pytest.raises(BadInput, match=words):
        sweep.parse(["sweep.py", *line.split()])


def rebuilt(out):
    program = pathlib.Path(__file__).parents[2] / "launch" / "report.py"
    return subprocess.run([sys.executable, program, out], capture_output=True, text=True)


def test_a_study_runs_to_its_files_and_is_rebuilt_to_the_same_bytes(tmp_path, quick_compilation):
    line = (
        "--experiment=demo_efficiency --env=chain --algo=bc --budget=smoke --demos=2,4 "
        f"--out={tmp_path}"
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


def test_dry_run_of_a_study_says_what_waits_for_what(tmp_path, capsys):
    command = sweep.parse(
        [
            "sweep.py",
            "--experiment=transfer",
            "--budget=smoke",
            "--dry_run",
            f"--out={tmp_path}/new",
        ]
    )
    assert sweep.main(command) == 0
    text = capsys.readouterr().out
    assert (
        "planned once lane_keep/learn/gail has been run" in text
        and "learn/airl_state_action" in text
    )
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
