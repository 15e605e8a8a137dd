"""PPO: returns and losses against NumPy, worlds with a known answer, and what it does with ends,
reference and deviations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.base import State

from envs.core import World
from irl_bench.algos import ppo as algo
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import view
from irl_bench.rl import ppo
from irl_bench.rollouts import evaluation
from irl_bench.rollouts.experience import Transition
from tests.worlds.endings import Bandit, Constant, Dials, Short, TwoStates
from tests.worlds.helpers import Line, train

KEY = jax.random.PRNGKey(0)
pytestmark = pytest.mark.usefixtures("quick_compilation")
SMALL = {
    "hidden": (16,),
    "value_hidden": (16,),
    "worlds": 16,
    "unroll": 16,
    "minibatches": 4,
    "statistics": "running",
}


def learnt(world, seeds=3, **settings):
    """(learner, states, metrics [seeds, rounds]) after training on several seeds at once."""
    spec = Spec(world, world.horizon, 2, 4)
    learner = algo.make(spec, algo.Config(**{**SMALL, **settings}))
    task = Task(evaluation.collect(world, KEY, 2, 4), world.dials)
    states, metrics = jax.jit(jax.vmap(lambda key: train(learner, key, task)))(
        jax.random.split(KEY, seeds)
    )
    return learner, states, jax.tree.map(np.asarray, metrics)


def values(learner_config, world, states, observation):
    inner = ppo.PPO(Spec(world, world.horizon, 2, 4), learner_config, init="random")
    value = lambda state: inner.values(state.weights, view(inner.inputs(state), observation))
    return np.asarray(jax.vmap(value)(states))


# Returns and losses.


def numpy_returns(reward, value, next_value, truncation, termination, discount, lam):
    """The definition, world by world and backwards: no advantage crosses an end, and only a
    termination loses V(s')."""
    steps, worlds = reward.shape
    target = np.zeros((steps, worlds))
    for e in range(worlds):
        advantage = 0.0
        for t in reversed(range(steps)):
            delta = (
                reward[t, e] + discount * (1 - termination[t, e]) * next_value[t, e] - value[t, e]
            )
            goes_on = (1 - termination[t, e]) * (1 - truncation[t, e])
            advantage = delta + discount * lam * goes_on * advantage
            target[t, e] = value[t, e] + advantage
    return target


@pytest.mark.parametrize("seed", range(4))
def test_returns_are_generalised_advantage_estimates(seed):
    rng = np.random.default_rng(seed)
    steps, worlds = 9, 5
    reward, value, after = rng.normal(size=(3, steps, worlds))
    truncation = (rng.random((steps, worlds)) < 0.25).astype(float)
    termination = (rng.random((steps, worlds)) < 0.25) * (1 - truncation)
    # Where nothing ended, the value of the next observation is that of the next step.
    ended = truncation + termination
    after[:-1] = np.where(ended[:-1] > 0, after[:-1], value[1:])
    zero = jnp.zeros((steps, worlds))
    batch = Transition(
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        jnp.asarray(truncation),
        jnp.asarray(termination),
    )
    target = ppo.returns(
        batch, jnp.asarray(reward), jnp.asarray(value), jnp.asarray(after), 0.9, 0.8
    )
    expected = numpy_returns(reward, value, after, truncation, termination, 0.9, 0.8)
    np.testing.assert_allclose(target, expected, atol=1e-5)


def test_clipped_surrogate():
    rng = np.random.default_rng(0)
    log_ratio, advantage = rng.normal(scale=0.4, size=(2, 500))
    ratio = np.exp(log_ratio)
    bounded = np.where(ratio > 1.2, 1.2, np.where(ratio < 0.8, 0.8, ratio))
    expected = np.mean([min(w * a, c * a) for w, c, a in zip(ratio, bounded, advantage)])
    assert np.isclose(
        ppo.clipped_surrogate(jnp.asarray(log_ratio), jnp.asarray(advantage), 0.2),
        expected,
        atol=1e-6,
    )


def test_loss_against_numpy():
    world = Line()
    inner = ppo.PPO(
        Spec(world, 16, 2, 4),
        ppo.Config(hidden=(4,), value_hidden=(4,), minibatches=4),
        init="random",
    )
    rng = np.random.default_rng(1)
    batch = {
        "x": rng.normal(size=(7, 3)),
        "raw": rng.normal(size=(7, 2)),
        "log_prob": rng.normal(size=7) - 2.0,
        "advantage": rng.normal(size=7),
        "target": rng.normal(size=7),
    }
    state = jax.jit(
        lambda key: inner.init(key, Task(evaluation.collect(world, key, 2, 4), world.dials))
    )(KEY)
    loss, parts = inner.loss(state.weights, jax.tree.map(jnp.asarray, batch), jnp.float32(0.3), KEY)

    def network(params, x, activation_last=False):
        hidden = np.tanh(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
        return hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]

    mean, log_std = (
        network(state.weights["policy"]["net"], batch["x"]),
        np.asarray(state.weights["policy"]["log_std"]),
    )
    density = (
        -0.5 * ((batch["raw"] - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    )
    density = density - np.log(1 - np.tanh(batch["raw"]) ** 2)
    ratio = np.exp(density.sum(1) - batch["log_prob"])
    surrogate = np.mean(
        np.minimum(ratio * batch["advantage"], np.clip(ratio, 0.8, 1.2) * batch["advantage"])
    )
    value_loss = 0.5 * np.mean(
        (network(state.weights["value"], batch["x"])[:, 0] - batch["target"]) ** 2
    )
    noise = np.asarray(jax.random.normal(KEY, mean.shape))
    entropy = (
        np.log(1 - np.tanh(mean + np.exp(log_std) * noise) ** 2)
        + 0.5 * np.log(2 * np.pi * np.e)
        + log_std
    )
    np.testing.assert_allclose(parts["entropy"], entropy.sum(1).mean(), atol=1e-4)
    np.testing.assert_allclose(
        loss, -surrogate + value_loss - 0.3 * entropy.sum(1).mean(), rtol=1e-4
    )


def test_tanh_gaussian_density_integrates_to_one():
    policy = ppo.PPO(Spec(Line(), 16, 2, 4), ppo.Config(hidden=(4,)), init="random").policy
    weights = {**policy.init(KEY), "log_std": jnp.array([-1.0, 0.5])}
    grid = np.tanh(np.linspace(-7, 7, 801))
    one, two = np.meshgrid(grid, grid, indexing="ij")
    raw = jnp.arctanh(jnp.asarray(np.stack([one, two], -1)))
    density = np.exp(policy.log_prob(weights, jnp.ones((1, 1, 3)), raw))
    assert np.isclose(np.trapezoid(np.trapezoid(density, grid), grid), 1.0, atol=0.01)


# Worlds with a known answer.


def test_bandit_finds_the_best_arm():
    _, _, metrics = learnt(
        Bandit(), rounds=40, discount=0.9, learning_rate=3e-3, learning_rate_end=1.0
    )
    assert (
        metrics["true_return"][:, -5:].mean(1) / 512 > 0.95
    ).all()  # the best arm pays 1 on average
    assert (metrics["entropy"][:, -1] < 0.3).all()


@pytest.mark.parametrize("world,expected", [(Constant(), [10.0, 10.0]), (Short(), [3.439, 2.71])])
def test_value_of_a_constant_reward(world, expected):
    """gamma 0.9. For ever: 10, cut after five steps or not. Four steps: 1 + .9 + .81 + .729 at
    first, then the rest.

    State 0 is met with 4 or 2 steps left, state 1 with 3 or 1, so V is the mean of the two (the
    observation cannot tell).
    """
    config = {
        "rounds": 150,
        "discount": 0.9,
        "gae_lambda": 1.0,
        "episode_steps": 5,
        "learning_rate": 1e-2,
        "normalise_reward": False,
        "max_grad_norm": 10.0,
    }
    _, states, _ = learnt(world, **config)
    estimates = values(algo.Config(**{**SMALL, **config}), world, states, jnp.eye(2))
    if isinstance(world, Short):
        expected = [np.mean([3.439, 1.9]), np.mean([2.71, 1.0])]
    np.testing.assert_allclose(estimates, np.tile(expected, (3, 1)), rtol=0.05)


def test_two_states_need_foresight():
    learner, states, _ = learnt(
        TwoStates(), rounds=60, discount=0.9, learning_rate=3e-3, episode_steps=8
    )
    act = jax.vmap(jax.vmap(learner.act, (None, 0, None)), (0, None, None))
    np.testing.assert_array_equal(act(learner.policy(states), jnp.eye(2), KEY), np.ones((3, 2)))


@pytest.mark.slow
def test_a_constant_reward_teaches_nothing_on_the_line():
    """Every policy earns the same, so advantages are noise: the deviation stays and the cost is
    no better than at the start."""
    _, _, metrics = learnt(
        Line(), rounds=30, reward="constant", episode_steps=16, normalise_reward=False
    )
    assert metrics["cost"][:, -5:].mean() > 0.5 * metrics["cost"][:, :5].mean()


class Pendulum(World):
    """Brax's inverted pendulum as a world; `cost` is a fall."""

    name = "pendulum"
    horizon = 200

    def __init__(self):
        from brax import envs

        self.env, self.dials = envs.get_environment("inverted_pendulum", backend="spring"), Dials()

    observation_size = property(lambda self: self.env.observation_size)
    action_size = property(lambda self: self.env.action_size)

    def _with_cost(self, state):
        return State(
            state.pipeline_state,
            state.obs,
            state.reward,
            state.done,
            {"cost": state.done, "graded_cost": state.done},
        )

    def reset(self, rng):
        return self._with_cost(self.env.reset(rng))

    def step(self, state, action):
        return self._with_cost(self.env.step(state, action))

    def expert(self, state, key):
        return jnp.zeros(1)


@pytest.mark.slow  # the physics alone takes most of a minute
@pytest.mark.filterwarnings("ignore")  # Brax warns of what it is made of
def test_inverted_pendulum_is_solved():
    """It stays up for 200 steps from every start, on every seed, by the policy's mode."""
    world = Pendulum()
    config = {
        "rounds": 40,
        "unroll": 64,
        "episode_steps": 200,
        "discount": 0.98,
        "learning_rate": 3e-3,
        "init": "random",
    }
    learner, states, _ = learnt(world, seeds=2, **config, log_std=-0.5, log_std_max=0.0)
    evaluate = functools.partial(
        evaluation.evaluate, world, learner.act, key=KEY, episodes=32, horizon=200
    )
    evaluated = jax.jit(jax.vmap(lambda state: evaluate(learner.policy(state))))(states)
    assert (np.asarray(evaluated.cost) == 0).all()


# Its parts.


def test_worlds_restart_afresh_and_keep_the_true_next_state():
    from irl_bench.rollouts.experience import begin, unroll

    world = Line()
    act = lambda o, k: (jnp.zeros((4, 2)), jnp.zeros((4, 2)), jnp.zeros(4))
    _, batch = jax.jit(lambda key: unroll(world, act, begin(world, key, 4, 3), key, 12, 3, True))(
        KEY
    )
    ended, follows = np.asarray(batch.truncation) == 1, np.asarray(batch.next_observation)
    assert ended.sum(0).tolist() == [4, 4, 4, 4] and not np.asarray(batch.termination).any()
    same = (follows[:-1] == np.asarray(batch.observation)[1:]).all(-1)
    np.testing.assert_array_equal(same, ~ended[:-1])
    starts = np.asarray(batch.observation)[1:][ended[:-1]]
    assert len(np.unique(starts[:, 0])) >= 4 and (np.abs(starts[:, 0]) <= 0.3).all()


def test_termination_can_be_ignored():
    from irl_bench.rollouts.experience import begin, unroll

    act = lambda o, k: (jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.int32), jnp.zeros(2))
    for terminate, count in ((True, 4), (False, 0)):
        _, batch = unroll(
            Short(),
            act,
            begin(Short(), KEY, 2, 10**6).replace(age=jnp.zeros(2, int)),
            KEY,
            8,
            10**6,
            terminate,
        )
        assert int(batch.termination.sum()) == count and not batch.truncation.any()


def test_an_episode_lingers_after_the_worlds_end():
    """A world that says done from its fourth step on: cut two steps later, and not before its
    length where nothing is said."""
    from irl_bench.rollouts.experience import begin, unroll

    class Late(Short):
        def step(self, state, action):
            state = super().step(state, action)
            return state.replace(done=(state.pipeline_state[1] >= 4).astype(jnp.float32))

    world = Late()
    act = lambda o, k: (jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.int32), jnp.zeros(2))
    start = begin(world, KEY, 2, 50).replace(age=jnp.array([0, 48]))
    spec = Spec(world, 64, 2, 4)
    for linger, cuts in ((2, [[5, 11, 17], [1, 7, 13, 19]]), (10**6, [[], [1]])):
        _, batch = unroll(world, act, start, KEY, 20, 50, False, linger)
        cut_at = [np.nonzero(column)[0].tolist() for column in np.asarray(batch.truncation).T]
        assert cut_at == cuts and not batch.termination.any()
        config = algo.Config(
            **{
                **SMALL,
                "worlds": 2,
                "unroll": 20,
                "episode_steps": 50,
                "init": "random",
                "linger": linger,
            }
        )
        inner = ppo.PPO(spec, config, terminate=False, init="random")
        state = inner.init(KEY, Task(evaluation.collect(world, KEY, 2, 4), world.dials)).replace(
            worlds=start
        )
        _, batch = inner.collect(state, world.dials)  # the setting reaches the rollout
        assert [np.nonzero(column)[0].tolist() for column in np.asarray(batch.truncation).T] == cuts


def test_reference_penalty_keeps_the_policy_near_its_start():
    settings = {
        "rounds": 30,
        "discount": 0.9,
        "learning_rate": 3e-3,
        "learning_rate_end": 1.0,
        "normalise_reward": False,
    }
    _, _, free = learnt(Bandit(), **settings)
    _, _, held = learnt(Bandit(), reference_kl=5.0, **settings)
    assert held["entropy"][:, -1].min() > 1.2 > 0.5 > free["entropy"][:, -1].max()


def test_log_deviation_stays_within_bounds_and_can_leave_them():
    settings = {
        "rounds": 20,
        "episode_steps": 16,
        "log_std": -1.0,
        "log_std_min": -1.0,
        "log_std_max": -0.8,
    }
    _, states, metrics = learnt(Line(), entropy=1.0, learning_rate=1e-2, **settings)
    np.testing.assert_allclose(
        states.weights["policy"]["log_std"], -0.8, atol=1e-6
    )  # left the lower bound, met the upper
    assert (metrics["std"] <= np.exp(-0.8) + 1e-6).all()


@pytest.mark.slow
def test_statistics_of_the_demonstrations_are_frozen():
    for statistics, changes in (("demonstrations", False), ("running", True)):
        world = Line()
        learner = algo.make(
            Spec(world, 16, 2, 4), algo.Config(**{**SMALL, "statistics": statistics, "rounds": 2})
        )
        task = Task(evaluation.collect(world, KEY, 2, 4), world.dials)
        state = jax.jit(learner.init)(KEY, task)
        after, _ = jax.jit(learner.update)(state, task)
        assert bool(jnp.any(state.statistics.mean != after.statistics.mean)) == changes


def test_schedules_end_where_they_should():
    """With a step size that falls to 0 the last round changes nothing."""
    world = Line()
    config = {
        **SMALL,
        "rounds": 1,
        "epochs": 1,
        "minibatches": 1,
        "learning_rate": 0.0 + 1e-3,
        "learning_rate_end": 0.0,
    }
    inner = ppo.PPO(Spec(world, 16, 2, 4), algo.Config(**config), init="random")
    gradient = {"w": jnp.ones(3)}
    opt_state = inner.transform.init(gradient)
    first, opt_state = inner.transform.update(gradient, opt_state)
    second, _ = inner.transform.update(gradient, opt_state)
    assert (np.abs(first["w"]) > 1e-4).all() and (np.asarray(second["w"]) == 0).all()


def test_impossible_settings_are_one_line():
    spec = Spec(Line(), 16, 2, 4)
    with pytest.raises(BadInput, match="log_std_min"):
        ppo.PPO(spec, ppo.Config(log_std_min=0.0), init="bc")
    with pytest.raises(BadInput, match="minibatches=7"):
        ppo.PPO(spec, ppo.Config(minibatches=7), init="bc")
