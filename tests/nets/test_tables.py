"""A table of actions per time step against a slow count, and as a policy of the sweep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.chain import Chain
from irl_bench.algos import bc
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Demonstrations, Spec, Task
from irl_bench.nets import tables
from irl_bench.rollouts import evaluation
from tests.worlds.helpers import Line
from tests.worlds.toys import TwoState

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.PRNGKey(0)


def test_a_table_is_the_most_frequent_action_of_each_step_and_view():
    rng = np.random.default_rng(0)
    view, action = rng.integers(0, 5, (7, 6)), rng.integers(0, 3, (7, 6))
    mask = (rng.random((7, 6)) < 0.7).astype(np.float32)
    demos = Demonstrations(jnp.eye(5)[view], jnp.asarray(action), jnp.asarray(mask))
    table = np.asarray(tables.fit(demos, 3))
    for t in range(6):
        for o in range(5):
            counts = [
                sum(mask[n, t] for n in range(7) if view[n, t] == o and action[n, t] == a)
                for a in range(3)
            ]
            assert table[t, o] == int(np.argmax(counts))


def test_bc_with_a_table_acts_by_the_clock():
    world = Chain()
    world = world.bind(world.dials_for("cliff"))
    demos = evaluation.collect(world, KEY, 6, 5)
    spec = Spec(world, 8, 6, 5)
    learner = bc.make(spec, bc.Config(time_indexed=True))
    task = Task(demos, world.dials)
    state, metrics = learner.update(learner.init(KEY, task), task)
    table = np.asarray(learner.policy(state))
    assert table.shape == (5, world.observation_size) and metrics == {} and learner.rounds == 1
    carry = learner.carry
    seen = np.asarray(demos.observation[0])
    for t in range(5):  # it repeats what it has seen
        action, carry = learner.act(table, carry, seen[t], KEY)
        assert int(action) == int(demos.action[0, t]) and int(carry) == t + 1
    assert int(learner.act(table, jnp.int32(99), seen[4], KEY)[0]) == table[4, seen[4].argmax()]


def test_it_shares_nothing_between_time_steps():
    """Labels of one step do not change the actions of another."""
    world = Chain()
    demos = evaluation.collect(world.bind(world.dials_for("cliff")), KEY, 6, 5)
    other = demos.replace(action=demos.action.at[:, 2].set(1))
    first, second = np.asarray(tables.fit(demos, 4)), np.asarray(tables.fit(other, 4))
    assert (first[2] != second[2]).any()
    np.testing.assert_array_equal(np.delete(first, 2, 0), np.delete(second, 2, 0))


@pytest.mark.parametrize("world", [Line, TwoState])
def test_a_world_that_no_table_can_index_is_refused(world):
    """`Line` has continuous actions, `TwoState` observations that are not one-hot."""
    with pytest.raises(
        BadInput, match=r"time_indexed needs discrete actions.*nearest: --env=chain"
    ):
        bc.make(Spec(world(), 8, 4, 4), bc.Config(time_indexed=True))


@pytest.mark.parametrize("name", ["chain", "grid", "coarse_lane"])
def test_one_hot_worlds_can_be_indexed(name):
    assert tables.indexable(envs.make(name))


@pytest.mark.parametrize(("name", "value"), [("chunk", 4), ("ema", 0.9), ("tasil", 1.0)])
def test_settings_of_a_network_are_refused_beside_a_table(name, value):
    plain = getattr(bc.Config, name)
    words = rf"bc.{name}={value:g} is for a network.*nearest: bc.{name}={plain:g}$"
    with pytest.raises(BadInput, match=words):
        bc.make(Spec(Chain(), 8, 4, 4), bc.Config(time_indexed=True, **{name: value}))
