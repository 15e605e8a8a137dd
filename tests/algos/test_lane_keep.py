"""Learning to keep the lane, at a reduced size: the clone is good on the expert's road, DAgger
comes back from off it."""

import jax
import numpy as np
import pytest

import envs
from irl_bench.algos import bc, dagger
from irl_bench.core.quantities import TOLERANCES
from irl_bench.core.types import Spec
from irl_bench.rollouts.evaluation import evaluate, expert_errors
from tests.worlds.helpers import demonstrate, train

SEEDS, EPISODES, HORIZON = 2, 64, 512
DEMOS, DEMO_STEPS = 48, 512


def measured(learner):
    """(eps at 0.1 on the expert's states, returns per step off the lane) of each seed."""
    world = envs.make("lane_keep")
    spec, dials = Spec(world, HORIZON, DEMOS, DEMO_STEPS), world.dials_for("nominal")
    bound = world.bind(dials)

    def one(key):
        keys = jax.random.split(key, 4)
        params = learner(spec).policy(
            train(learner(spec), keys[0], demonstrate(spec, dials, keys[1]))[0]
        )
        errors, steps = expert_errors(
            bound, learner(spec).act, params, keys[2], EPISODES, HORIZON // 2
        )
        sums = evaluate(bound, learner(spec).act, params, keys[3], EPISODES, HORIZON)
        return errors[TOLERANCES.index(0.1)] / steps, sums.off_to_on, sums.off_steps

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.PRNGKey(0), SEEDS)))


@pytest.mark.slow
def test_clone_is_good_where_the_expert_drives():
    eps, _, _ = measured(lambda spec: bc.make(spec, bc.Config(hidden=(32, 32))))
    assert (eps < 0.01).all(), eps


@pytest.mark.slow
def test_dagger_comes_back():
    eps, back, off = measured(lambda spec: dagger.make(spec, dagger.Config(hidden=(32, 32))))
    assert (off > 0).all() and (back / off > 0.05).all(), (back, off, eps)
