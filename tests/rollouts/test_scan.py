"""The one rollout primitive against a Python loop, with one world and with several."""

import chex
import jax
import jax.numpy as jnp

from irl_bench.rollouts.scan import scan
from tests.worlds.helpers import Line

STEPS, WORLDS = 5, 3


class Scan(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_one_world_is_a_loop(self):
        world = Line()
        keys = jax.random.split(jax.random.PRNGKey(1), STEPS)
        start = world.reset(jax.random.PRNGKey(0))

        def rollout(start, keys):
            return scan(
                world,
                lambda state, total, key: (world.expert(state, key), key),
                lambda before, after, total, key: (after, total + after.reward, after.obs),
                start,
                keys,
                jnp.zeros(()),
            )

        (last, total), seen = self.variant(rollout)(start, keys)
        state, expected, rows = start, 0.0, []
        for key in keys:
            state = world.step(state, world.expert(state, key))
            expected, rows = expected + state.reward, [*rows, state.obs]
        chex.assert_trees_all_close(last.obs, state.obs, atol=1e-5)
        chex.assert_trees_all_close(total, expected, atol=1e-5)
        chex.assert_trees_all_close(seen, jnp.stack(rows), atol=1e-5)

    @chex.variants(with_jit=True)
    def test_several_worlds_are_several_rollouts_and_a_record_may_go_back(self):
        world = Line()
        keys = jax.random.split(jax.random.PRNGKey(1), STEPS)
        starts = jax.vmap(world.reset)(jax.random.split(jax.random.PRNGKey(0), WORLDS))

        def stay(starts, keys):
            act = lambda state, _, key: (jnp.zeros((WORLDS, world.action_size)), None)
            record = lambda before, after, _, aside: (before, None, after.obs)
            return scan(world, act, record, starts, keys, worlds=True)

        (last, _), seen = self.variant(stay)(starts, keys)
        chex.assert_trees_all_equal(last.obs, starts.obs)
        chex.assert_shape(seen, (STEPS, WORLDS, *starts.obs.shape[1:]))
        chex.assert_trees_all_close(seen[0], seen[-1])
