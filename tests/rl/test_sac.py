"""SAC: its losses against NumPy, the buffer, ends and cuts, and worlds with a known answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.base import State

from envs.core import World
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import view
from irl_bench.rl import sac
from tests.worlds.endings import Bandit, Dials
from tests.worlds.helpers import Line

KEY = jax.random.PRNGKey(0)
SMALL = {
    "worlds": 8,
    "unroll": 4,
    "hidden": (16,),
    "value_hidden": (32,),
    "batch_size": 64,
    "updates": 32,
    "random_rounds": 2,
}
pytestmark = pytest.mark.usefixtures("quick_compilation")


class Aim(World):
    """Every episode is `steps` long. An action pays -4 (a - 0.4)², and the observation is the
    number of steps so far."""

    name, horizon, observation_size, action_size = "aim", 8, 1, 1
    steps, ends = 1, True

    def __init__(self):
        self.dials = Dials()

    def state(self, step, reward, done):
        zero = jnp.zeros(())
        return State(step, step[None], reward, done, {"cost": zero, "graded_cost": zero})

    def reset(self, rng):
        return self.state(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))

    def step(self, state, action):
        step = state.pipeline_state + 1.0
        return self.state(
            step, -4.0 * jnp.square(action[0] - 0.4), jnp.float32(self.ends) * (step >= self.steps)
        )


def sac_on(world=None, **settings):
    world = world or Aim()
    return sac.SAC(
        Spec(world, world.horizon, 1, 4), sac.Config(**{**SMALL, "rounds": 20, **settings})
    )


def trained(inner, rounds):
    dials = inner.spec.world.dials

    @jax.jit
    def run(key):
        start = inner.init(key, Task(None, dials))
        return jax.lax.scan(lambda state, _: inner.update(state, dials), start, None, rounds)

    return run(KEY)


def network(params, x, activation):
    hidden = activation(
        x @ np.asarray(params["Dense_0"]["kernel"]) + np.asarray(params["Dense_0"]["bias"])
    )
    return hidden @ np.asarray(params["Dense_1"]["kernel"]) + np.asarray(params["Dense_1"]["bias"])


def test_losses_against_numpy():
    inner = sac_on(Line(), discount=0.9, reward_scale=3.0)
    networks = inner.init(KEY, Task(None, Line().dials)).networks
    target_critics = jax.tree.map(lambda x: x + 0.1, networks.critics)
    rng = np.random.default_rng(0)
    batch = {
        name: rng.normal(size=(6, 3)).astype(np.float32)
        for name in ("observation", "next_observation")
    }
    batch |= {
        "action": rng.uniform(-1, 1, (6, 2)).astype(np.float32),
        "reward": rng.normal(size=6).astype(np.float32),
    }
    batch["goes_on"] = np.array([1, 0, 1, 1, 0, 1], np.float32)
    alpha = jnp.float32(0.3)

    def drawn(x, key):
        mean, spread = np.split(network(networks.actor, x, np.tanh), 2, -1)
        log_std = -5.0 + 3.5 * (1.0 + np.tanh(spread))
        noise = np.asarray(jax.random.normal(key, mean.shape))
        raw = mean + np.exp(log_std) * noise
        density = (
            -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi) - np.log(1 - np.tanh(raw) ** 2)
        )
        return np.tanh(raw), density.sum(1)

    def both(critics, x, action):
        def one(i):
            inputs = np.concatenate([x, action], 1)
            return network(
                jax.tree.map(lambda v: v[i], critics), inputs, lambda v: np.maximum(v, 0)
            )

        return np.stack([one(i)[:, 0] for i in (0, 1)])

    after, after_log_prob = drawn(batch["next_observation"], KEY)
    soft = both(target_critics, batch["next_observation"], after).min(0) - 0.3 * after_log_prob
    target = 3.0 * batch["reward"] + 0.9 * batch["goes_on"] * soft
    np.testing.assert_allclose(
        inner.target(networks.actor, target_critics, alpha, batch, KEY),
        target,
        rtol=1e-4,
        atol=1e-4,
    )

    q = both(networks.critics, batch["observation"], batch["action"])
    loss, values = inner.critic_loss(networks.critics, batch, jnp.asarray(target))
    np.testing.assert_allclose(values, q, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loss, 0.5 * ((q - target) ** 2).mean(1).sum(), rtol=1e-4)

    action, log_prob = drawn(batch["observation"], KEY)
    expected = (0.3 * log_prob - both(networks.critics, batch["observation"], action).min(0)).mean()
    np.testing.assert_allclose(
        inner.policy_loss(networks.actor, networks.critics, alpha, batch, KEY)[0],
        expected,
        rtol=1e-4,
    )


@pytest.mark.parametrize(("target", "rises"), [(0.9, True), (-9.0, False)])
def test_temperature_rises_where_the_entropy_is_below_its_target(target, rises):
    """An action in [-1, 1] has at most log 2 = 0.69 of entropy."""
    _, metrics = trained(sac_on(entropy_target=target, random_rounds=0), 3)
    assert (np.asarray(metrics["alpha"])[-1] > 1.0) == rises


def test_target_critics_follow_by_their_share():
    inner = sac_on()
    networks = inner.init(KEY, Task(None, Aim().dials)).networks
    networks = networks._replace(target_critics=jax.tree.map(jnp.zeros_like, networks.critics))
    batch = {
        "observation": jnp.zeros((4, 1)),
        "next_observation": jnp.zeros((4, 1)),
        "action": jnp.zeros((4, 1)),
        "reward": jnp.ones(4),
        "goes_on": jnp.zeros(4),
    }
    after, _ = inner.gradient_step(networks, batch, KEY)
    jax.tree.map(
        lambda new, followed: np.testing.assert_allclose(
            followed, 5e-3 * new, rtol=1e-4, atol=1e-8
        ),
        after.critics,
        after.target_critics,
    )


@pytest.mark.parametrize(("ends", "goes_on"), [(True, 0.0), (False, 1.0)])
def test_a_cut_goes_on_and_an_end_does_not(ends, goes_on):
    """Episodes of four steps, ended by the world or cut at that age."""

    class Four(Aim):
        steps = 4

    world = Four()
    world.ends = ends
    state, _ = trained(sac_on(world, episode_steps=4, updates=1, batch_size=4), 5)
    rows = {name: np.asarray(values) for name, values in state.buffer.items()}
    last = rows["next_observation"][:, 0] == 4.0
    used = rows["next_observation"][:, 0] > 0.0
    assert used.sum() == 5 * 8 * 4 and last.sum() > 20
    assert (rows["goes_on"][last] == goes_on).all() and (rows["goes_on"][used & ~last] == 1.0).all()
    assert (rows["next_observation"] - rows["observation"])[
        used
    ].min() == 1.0  # never the state after the restart
    np.testing.assert_allclose(
        rows["reward"][used], -4.0 * (rows["action"][used, 0] - 0.4) ** 2, rtol=1e-5, atol=1e-6
    )


def test_the_buffer_holds_the_latest_steps():
    class Long(Aim):
        steps = 1000

    inner = sac_on(Long(), capacity=70, episode_steps=1000, updates=1, batch_size=4, rounds=50)
    assert inner.capacity == 96  # whole rounds of 8 x 4 steps
    state, _ = trained(inner, 7)
    assert sorted(np.asarray(state.buffer["next_observation"])[:, 0]) == sorted(
        np.repeat(np.arange(17, 29), 8)
    )


def test_it_finds_the_best_action_and_its_worth():
    """One-step episodes: Q(s, a) is the reward itself, and the best action 0.4, whatever the
    entropy."""
    inner = sac_on(rounds=60, random_rounds=5, learning_rate=3e-3, entropy_target=-2.0)
    state, metrics = trained(inner, 60)
    mode = inner.act(inner.params(state), jnp.zeros(1), KEY)
    assert abs(float(mode[0]) - 0.4) < 0.05
    x = view(inner.inputs(state), jnp.zeros((3, 1)))
    action = jnp.array([[0.2], [0.4], [0.6]])
    np.testing.assert_allclose(
        inner.q(state.networks.critics, x, action), np.tile([-0.16, 0.0, -0.16], (2, 1)), atol=0.06
    )
    assert np.isfinite(np.concatenate([np.ravel(value) for value in metrics.values()])).all()


def test_random_rounds_update_nothing():
    inner = sac_on(random_rounds=3)
    before = inner.init(KEY, Task(None, Aim().dials)).networks
    (state, _), (later, _) = trained(inner, 3), trained(inner, 4)
    three, four = state.networks, later.networks

    def same(a, b):  # up to rounding: one side is compiled; an update moves weights by up to 6e-4
        pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        return all(np.allclose(x, y, rtol=0.0, atol=1e-6) for x, y in pairs)

    assert same(before.actor, three.actor) and same(before.critics, three.critics)
    assert not same(three.actor, four.actor) and not same(three.critics, four.critics)
    actions = np.asarray(state.buffer["action"])[:96]
    assert (
        abs(actions.mean()) < 0.2 and 0.5 < actions.std() < 0.65
    )  # uniform on [-1, 1]: 1 / sqrt(3)


@pytest.mark.parametrize(
    ("world", "settings", "words"),
    [(Bandit, {}, "nearest: ppo"), (Aim, {"random_rounds": 20}, "random_rounds=19")],
)
def test_what_cannot_be_is_one_line(world, settings, words):
    with pytest.raises(BadInput, match=words):
        sac_on(world(), **settings)
