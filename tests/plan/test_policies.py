"""Policies of other people: recurrent ones, Brax's, PyTorch's and NumPy's, and those whose
numbers are not finite."""

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import irl_bench
from envs import chain
from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.plan import registry
from irl_bench.rollouts.evaluation import evaluate, expert_errors
from tests.worlds.toys import TwoState, closed_form

KEY = jax.random.PRNGKey(3)
SMALL = {"seeds": 2, "episodes": 8, "eps_episodes": 4, "eps_steps": 8}
pytestmark = pytest.mark.usefixtures("quick_compilation")


class Pair(NamedTuple):
    """A carry with names."""

    h: np.ndarray
    c: np.ndarray


def stay(observation, key):
    return jnp.int32(0)


def zeros(observation, key):
    return jnp.zeros(2)


def figures(found):
    return {
        name: found[name]
        for name in ("verdict", "hazard", "recovery", "level", "eps_own", "eps_expert")
    }


def leave_after(steps):
    """Stays on the road for so many steps, then leaves it: what no function of the observation
    alone can do."""
    return lambda params, carry, observation, key: (
        jnp.int32(carry >= params),
        carry + 1,
    ), jnp.int32(steps)


@pytest.mark.parametrize("steps", [0, 5, 12])
def test_a_recurrent_policy_remembers_within_an_episode_and_begins_each_anew(steps):
    world = TwoState()
    act, params = leave_after(steps)
    bound = world.bind(world.dials.replace(slip=0.0, back=0.0))
    run = jax.jit(lambda p, key: evaluate(bound, act, p, key, 4, 16, jnp.int32(0)))
    expected = np.where(np.arange(16) < steps, 0.0, 4.0)
    for key in (KEY, jax.random.PRNGKey(4)):
        np.testing.assert_array_equal(run(params, key).cost, expected)


def test_a_recurrent_policys_errors_are_those_on_the_experts_states():
    world = TwoState()
    act, params = leave_after(5)
    errors, steps = expert_errors(world, act, params, KEY, 4, 8, jnp.int32(0))
    assert steps == 32 and np.all(np.asarray(errors) == 4 * 3)  # steps 5, 6 and 7 of each rollout


@pytest.mark.slow
def test_a_carry_that_is_not_used_changes_nothing():
    plain = irl_bench.score(zeros, "lane_keep", **SMALL)
    for call, given in (
        (lambda carry, observation, key: (jnp.zeros(2), carry), {"carry": {"h": np.zeros(3)}}),
        (
            lambda params, carry, observation, key: (params, carry),
            {"carry": 0, "params": jnp.zeros(2)},
        ),
        # Brax's form.
        (lambda params, observation, key: (params, {"log_prob": 0.0}), {"params": jnp.zeros(2)}),
        (irl_bench.host_policy(lambda observations: np.zeros((len(observations), 2))), {}),
    ):
        assert figures(irl_bench.score(call, "lane_keep", **given, **SMALL)) == figures(plain)


@pytest.mark.slow
def test_a_host_policy_in_a_discrete_world_is_asked_about_every_state():
    """Its hazard is the closed form's, so states and answers belong together."""
    played = np.where(
        chain.CORRECT == 1, 0, chain.CORRECT
    )  # wrong in every situation whose answer is 1
    table = np.append(played, chain.RECOVER)
    act = irl_bench.host_policy(lambda observations: table[observations.argmax(1)])
    found = irl_bench.score(act, "chain", seeds=2, episodes=64, eps_episodes=16, eps_steps=64)
    assert found["hazard"] == pytest.approx(
        chain.exact_rates(table, envs.make("chain").dials)[0], rel=0.25
    )
    same = irl_bench.score(
        lambda observation, key: jnp.asarray(table)[observation.argmax()],
        "chain",
        seeds=2,
        episodes=64,
        eps_episodes=16,
        eps_steps=64,
    )
    assert figures(same) == figures(found)


@pytest.mark.parametrize(
    ("policy", "given", "message"),
    [
        (
            lambda observation, key: np.asarray(observation)[:2],
            {},
            "cannot be traced by JAX .*host_policy",
        ),
        (
            lambda observation, key: jnp.ones(2) if observation[0] > 0 else jnp.zeros(2),
            {},
            "no Python branches on values",
        ),
        (lambda observation: jnp.zeros(2), {}, r"cannot be called as <lambda>\(observation, key\)"),
        (lambda params, observation, key: jnp.zeros(2), {}, "nearest: give its params="),
        (
            lambda params, carry, observation, key: (jnp.zeros(2), carry),
            {},
            "give its params= and carry=",
        ),
        (
            lambda carry, observation, key: jnp.zeros(2),
            {"carry": 0},
            r"must return \(action, carry\)",
        ),
        (
            lambda carry, observation, key: (carry, jnp.zeros(2)),
            {"carry": np.zeros(3)},
            r"not \(carry, action\)",
        ),
        (
            lambda carry, observation, key: (jnp.zeros(2), jnp.zeros(4)),
            {"carry": np.zeros(3)},
            r"float32\[3\], not float32\[4\]",
        ),
        (lambda observation, key: jnp.zeros((1, 2)), {}, r"float32\[1, 2\]"),
        (3, {}, "must be a function that JAX can trace, not int"),
        (
            lambda carry, observation, key: (jnp.zeros(2), tuple(carry)),
            {"carry": Pair(np.zeros(1), np.zeros(1))},
            "Pair.*not tuple",
        ),
        (
            lambda carry, observation, key: (jnp.zeros(2), carry),
            {"carry": jax.random.key(0)},
            "holds a typed key",
        ),
        (
            lambda params, observation, key: jnp.zeros(2),
            {"params": {"w": 1.0, "name": "x"}},
            "params holds 'x'",
        ),
        (
            lambda carry, observation, key: (jnp.zeros(2), carry + 1.0),
            {"carry": 0},
            r"int32\[\], not float32\[\]$",
        ),
        (irl_bench.host_policy(lambda x: 1 / 0), {}, r"fails at a batch .*ZeroDivisionError"),
        (irl_bench.host_policy(lambda x: [{}] * len(x)), {}, "must return"),
        ("brake:act", {"params": 1.0}, "in its module"),
        (
            irl_bench.host_policy(lambda x: np.zeros((len(x), 3))),
            {},
            r"must return actions \[2, 2\].*not \[2, 3\]",
        ),
        (irl_bench.host_policy(lambda x: np.zeros((len(x), 2))), {"carry": 0}, "takes no carry"),
    ],
)
def test_a_policy_that_cannot_be_asked_is_one_line(policy, given, message):
    with pytest.raises(BadInput, match=message) as caught:
        irl_bench.score(policy, "lane_keep", **given, **SMALL)
    assert "\n" not in str(caught.value)


class Model:
    """In the form of stable-baselines3's models."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros((len(observation), 2)) + (0.0 if deterministic else np.nan), state


class Recurrent(Model):
    """In the form of sb3-contrib's recurrent models."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros((len(observation), 2)), (np.zeros(3),)


def test_a_recurrent_model_on_the_host_is_refused():
    with pytest.raises(BadInput, match="the model is recurrent"):
        irl_bench.score(irl_bench.host_policy(Recurrent()), "lane_keep", **SMALL)


class Normalised(Model):
    """With the statistics that stable-baselines3's VecNormalize keeps."""

    class Statistics:
        class obs_rms:
            mean, var = np.zeros(65), np.ones(65)

        def normalize_obs(self, rows):
            return rows + 1.0

    def get_vec_normalize_env(self):
        return self.Statistics()

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return observation[:, 64].astype(int), None


def test_a_models_own_normalisation_is_applied_and_part_of_its_name():
    wrapped = irl_bench.host_policy(Normalised())
    assert wrapped(np.zeros((2, 65))).tolist() == [1, 1] and "statistics" in wrapped.source


def test_a_model_with_predict_is_wrapped_and_told_so():
    assert figures(
        irl_bench.score(irl_bench.host_policy(Model()), "lane_keep", **SMALL)
    ) == figures(irl_bench.score(zeros, "lane_keep", **SMALL))
    for policy in (Model(), Model().predict):
        with pytest.raises(BadInput, match="host_policy"):
            irl_bench.score(policy, "lane_keep", **SMALL)
    with pytest.raises(BadInput, match="takes a function, a torch module or a model"):
        irl_bench.host_policy(3)


def nowhere_finite(observation, key):
    return jnp.full(2, jnp.nan)


def finite_on_the_lane(observation, key):
    return jnp.where(observation[-1] == 0.0, jnp.ones(2), jnp.nan)


@pytest.mark.parametrize(
    "action", [4, *(pytest.param(a, marks=pytest.mark.slow) for a in (77, -1))]
)
def test_an_action_that_does_not_exist_is_no_policy(action):
    found = irl_bench.score(lambda observation, key: jnp.int32(action), "chain", **SMALL)
    assert found["verdict"] == "INCONCLUSIVE" and found["usable_seeds"] == 0


@pytest.mark.slow
def test_a_host_policy_may_work_in_place():
    def shift(observations):
        observations -= 1.0
        return np.zeros((len(observations), 2))

    assert figures(irl_bench.score(irl_bench.host_policy(shift), "lane_keep", **SMALL)) == figures(
        irl_bench.score(zeros, "lane_keep", **SMALL)
    )


FORMS = {
    "def act(observation, key, scale=2): return observation": [()],
    "import functools\ndef f(observation, key, scale): return observation\nact = "
    "functools.partial(f, scale=1)": [()],
    "params = 1.0\ndef act(params, observation, key): return observation": [("params",)],
    "carry = 1.0\ndef act(carry, observation, key): return observation, carry": [("carry",)],
    "params = carry = 1.0\ndef act(params, carry, observation, key): return observation, carry": [
        ("params", "carry")
    ],
    "params = carry = 1.0\ndef act(carry, observation, key): return observation, carry": [],
    "def act(params, observation, key): return observation": [],
    "def act(observation): return observation": [],
}


@pytest.mark.parametrize("text", FORMS)
def test_a_modules_policy_is_called_as_its_module_says(text, tmp_path, monkeypatch):
    (tmp_path / "formed.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    try:
        if not FORMS[text]:
            with pytest.raises(BadInput, match="so it cannot be told how to call it"):
                registry.algorithm("policy:formed:act")
        else:
            source = registry.algorithm("policy:formed:act").source
            assert {
                name for name in ("params", "carry") if f"{name} of formed:act" in source
            } == set(FORMS[text][0])
    finally:
        sys.modules.pop("formed", None)


@pytest.mark.parametrize(
    "policy",
    [
        finite_on_the_lane,
        pytest.param(nowhere_finite, marks=pytest.mark.slow),
        pytest.param(lambda o, k: jnp.asarray([jnp.inf, 0.0]), marks=pytest.mark.slow),
    ],
)
def test_what_is_not_finite_is_no_success(policy):
    found = irl_bench.score(policy, "lane_keep", **SMALL)
    assert (
        found["verdict"] == "INCONCLUSIVE"
        and found["usable_seeds"] == 0
        and found["hazard"] is None
    )


@pytest.mark.parametrize(
    "name",
    [
        "lane_keep",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("hopper", "reacher")),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_world_of_continuous_actions_marks_one_that_is_not_finite(name, value):
    world = envs.make(name)
    start = jax.jit(world.reset)(KEY)
    action = np.zeros(world.action_size, np.float32)
    action[-1] = value
    after = jax.jit(world.step)(start, action)
    assert all(
        np.isnan(x) for x in (after.metrics["cost"], after.metrics["graded_cost"], after.reward)
    )
    if np.isnan(value):  # infinities are cut to the range and leave the state sound
        later = jax.jit(world.step)(after, np.zeros(world.action_size, np.float32))
        assert np.isnan(later.metrics["cost"])


def test_a_world_that_does_not_look_at_its_actions_cannot_hide_a_nan():
    class Blind(TwoState):
        """Takes any action for a valid one, as most worlds of other people do."""

        n_actions = None

        def step(self, state, action):
            return super().step(state, jnp.where(action[0] > 0.5, 1, 0))

        def expert(self, state, key):
            return jnp.zeros(1)

    sums = evaluate(Blind(), lambda params, x, key: jnp.full(1, jnp.nan), None, KEY, 4, 16)
    assert np.isnan(sums.cost).all() and np.isnan(sums.graded_cost).all()
    errors, _ = expert_errors(
        Blind(), lambda params, x, key: jnp.full(1, jnp.nan), None, KEY, 4, 16
    )
    assert np.all(np.asarray(errors) == 64)
    sums = evaluate(Blind(), lambda params, x, key: jnp.zeros(1), None, KEY, 4096, 16)
    np.testing.assert_allclose(np.cumsum(sums.cost) / 4096, closed_form(16, 0.1, 0.0), atol=0.35)


RECURRENT = """
'''Answers the situation; counts its steps.'''
import jax.numpy as jnp
params = {"wrong": jnp.int32(1)}
def initial_carry():
    return {"steps": jnp.int32(0)}
def act(params, carry, observation, key):
    steps = carry["steps"] + 1
    right = jnp.where(observation[-1] > 0, 3, jnp.argmax(observation) % 3)
    return jnp.where(steps % 50 == 0, params["wrong"], right).astype(jnp.int32), {"steps": steps}
"""
HOST = """
'''A table on the host.'''
import irl_bench
policy = irl_bench.host_policy(lambda x: x[:, :-1].argmax(1) % 3, files=["table.txt"])
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "recurrent.py").write_text(RECURRENT)
    (tmp_path / "hosted.py").write_text(HOST)
    (tmp_path / "table.txt").write_text("1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in ("recurrent", "hosted"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("no_pictures")
def test_a_sweep_takes_recurrent_and_host_policies(here, capsys):
    line = [
        "sweep.py",
        "--policy=recurrent:act,hosted:policy",
        "--env=chain",
        "--mode=dagger_chain",
        "--budget=smoke",
        "--seeds=2",
    ]
    assert sweep.main(sweep.parse_or_exit([*line, "--out=run"])) == 0
    out = capsys.readouterr().out
    assert "recurrent:act" in out and "hosted:policy" in out
    scored = irl_bench.score("recurrent:act", "chain", seeds=2, episodes=64, eps_episodes=64)
    assert scored["hazard"] == pytest.approx(
        0.8 / 50, rel=0.1
    )  # a wrong action at every fiftieth step


def test_other_weights_of_a_host_policy_are_another_cell(here):
    before = registry.algorithm("policy:hosted:policy").source
    (here / "table.txt").write_text("2")
    sys.modules.pop("hosted")
    after = registry.algorithm("policy:hosted:policy").source
    assert (
        before["hosted.py"] == after["hosted.py"]
        and before["weights table.txt"] != after["weights table.txt"]
    )
    with pytest.raises(BadInput, match=r"cannot read the file nowhere\.bin"):
        irl_bench.host_policy(lambda x: x, files=["nowhere.bin"])
