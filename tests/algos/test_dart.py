"""DART: the noise of its rollouts, who acts in them, and what it is charged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.chain import Chain
from irl_bench.algos import dagger, dart
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import Policy, Standardiser
from irl_bench.nets.supervised import Data, PolicyParams
from irl_bench.rollouts import evaluation
from tests.worlds.helpers import Line

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.PRNGKey(0)
SMALL = {"hidden": (4,), "iterations": 3, "steps_per_round": 3, "episode_steps": 8}


def trained(module, clean=False, **settings):
    world = Line()
    spec = Spec(world, 16, 8, 16, clean=clean)
    learner = module.make(spec, module.Config(**SMALL, **settings))
    dials = world.dials_for("nominal")
    task = Task(evaluation.collect(world.bind(dials), KEY, 8, 16), dials)
    state = learner.init(KEY, task)
    update = jax.jit(learner.update)
    for _ in range(learner.rounds):
        state, metrics = update(state, task)
    return world.bind(dials), learner, state, metrics


def test_the_covariance_is_that_of_the_errors_at_the_trace_asked_for():
    rng = np.random.default_rng(0)
    spec = Spec(Line(), 16, 4, 8)
    policy = Policy(spec, (4,))
    seen = jnp.asarray(rng.normal(size=(50, spec.observation_size)), jnp.float32)
    params = PolicyParams(policy.init(KEY), Standardiser(jnp.zeros(()), jnp.ones(())))
    action = jnp.asarray(rng.uniform(-1, 1, (50, 2)), jnp.float32)
    mask = jnp.asarray(rng.random(50) < 0.6, jnp.float32)
    gap = np.asarray(policy.mode(params.weights, seen) - action)[np.asarray(mask) > 0]
    expected = gap.T @ gap / len(gap)
    found = dart.covariance(policy, params, Data(seen, action, mask), 0.3)
    np.testing.assert_allclose(found, 0.3 * expected / np.trace(expected), rtol=1e-4)
    right = Data(seen, policy.mode(params.weights, seen), mask)
    np.testing.assert_allclose(dart.covariance(policy, params, right, 0.3), 0.15 * np.eye(2))


def test_one_action_component_has_the_variance_asked_for_whatever_the_errors():
    class OneAction(Line):
        @property
        def action_size(self):
            return 1

    policy = Policy(Spec(OneAction(), 16, 4, 8), (4,))
    params = PolicyParams(policy.init(KEY), Standardiser(jnp.zeros(()), jnp.ones(())))
    seen = jax.random.normal(KEY, (50, 3))
    for gap in (0.01, 1.0):
        data = Data(seen, policy.mode(params.weights, seen) + gap, jnp.ones(50))
        np.testing.assert_allclose(dart.covariance(policy, params, data, 0.3), [[0.3]], rtol=1e-5)


@pytest.mark.parametrize("rank", [1, 2])
def test_the_noise_has_the_covariance_even_if_that_is_singular(rank, monkeypatch):
    directions = jax.random.normal(KEY, (rank, 3))
    target = np.asarray(4.0 * directions.T @ directions / jnp.sum(directions**2))
    monkeypatch.setattr(dart, "covariance", lambda *args: jnp.asarray(target))
    factor = np.asarray(dart.factor(None, None, None, 4.0))
    np.testing.assert_allclose(factor @ factor.T, target, atol=1e-5)


def test_no_rollout_with_a_failure_is_used_where_demonstrations_are_clean():
    def rollouts(clean):
        data = trained(dart, clean=clean, error=4.0)[2].data
        seen, mask = (np.asarray(x)[-96:] for x in (data.observation, data.mask))
        return np.abs(seen[:, 0].reshape(-1, 8)), mask.reshape(-1, 8)

    place, mask = rollouts(clean=False)
    assert mask.all() and (place > 1.0).any()
    place, mask = rollouts(clean=True)
    assert (mask == mask[:, :1]).all() and 0 < mask[:, 0].sum() < len(mask)
    assert (place[mask[:, 0] > 0] <= 1.0).all()


def test_the_expert_acts_and_labels_are_without_noise():
    world, _, state, _ = trained(dart, error=0.5)
    rows = np.asarray(state.data.mask) > 0
    seen = np.asarray(state.data.observation)[rows]
    assert rows.all()
    label = jax.vmap(lambda x: world.expert(world.reset(KEY).replace(obs=x), KEY))(seen)
    np.testing.assert_allclose(label, np.asarray(state.data.action)[rows], atol=1e-6)


def test_more_error_throws_the_expert_further_off():
    spread = [
        float(np.std(np.asarray(trained(dart, error=error)[2].data.observation)[-96:, 0]))
        for error in (0.0, 2.0)
    ]
    assert spread[1] > 1.2 * spread[0]


def test_it_uses_daggers_labels_and_no_steps_of_the_learner():
    ours, theirs = (trained(module)[1].consumes for module in (dart, dagger))
    assert ours.expert_queries == theirs.expert_queries
    assert (ours.env_steps, ours.interactive) == (0, False)
    assert theirs.env_steps > 0 and theirs.interactive


def test_discrete_actions_are_refused_in_one_line():
    with pytest.raises(BadInput, match=r"dart adds noise .* chain has not; nearest: --algo=dagger"):
        dart.make(Spec(Chain(), 16, 4, 8), dart.Config())
