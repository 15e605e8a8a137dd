"""Training and shipping a demonstrator: exact resumption, shipped files, one-line errors."""

import json
import pathlib
import shlex
import subprocess
import sys
import types

import numpy as np
import pytest

from envs import demonstrators as shipped
from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput, parsed
from irl_bench.plan import build, registry
from irl_bench.tools import demonstrators

ROOT = pathlib.Path(__file__).parents[2]
TINY = {
    "rounds": 3,
    "worlds": 8,
    "unroll": 16,
    "minibatches": 2,
    "epochs": 1,
    "hidden": (4,),
    "value_hidden": (4,),
}


@pytest.fixture
def small(monkeypatch):
    for name, value in (("EPISODES", 4), ("QUICK", 2), ("STEPS", 20)):
        monkeypatch.setattr(demonstrators, name, value)


@pytest.mark.slow
def test_a_training_resumes_exactly_and_ships_its_best(
    small, tmp_path, quick_compilation, monkeypatch
):
    training = demonstrators.Training("lane_keep", 3, {}, TINY)
    whole = demonstrators.train(training, tmp_path / "whole", lambda _: None, 128)
    assert [line["steps"] for line in whole] == [128, 256, 384]

    class Stop(Exception):
        pass

    def stop(text):
        raise Stop

    with pytest.raises(Stop):
        demonstrators.train(training, tmp_path / "parts", stop, 128)
    parts = demonstrators.train(training, tmp_path / "parts", lambda _: None, 128)
    assert parts == whole
    for name in ("000001", "000003"):
        files = [
            (tmp_path / run / "policies" / f"{name}.safetensors").read_bytes()
            for run in ("whole", "parts")
        ]
        assert files[0] == files[1]
    with pytest.raises(BadInput, match="holds another training"):
        demonstrators.train(demonstrators.Training("lane_keep", 4, {}, TINY), tmp_path / "whole")

    with pytest.raises(
        BadInput, match="holds another training"
    ):  # its card would tell of another algorithm
        demonstrators.ship(
            demonstrators.Training("lane_keep", 3, {}, {}, algo="sac"),
            tmp_path / "whole",
            ("expert",),
            "",
            tmp_path / "out",
        )
    (card,) = demonstrators.ship(
        training, tmp_path / "whole", ("expert",), "a command", tmp_path / "out"
    )
    found = shipped.read(tmp_path / "out" / "lane_keep-irl_bench.safetensors")
    assert (
        found.card == json.loads(json.dumps(card))
        and card["command"] == "a command"
        and card["backend"] == "irl_bench"
    )
    best = max(reversed(whole), key=lambda line: line["return"])
    content = (tmp_path / "whole" / "policies" / f"{best['round']:06d}.safetensors").read_bytes()
    assert content == (tmp_path / "out" / "lane_keep-irl_bench.safetensors").read_bytes()
    assert card["return"][1] <= card["return"][0] <= card["return"][2] and np.isfinite(
        card["random_return"]
    )

    level = [json.dumps({**line, "return": 1.0}) for line in whole]
    (tmp_path / "whole" / "curve.jsonl").write_text("\n".join(level))
    (card,) = demonstrators.ship(
        training, tmp_path / "whole", ("expert",), "a command", tmp_path / "out"
    )
    assert card["env_steps"] == whole[-1]["steps"]  # of equals the last

    random = card["random_return"]
    rising = [
        json.dumps({**line, "return": random + 100 * (i + 1)}) for i, line in enumerate(whole)
    ]
    (tmp_path / "whole" / "curve.jsonl").write_text("\n".join(rising))
    expert = types.SimpleNamespace(card={"return": [random + 1100, random + 1000, random + 1200]})
    monkeypatch.setattr(shipped, "find", lambda *which: expert)
    (card,) = demonstrators.ship(
        training, tmp_path / "whole", ("25",), "a command", tmp_path / "out"
    )
    assert (
        card["env_steps"] == whole[-1]["steps"]
    )  # 275 of 1100: a quarter of the expert that ships


@pytest.mark.slow
def test_lesser_drivers_of_the_car_are_what_their_cards_say(quick_compilation):
    import jax

    import envs

    world = envs.make("lane_keep")
    measure = demonstrators.returns(world, demonstrators.network_policy, 48)
    scores = {}
    for quality in ("75", "50", "25"):
        found = shipped.find("lane_keep", "irl_bench", quality)
        own, cost = measure(dict(found.weights), jax.random.PRNGKey(7))
        center, low, high = found.card["return"]
        assert abs(own.mean() - center) < 4 * own.std() / 48**0.5 + (high - low)
        random = found.card["random_return"]
        scores[quality] = (own.mean() - random) / (1000 - random)  # the expert fails in no step
        assert abs(scores[quality] - float(quality) / 100) < 0.1 and cost.mean() > 0.01
        chosen = envs.make("lane_keep", demonstrator=quality)
        state = chosen.reset(jax.random.PRNGKey(0))
        np.testing.assert_array_equal(
            chosen.expert(state, jax.random.PRNGKey(0)), found.act(state.obs)
        )
    assert scores["25"] < scores["50"] < scores["75"]


@pytest.mark.parametrize("name", shipped.shipped())
def test_a_cards_command_is_the_training_it_tells_of(name):
    card = shipped.read(shipped.FOLDER / f"{name}.safetensors").card
    flags = dict(
        part.removeprefix("--").partition("=")[::2] for part in shlex.split(card["command"])[2:]
    )
    algo, (world, chosen) = (
        flags.get("algo", "ppo"),
        ([*filter(None, flags.get(k, "").split(","))] for k in ("world", "set")),
    )
    training = demonstrators.Training(
        flags["env"],
        int(flags.get("seed", 0)),
        parsed("world", world, registry.world(flags["env"]).settings),
        parsed("set", chosen, registry.algorithm(algo).settings),
        "noterminate" not in flags,
        algo,
        float(flags.get("penalty", 0)),
    )
    facts, told = training.facts(), dict(card["training"])
    config = told.pop(algo)  # older ones know fewer settings
    assert config == {setting: facts[algo].get(setting) for setting in config}
    assert (
        told == {fact: facts.get(fact) for fact in told}
        and facts["world"] == card["training"]["world"]
    )
    assert (
        "backend" not in training.world.options or f"backend={card['backend']}" in world
    )  # `auto` is not the same everywhere


def test_nothing_to_ship_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="holds no policies yet"):
        demonstrators.ship(demonstrators.Training("hopper", 0, {}, {}), tmp_path, ("expert",), "")


def test_a_world_whose_physics_breaks_under_random_actions_ships_nothing(tmp_path, monkeypatch):
    training = demonstrators.Training("hopper", 0, {}, {})
    for name, text in (("training", json.dumps(training.facts())), ("machine", "{}")):
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "curve.jsonl").write_text(json.dumps({"round": 1, "steps": 2, "return": 3.0}))
    broken = np.array([1.0, np.nan, np.nan])
    monkeypatch.setattr(
        demonstrators,
        "returns",
        lambda *world_act_episodes: lambda weights, key: (broken, 0 * broken),
    )
    with pytest.raises(
        BadInput, match="hopper on spring became NaN in 2 of 3 episodes of random actions"
    ):
        demonstrators.ship(training, tmp_path, ("expert",), "", tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--env=hopper", "--world=frictoin=2"], "did you mean friction"),
        (["--algo=sac", "--penalty=1"], "PPO alone has it"),
        # A process takes a while to say so.
        *(
            pytest.param(flags, message, marks=pytest.mark.slow)
            for flags, message in (
                (["--env=hopper", "--set=learning_rat=2"], "did you mean learning_rate"),
                (["--env=hopper", "--qualities=60"], "known are expert, 75, 50, 25"),
                (["--env=swimmer"], "swimmer is broken"),
                (["--env=reacher", "--rising"], "reacher has no fallen starts"),
            )
        ),
    ],
)
def test_bad_input_is_one_line(flags, message):
    line = [sys.executable, ROOT / "launch" / "expert.py", *flags]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr, (
        done.stderr
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--env=pusher --pusher.backend=spring", "pusher has no demonstrator for backend=spring"),
        (
            "--env=hopper --hopper.backend=positional",
            "hopper has no demonstrator for backend=positional and demonstrator=expert; nearest: "
            "--hopper.backend=spring, or "
            "irl-bench demonstrator --env=hopper --world=backend=positional to train one",
        ),
        (
            "--env=walker2d --walker2d.demonstrator=50",
            "demonstrator=50; nearest: --walker2d.demonstrator=expert, or irl-bench",
        ),
        ("--env=hopper --hopper.demonstrator=60", "must be one of expert"),
        ("--env=hopper --hopper.mass=9", r"\[0.2, 5\]"),
    ],
)
def test_a_sweep_without_a_demonstrator_says_so(flags, message):
    with pytest.raises(BadInput, match=message):
        build.build(sweep.parse(["sweep.py", "--algo=bc", *flags.split()]).request)


def test_options_are_part_of_a_cell():
    line = ["sweep.py", "--algo=bc", "--env=ant", "--budget=smoke"]
    best, half = (
        build.build(sweep.parse([*line, *more]).request).cells[-1]
        for more in ([], ["--ant.demonstrator=50"])
    )
    assert (
        best.options == {"backend": "spring", "demonstrator": "expert"}
        and half.options["demonstrator"] == "50"
    )
    assert best.static_key() != half.static_key()
    assert best.plugin.keys() == {"ant-spring.safetensors"} and half.plugin.keys() == {
        "ant-spring-50.safetensors"
    }


@pytest.mark.parametrize("algo", demonstrators.ALGORITHMS)
def test_what_is_exported_acts_as_the_learner_does(algo, quick_compilation, monkeypatch):
    import jax
    import jax.numpy as jnp

    from irl_bench.core.types import Task
    from tests.worlds.helpers import Line

    world = Line()
    monkeypatch.setattr(demonstrators.Training, "world", world)
    own = (
        {"random_rounds": 0, "updates": 2, "batch_size": 8}
        if algo == "sac"
        else {"minibatches": 2, "epochs": 1}
    )
    shape = {name: TINY[name] for name in ("rounds", "worlds", "unroll", "hidden", "value_hidden")}
    learner, one_round = demonstrators.Training(
        "hopper", 0, {}, {**shape, **own}, algo=algo
    ).trainer()
    state = learner.init(jax.random.PRNGKey(0), Task(None, world.dials))
    state, _ = one_round(state, world.dials)  # observations have statistics now
    weights = demonstrators.exported(learner, state)
    for observation in (
        state.worlds.state.obs[0],
        jnp.full(world.observation_size, 1e3),
    ):  # within and beyond what is cut
        expected = learner.act(learner.params(state), observation, jax.random.PRNGKey(1))
        np.testing.assert_allclose(
            shipped.act(weights, observation), expected, rtol=1e-5, atol=1e-6
        )


def test_what_training_from_nothing_needs_goes_before_the_table():
    """PPO's settings for robots end an episode soon after a fall; a demonstrator that learns to get
    up needs more time."""
    training = demonstrators.Training("ant", 0, {}, {}, terminate=False)
    assert training.config.linger == 1_000_000 and training.config.rounds == 400
    assert demonstrators.Training("ant", 0, {}, {"linger": 70}).config.linger == 70


@pytest.mark.slow
def test_a_penalty_is_paid_in_failed_steps(quick_compilation):
    import jax
    import jax.numpy as jnp

    from irl_bench.core.types import Task

    shape = {**TINY, "unroll": 64, "episode_steps": 64}
    plain, strict = (
        demonstrators.Training("lane_keep", 0, {}, shape, terminate=False, penalty=penalty)
        for penalty in (0.0, 5.0)
    )
    assert "penalty" not in plain.facts() and strict.facts()["penalty"] == 5.0
    learner, one_round = strict.trainer()
    dials = jax.tree.map(jnp.float32, strict.world.dials)
    _, metrics = jax.jit(one_round)(learner.init(jax.random.PRNGKey(0), Task(None, dials)), dials)
    paid = metrics["true_return"] / 64 - metrics["reward_mean"]
    assert metrics["cost"] > 0.01
    np.testing.assert_allclose(paid, 5.0 * metrics["cost"], rtol=1e-4)
