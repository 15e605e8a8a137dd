"""The worlds behind Gymnasium's interface: its own checker, equal steps, cut and ended episodes."""

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
import envs.gym

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.filterwarnings("ignore:.*Box observation space (minimum|maximum) value is:UserWarning")
@pytest.mark.parametrize("name", ["chain", "lane_keep"])
def test_gymnasiums_own_checker_passes(name):
    check_env(gymnasium.make(f"irl_bench/{name}-v0").unwrapped, skip_render_check=True)


def test_every_world_has_a_name_and_needs_no_import():
    assert {f"irl_bench/{name}-v0" for name in envs.names()} <= gymnasium.registry.keys()
    assert gymnasium.spec("irl_bench/hopper-v0").entry_point == "envs.gym:GymWorld"


def test_steps_are_the_worlds_and_dials_apply():
    env = gymnasium.make("irl_bench/chain-v0", hazard=0.5)
    world = envs.make("chain", hazard=0.5)
    observation, _ = env.reset(seed=3)
    key = jax.random.PRNGKey(int(np.random.Generator(np.random.PCG64(np.random.SeedSequence(3))).integers(2**31)))
    state = jax.jit(world.reset)(key)
    np.testing.assert_array_equal(observation, state.obs)
    step = jax.jit(world.step)
    for action in [0, 1, 2, 3] * 5:
        observation, reward, terminated, truncated, info = env.step(action)
        state = step(state, action)
        np.testing.assert_array_equal(observation, state.obs)
        assert reward == float(state.reward) and not terminated and not truncated
        assert info == {name: float(state.metrics[name]) for name in ("cost", "graded_cost")}


def test_an_episode_is_cut_at_its_horizon_and_failure_does_not_end_it():
    env = gymnasium.make("irl_bench/chain-v0", horizon=5, hazard=1.0)
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]


def test_a_step_before_a_reset_says_so():
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        envs.gym.GymWorld("chain").step(0)
