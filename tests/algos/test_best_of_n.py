"""Best-of-n: its weights against every subset, its distance against a sample, and what it makes
of a reward."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_bench.algos import best_of_n
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.rollouts.evaluation import collect
from tests.worlds.helpers import Windy, train

KEY = jax.random.PRNGKey(0)
pytestmark = pytest.mark.usefixtures("quick_compilation")
SMALL = {
    "hidden": (8,),
    "bc_steps": 50,
    "reward_hidden": (16,),
    "pool_worlds": 32,
    "pool_steps": 32,
    "segment": 8,
    "reward_steps": 300,
    "labels": 200,
    "samples": 16,
    "begins": 64,
    "warm": 4,
    "length": 8,
}


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_weights_are_those_of_all_subsets(n):
    value = np.arange(6.0) ** 2
    best = [max(chosen) for chosen in itertools.combinations(value, n)]
    weights = best_of_n.weights(6, n)
    assert best_of_n.weights(65536, 2**n).sum() == pytest.approx(1, abs=1e-6)
    assert weights.sum() == pytest.approx(1, abs=1e-5) and (weights * value).sum() == pytest.approx(
        np.mean(best), rel=1e-5
    )


def test_distance_is_that_of_the_best_of_n():
    """KL of the best of n under a continuous distribution: E log(n F^(n-1)), F uniform under one
    draw."""
    u = np.random.default_rng(0).uniform(size=(200_000, 8)).max(1)
    assert float(best_of_n.kl(jnp.float32(8))) == pytest.approx(np.mean(np.log(8 * u**7)), abs=0.01)
    assert float(best_of_n.kl(jnp.float32(1))) == 0


@pytest.mark.slow
def test_the_best_of_more_is_better_by_proxy_and_by_gold():
    world = Windy()
    learner = best_of_n.make(Spec(world, 16, 4, 8), best_of_n.Config(**SMALL))
    task = Task(collect(world, KEY, 4, 8), world.dials)
    _, metrics = jax.jit(lambda key: train(learner, key, task))(KEY)
    assert learner.rounds == 5 and metrics["proxy"].shape == (5,)
    proxy, gold, kl = (
        np.asarray(metrics[name]) for name in ("proxy", "true_return", "reference_kl")
    )
    assert proxy[-1] > proxy[0] and gold[-1] > gold[0]
    np.testing.assert_allclose(
        kl * 8, np.log(2.0 ** np.arange(5)) - (1 - 0.5 ** np.arange(5)), atol=1e-5
    )
    assert learner.consumes.preference_labels == 200
    # The pool, and the rollouts once: every round computes the same ones.
    assert learner.consumes.env_steps == 32 * 32 + 64 * (4 + 16 * 8)
    with pytest.raises(BadInput, match="samples=16"):
        best_of_n.make(Spec(world, 16, 4, 8), best_of_n.Config(**{**SMALL, "samples": 20}))
