"""Settings of BC that repair a clone without asking the expert: chunks of actions, an average of
the weights, the expert's derivatives, and noise while demonstrating."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import envs
from irl_bench.algos import bc
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Demonstrations, Spec, Task
from irl_bench.nets import supervised
from irl_bench.nets.policies import Policy, Standardiser
from irl_bench.rollouts import evaluation
from tests.worlds.helpers import Line

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.PRNGKey(0)


class Readable(Line):
    """`Line` with an expert that reads two entries of the observation, smoothly."""

    @property
    def expert_reads_observations(self):
        return True

    def expert_at(self, observation):
        return jnp.stack([jnp.sin(observation[0]) * observation[1], observation[0] ** 2])


def demonstrations(episodes=3, steps=6, actions=2):
    rng = np.random.default_rng(0)
    mask = np.ones((episodes, steps), np.float32)
    mask[1, 4:] = 0  # a shorter episode
    return Demonstrations(
        jnp.asarray(rng.normal(size=(episodes, steps, Line().observation_size)), jnp.float32),
        jnp.asarray(rng.uniform(-1, 1, (episodes, steps, actions)), jnp.float32),
        jnp.asarray(mask),
    )


def test_a_chunk_is_the_next_actions_of_the_same_episode():
    demos = demonstrations()
    found = bc.chunked(Task(demos, None), 3).demonstrations
    for n in range(3):
        length = int(demos.mask[n].sum())
        for t in range(6):
            whole = t + 3 <= length
            assert bool(found.mask[n, t]) == whole
            if whole:
                np.testing.assert_array_equal(
                    found.action[n, t], np.asarray(demos.action[n, t : t + 3]).ravel()
                )


def test_a_chunk_is_executed_before_the_next_is_chosen():
    spec = Spec(Line(), 12, 4, 12)
    config = bc.Config(hidden=(4,), chunk=3, rounds=1, steps_per_round=2)
    learner = bc.make(spec, config)
    demos = evaluation.collect(spec.world.bind(spec.world.dials_for("nominal")), KEY, 4, 12)
    task = Task(demos, spec.world.dials)
    params = learner.policy(learner.update(learner.init(KEY, task), task)[0])
    policy = Policy(spec, config.hidden, chunk=3)
    carry, chosen = learner.carry, None
    for t in range(7):
        seen = demos.observation[0, t]
        action, carry = learner.act(params, carry, seen, KEY)
        if t % 3 == 0:
            chosen = policy.mode(params.weights, params.inputs(seen)).reshape(3, 2)
        np.testing.assert_allclose(action, chosen[t % 3], rtol=1e-6)


def test_the_average_of_weights_is_the_recursion():
    weights = {"w": jnp.arange(3.0)}
    transform = supervised.averaged(optax.sgd(0.1), 0.9)
    state = transform.init(weights)
    mean = np.arange(3.0)
    for n in range(40):
        gradient = {"w": jnp.sin(jnp.arange(3.0) + n)}
        updates, state = transform.update(gradient, state, weights)
        weights = optax.apply_updates(weights, updates)
        keep = min(0.9, (1 + n) / (10 + n))
        mean = keep * mean + (1 - keep) * np.asarray(weights["w"])
    np.testing.assert_allclose(state.average["w"], mean, rtol=1e-5)
    plain, inner = {"w": jnp.arange(3.0)}, optax.sgd(0.1).init(None)
    for n in range(40):
        updates, inner = optax.sgd(0.1).update({"w": jnp.sin(jnp.arange(3.0) + n)}, inner)
        plain = optax.apply_updates(plain, updates)
    np.testing.assert_allclose(weights["w"], plain["w"], rtol=1e-6)  # training is not changed


def test_the_loss_of_derivatives_is_the_difference_of_both_jacobians():
    """Its mean over directions is the squared Frobenius norm in standardised units."""
    spec = Spec(Readable(), 12, 4, 12)
    policy = Policy(spec, (8,))
    weights = policy.init(KEY)
    size = spec.observation_size
    scale = jnp.linspace(0.5, 2.0, size).at[-1].set(0.0)  # the last feature is constant
    inputs = Standardiser(jnp.zeros(size), scale)
    seen = jax.random.normal(KEY, (1, size))
    unit = np.where(np.asarray(scale) > 0, 1 / np.maximum(np.asarray(scale), 1e-9), 0)
    own = jax.jacobian(lambda x: policy.mode(weights, inputs(x)))(seen[0])
    expert = jax.jacobian(spec.world.expert_at)(seen[0])
    expected = np.sum(np.square((np.asarray(own) - np.asarray(expert)) * unit))
    rows = supervised.Data(
        jnp.repeat(seen, 40_000, axis=0), jnp.zeros((40_000, 2)), jnp.ones(40_000)
    )
    found = bc.derivatives(spec.world, policy, inputs, 0.5)(weights, rows, KEY)
    np.testing.assert_allclose(found, 0.5 * expected, rtol=0.05)


def test_noise_perturbs_every_second_demonstration_and_no_label():
    world = Line()
    world = world.bind(world.dials_for("nominal"))
    plain = evaluation.collect(world, KEY, 6, 8)
    noisy = evaluation.collect(world, KEY, 6, 8, noise=0.3)
    even, odd = slice(0, None, 2), slice(1, None, 2)
    np.testing.assert_array_equal(plain.observation[even], noisy.observation[even])
    assert not np.allclose(plain.observation[odd], noisy.observation[odd])
    act = jax.vmap(jax.vmap(lambda x: world.expert(Seen(x), KEY)))
    np.testing.assert_allclose(act(noisy.observation), noisy.action, atol=1e-6)


@dataclasses.dataclass
class Seen:
    """A state of `Line`, whose expert reads the observation alone."""

    obs: jax.Array


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"chunk": 13}, r"bc.chunk=13 is longer than .* nearest: bc.chunk=12"),
        ({"tasil": 1.0}, r"bc.tasil=1 needs an expert that is a function .* nearest: bc.tasil=0"),
    ],
)
def test_what_a_world_does_not_allow_is_one_line(settings, words):
    with pytest.raises(BadInput, match=words):
        bc.make(Spec(Line(), 20, 4, 12), bc.Config(**settings))


def test_chunks_need_continuous_actions():
    from envs.chain import Chain

    with pytest.raises(BadInput, match=r"bc.chunk=2 needs continuous actions.*nearest: bc.chunk=1"):
        bc.make(Spec(Chain(), 20, 4, 12), bc.Config(chunk=2))


@pytest.mark.parametrize(
    "name", ["plant", "swing_up", pytest.param("hopper", marks=pytest.mark.slow)]
)
def test_an_expert_that_reads_observations_is_the_expert(name):
    import envs

    world = envs.make(name)
    assert world.expert_reads_observations
    for seed in range(3):
        state = world.reset(jax.random.PRNGKey(seed))
        np.testing.assert_allclose(
            world.expert_at(state.obs), world.expert(state, KEY), rtol=1e-4, atol=1e-5
        )
    assert not envs.make("lane_keep").expert_reads_observations


@pytest.mark.parametrize(
    ("options", "settings", "words"),
    [
        ({}, {"history_dropout": 0.5}, r"history_dropout=0.5 needs .* --lane_keep.last_action=vis"),
        ({}, {"adversary": 1.0}, r"bc.adversary=1 needs a world that shows the past, .*lane_keep"),
        ({"frames": "2"}, {"adversary": 1.0, "chunk": 4}, r"chooses 4 at once .* bc.chunk=1$"),
        ({"frames": "2"}, {"history_dropout": 0.1, "chunk": 2}, r"nearest: bc.chunk=1$"),
    ],
)
def test_a_remedy_against_copying_needs_a_past(options, settings, words):
    world = envs.make("lane_keep", **options)
    with pytest.raises(BadInput, match=words):
        bc.make(Spec(world, 64, 4, 64), bc.Config(**settings))


def test_what_an_adversary_learns_is_not_part_of_the_policy():
    """It trains, and neither the stored policy nor the plain one's initial weights change."""
    world = envs.make("lane_keep", last_action="visible")
    rng = np.random.default_rng(0)
    demos = Demonstrations(
        jnp.asarray(rng.normal(size=(3, 8, world.observation_size)), jnp.float32),
        jnp.asarray(rng.uniform(-1, 1, (3, 8, 2)), jnp.float32),
        jnp.ones((3, 8)),
    )
    task = Task(demos, world.dials_for("nominal"))
    spec, size = Spec(world, 64, 3, 8), {"hidden": (4,), "rounds": 2, "steps_per_round": 5}
    policies = {}
    for weight in (0.0, 2.0):
        learner = bc.make(spec, bc.Config(adversary=weight, **size))
        state = learner.init(KEY, task)
        policies[weight] = learner.policy(state)
        trained, metrics = jax.jit(learner.update)(state, task)
        assert set(learner.policy(trained).weights) == {"net", "log_std"}
        assert {"predictable", "repeats", "shift"} <= metrics.keys()
        assert all(np.isfinite(float(value)) for value in metrics.values())
    jax.tree.map(np.testing.assert_array_equal, policies[0.0], policies[2.0])
