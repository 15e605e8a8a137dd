"""MuJoCo Playground's worlds. Most is run where the extra is installed; what is said where it is
not, everywhere."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from irl_bench.core.settings import BadInput
from irl_bench.plan import presets as table
from irl_bench.plan import registry

INSTALLED = importlib.util.find_spec("mujoco_playground") is not None
needed = pytest.mark.skipif(not INSTALLED, reason="the extra playground is not installed")


@pytest.mark.skipif(INSTALLED, reason="the extra playground is installed")
def test_a_missing_extra_is_named():
    with pytest.raises(
        ValueError, match=r"needs the extra playground .*pip install 'irl-bench\[playground\]'"
    ):
        envs.make("playground:CartpoleBalance")
    with pytest.raises(BadInput, match="extra playground"):
        registry.world("playground:CartpoleBalance")


def test_budgets_and_settings_are_a_robots():
    for budget in table.BUDGETS:
        assert table.budget_of("playground:CartpoleBalance", budget) == table.budget_of(
            "inverted_pendulum", budget
        )
    assert table.config_differences("playground:CartpoleBalance", "ppo", "default") == table.RUNNER


@needed
@pytest.mark.filterwarnings("ignore")
def test_costs_follow_the_suites_rewards():
    world = envs.make("playground:CartpoleBalance")
    assert (world.observation_size, world.action_size, world.horizon, world.has_expert) == (
        5,
        1,
        1000,
        False,
    )

    def step(state, key):
        state = world.step(state, jax.random.uniform(key, (1,), minval=-1.0, maxval=1.0))
        return state, (state.reward, state.metrics, state.obs)

    start = world.reset(jax.random.PRNGKey(0))
    _, (reward, metrics, seen) = jax.jit(lambda s, k: jax.lax.scan(step, s, k))(
        start, jax.random.split(jax.random.PRNGKey(1), 200)
    )
    assert (
        jnp.isfinite(seen).all() and 0.0 <= float(reward.min()) < 0.5 < float(reward.max()) <= 1.0
    )
    np.testing.assert_allclose(metrics["graded_cost"], 1.0 - reward, atol=1e-6)
    np.testing.assert_array_equal(metrics["cost"], (reward < 0.5).astype(jnp.float32))


@needed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("playground:CartpolBalance", "did you mean 'playground:CartpoleBalance'"),
        ("playground:", "no world ''"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(BadInput, match=message):
        registry.world(name)
