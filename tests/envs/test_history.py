"""Worlds that show more of the past or less of the present: frames, last actions, velocities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import contract, drawing
from envs.history import History

pytestmark = pytest.mark.usefixtures("quick_compilation")
ALL = {"frames": "4", "last_action": "visible", "velocities": "hidden"}


def pair(name="lane_keep", **options):
    return envs.make(name), envs.make(name, **options)


def rollout(world, actions, key=3):
    """The states after each action, with `world.reset`'s first."""

    def run(actions):
        first = world.reset(jax.random.PRNGKey(key))
        _, later = jax.lax.scan(lambda s, a: (world.step(s, a),) * 2, first, actions)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)

    return jax.jit(run)(actions)


def drawn(world, steps=6):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.uniform(-1.5, 1.5, (steps, world.action_size)), jnp.float32)


def test_without_a_choice_the_world_is_itself():
    plain, same = pair(frames="1", last_action="hidden")
    assert type(same) is type(plain) and not isinstance(same, History)


@pytest.mark.parametrize("name", ["lane_keep", "highway"])
def test_the_observation_holds_frames_without_velocities_and_the_last_action(name):
    world, twin = pair(name, **ALL)
    actions = drawn(world)
    plain, seen = rollout(world, actions), rollout(twin, actions)
    kept = np.setdiff1d(np.arange(world.observation_size), world.velocities)
    size = len(kept)
    assert twin.observation_size == 4 * size + world.action_size == seen.obs.shape[1]
    for t in range(len(actions) + 1):
        for k in range(4):
            frame = np.asarray(plain.obs)[max(t - k, 0), kept]
            np.testing.assert_allclose(seen.obs[t, k * size : (k + 1) * size], frame, atol=1e-4)
        last = np.clip(np.asarray(actions)[t - 1], -1, 1) if t else np.zeros(world.action_size)
        np.testing.assert_array_equal(seen.obs[t, 4 * size :], last)
    for part in ("reward", "done"):
        np.testing.assert_allclose(getattr(seen, part), getattr(plain, part), atol=1e-5)
    for metric, values in plain.metrics.items():
        np.testing.assert_allclose(seen.metrics[metric], values, atol=1e-4)


def test_its_attributes_speak_of_its_own_observation():
    world, twin = pair(**ALL)
    size = world.observation_size - 3
    assert twin.velocities == ()
    assert twin.failure_flags == tuple(k * size + size - 1 for k in range(4))
    frames = [tuple(range(k * size, (k + 1) * size)) for k in (1, 2, 3)]
    assert twin.past == (*frames, (4 * size, 4 * size + 1))
    assert twin.last_action == twin.past[-1]
    assert envs.make("lane_keep", velocities="hidden").past == ()
    assert world.past == () and envs.make("lane_keep", frames="2").velocities == (2, 3, 4)
    for name in ("name", "horizon", "modes", "recovery_steps", "latency", "backend", "n_actions"):
        assert getattr(twin, name) == getattr(world, name)
    assert twin.chosen == {**world.chosen, **ALL}


def test_the_flags_are_those_of_failures():
    """Every entry that `failure_flags` names is 0 until the car leaves the lane."""
    _, twin = pair(**ALL)
    states = rollout(twin, jnp.tile(jnp.array([1.0, 0.0]), (25, 1)))
    flags = np.asarray(states.obs)[:, list(twin.failure_flags)]
    failed = np.asarray(states.metrics["cost"]) > 0
    first = failed.argmax()
    assert failed.any() and not flags[:first].any()
    for k in range(4):
        assert (flags[first + k :, k] != 0).all() and not flags[: first + k, k].any()


def test_the_expert_is_that_of_the_world_within():
    world, twin = pair(**ALL)
    actions, key = drawn(world), jax.random.PRNGKey(0)
    plain, seen = rollout(world, actions), rollout(twin, actions)
    np.testing.assert_array_equal(
        jax.vmap(lambda s: twin.expert(s, key))(seen),
        jax.vmap(lambda s: world.expert(s, key))(plain),
    )
    assert not twin.expert_reads_observations


def test_an_expert_of_observations_reads_the_newest_frame():
    world, twin = pair("hopper", frames="2")
    state = jax.jit(twin.reset)(jax.random.PRNGKey(0))
    assert twin.expert_reads_observations
    assert not envs.make("hopper", velocities="hidden").expert_reads_observations
    np.testing.assert_array_equal(
        twin.expert_at(state.obs), world.expert_at(state.pipeline_state.obs)
    )


def test_hopper_with_positions_only_shows_no_entry_of_qd():
    world, twin = pair("hopper", velocities="hidden")
    state = jax.jit(world.reset)(jax.random.PRNGKey(1))
    whole = np.asarray(state.obs)
    seen = np.asarray(jax.jit(twin.reset)(jax.random.PRNGKey(1)).obs)
    assert twin.observation_size == 5
    np.testing.assert_allclose(seen, whole[:5], atol=1e-6)
    np.testing.assert_allclose(whole[6:], state.pipeline_state.qd[1:], atol=1e-6)


def test_dials_reach_the_world_within():
    world, twin = pair(**ALL)
    for dials in ({"crosswind": 0.0, "noise": 0.5}, {"friction": 0.3}):
        bound, other = (
            world.bind(world.dials.replace(**dials)),
            twin.bind(twin.dials.replace(**dials)),
        )
        assert other.dials == bound.dials and twin.dials == world.dials
        actions = drawn(world, 4)
        np.testing.assert_array_equal(
            rollout(other, actions).reward, rollout(bound, actions).reward
        )
    assert envs.make("lane_keep", frames="2", friction=0.6).inner.dials.friction == 0.6


def test_it_keeps_the_contract():
    assert contract.check(envs.make("lane_keep", **ALL)) == ()


def test_it_is_drawn_as_the_world_within():
    world, twin = pair(**ALL)
    states = [jax.jit(w.reset)(jax.random.PRNGKey(0)) for w in (world, twin)]
    pictures = [
        drawing.frame(w, np.asarray(s.obs), jax.device_get(drawing.view(w)(s)))
        for w, s in zip((world, twin), states, strict=True)
    ]
    np.testing.assert_array_equal(*pictures)
    assert drawing.seconds(twin) == drawing.seconds(world)


@pytest.mark.parametrize("name", ["chain", "humanoid"])
def test_worlds_without_a_twin_say_so(name):
    with pytest.raises(ValueError, match="has no dial 'frames'"):
        envs.make(name, frames="2")
