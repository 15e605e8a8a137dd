"""Worlds that a CPU steps in parts: the same steps under any nesting of `vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.parts import in_parts
from irl_bench.rollouts.scan import scan

SIZE = 4
DIALS = {"a": np.float32(2.0)}


def step(dials, state, action):
    """A world whose steps are exact in any order of computation."""
    x = state["x"] * dials["a"] + action
    return {"x": x, "n": state["n"] + 1, "constant": jnp.float32(3.0)}


parted = in_parts(step, SIZE)


def rows(*shape):
    count = int(np.prod(shape))
    x = np.arange(3.0 * count, dtype=np.float32).reshape(*shape, 3)
    return {"x": x, "n": np.arange(count).reshape(shape), "constant": np.zeros(shape)}, -x


def check(found, x, n):
    np.testing.assert_array_equal(found["x"], x)
    np.testing.assert_array_equal(found["n"], n)
    np.testing.assert_array_equal(found["constant"], np.full(np.shape(n), 3.0))


@pytest.mark.parametrize("jit", [lambda f: f, jax.jit])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 13])
def test_one_axis_of_any_length(count, jit):
    states, actions = rows(count)
    found = jit(jax.vmap(parted, (None, 0, 0)))(DIALS, states, actions)
    check(found, 2.0 * states["x"] + actions, states["n"] + 1)


def test_several_axes_in_any_place():
    states, actions = rows(2, 3, 5)
    twice = jax.vmap(jax.vmap(parted, (None, 0, 0)), (None, 1, 1))
    found = jax.jit(jax.vmap(twice, (None, 0, 0)))(DIALS, states, actions)
    swapped = 2.0 * states["x"] + actions
    check(found, swapped.swapaxes(1, 2), states["n"].swapaxes(1, 2) + 1)


def test_one_state_for_all_actions_of_an_axis():
    states, _ = rows(3)
    actions = np.arange(21.0, dtype=np.float32).reshape(7, 3, 1)
    found = jax.vmap(jax.vmap(parted, (None, 0, 0)), (None, None, 0))(DIALS, states, actions)
    check(found, 2.0 * states["x"] + actions, np.tile(states["n"] + 1, (7, 1)))


def test_one_action_for_all_states():
    states, _ = rows(6)
    found = jax.vmap(parted, (None, 0, None))(DIALS, states, np.ones(3, np.float32))
    check(found, 2.0 * states["x"] + 1.0, states["n"] + 1)


@pytest.mark.parametrize("outer", [False, True])
def test_dials_that_are_mapped_too(outer):
    states, actions = rows(6, 5) if outer else rows(6)
    dials = {"a": np.arange(6.0, dtype=np.float32)}
    each = jax.vmap(parted, (None, 0, 0)) if outer else parted
    found = jax.vmap(each)(dials, states, actions)
    factor = dials["a"].reshape(6, *[1] * (states["x"].ndim - 1))
    check(found, factor * states["x"] + actions, states["n"] + 1)


def lengths(function, *arguments):
    """The numbers of parts of the loops in a program."""
    text = str(jax.make_jaxpr(function)(*arguments))
    return sorted(int(word.split("=")[1]) for word in text.split() if word.startswith("length="))


def test_the_parts_of_nested_axes():
    """Five seeds of seven worlds are 35 worlds, nine parts of four; not five times two."""
    one, all_at_once = jax.vmap(parted, (None, 0, 0)), jax.vmap(step, (None, 0, 0))
    assert lengths(one, DIALS, *rows(SIZE)) == []
    assert lengths(one, DIALS, *rows(SIZE + 1)) == [2]
    assert lengths(jax.vmap(one, (None, 0, 0)), DIALS, *rows(5, 7)) == [9]
    assert lengths(all_at_once, DIALS, *rows(35)) == []


def test_a_robot_in_parts(monkeypatch):
    world = envs.make("inverted_pendulum", backend="spring")
    assert world.at_once > 0
    keys = jax.random.split(jax.random.PRNGKey(3), 10)
    start = jax.jit(jax.vmap(world.begin))(keys)

    def rollout(at_once):
        monkeypatch.setattr(world, "at_once", at_once)
        once = world.traced_once()

        def act(state, memory, t):
            return 0.1 * jnp.sin(t + state.obs[:, :1]), None

        def record(before, after, memory, aside):
            return after, memory, after.obs

        def run(start):
            return scan(once, act, record, start, jnp.arange(8.0), worlds=True)[1]

        assert (3 in lengths(run, start)) == (at_once == 4)
        return jax.jit(run)(start)

    whole = rollout(0)
    assert np.ptp(np.asarray(whole)[-1], axis=0).min() > 0
    np.testing.assert_allclose(rollout(4), whole, rtol=1e-4, atol=1e-5)


def test_mjx_is_stepped_at_once():
    assert envs.make("inverted_pendulum", backend="mjx").at_once == 0
    assert envs.make("ant_course", backend="spring").at_once > 0
