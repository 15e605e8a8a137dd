"""What is filmed: scenes are the same for all drivers, and failures are where they were."""

import jax
import numpy as np
import pytest

import envs
from irl_bench.films import footage
from tests.worlds.toys import TwoState

pytestmark = pytest.mark.usefixtures("quick_compilation")
STEPS = 24


@pytest.fixture(scope="module")
def world():
    bare = TwoState()
    return bare.bind(bare.dials_for("recoverable"))


def test_a_scene_is_the_same_each_time_and_differs_from_others(world):
    driver = footage.expert(world)
    first, again, other = (footage.film(world, driver, scene, STEPS) for scene in (3, 3, 4))
    np.testing.assert_array_equal(first.observation, again.observation)
    assert (first.observation != other.observation).any()
    assert first.observation.shape == (STEPS, 3) and first.cost.shape == (STEPS,)
    assert first.name == "expert" and first.picture is None


def test_a_longer_film_begins_as_a_shorter_one_of_the_world_does(world):
    """Also where the driver draws its actions."""
    driver = footage.uniform(world)
    short, long = (footage.film(world, driver, 1, steps) for steps in (8, STEPS))
    np.testing.assert_array_equal(short.action, long.action[:8])
    np.testing.assert_array_equal(short.observation, long.observation[:8])


def test_drivers_meet_the_same_world(world):
    """The expert stays and the random driver leaves, from the same start."""
    stays = footage.film(world, footage.expert(world), 5, STEPS)
    leaves = footage.film(world, footage.uniform(world), 5, STEPS)
    assert set(np.unique(leaves.action)) == {0, 1} and (stays.action == 0).all()
    # The world's own draws are in the observation beside the cost.
    np.testing.assert_array_equal(stays.observation[:, 1:], leaves.observation[:, 1:])
    assert leaves.cost.sum() > stays.cost.sum()


def test_failures_are_found_where_the_film_shows_them(world):
    driver, scenes = footage.uniform(world), [0, 1, 2, 7]
    firsts = footage.first_failures(world, driver, scenes, STEPS)
    for scene, first in zip(scenes, firsts, strict=True):
        cost = footage.film(world, driver, scene, STEPS).cost
        assert cost[first] == 1 and not cost[:first].any()
    quiet = world.bind(world.dials.replace(slip=0.0))
    firsts = footage.first_failures(quiet, footage.expert(quiet), scenes, STEPS)
    assert (firsts == footage.NEVER).all()


def test_a_recurrent_policy_keeps_its_memory(world):
    """A policy that counts its steps does 1 in every third."""

    class Counting:
        carry = np.int32(0)

        @staticmethod
        def act(carry, observation, key):
            return jax.numpy.int32(carry % 3 == 2), carry + 1

    driven = footage.film(world, footage.policy("counts", Counting), 0, 9)
    assert driven.action.tolist() == [0, 0, 1] * 3 and driven.name == "counts"


def test_a_continuous_world_has_a_picture_and_bounded_actions():
    world = envs.make("lane_keep")
    bound = world.bind(world.dials_for("nominal"))
    driven = footage.film(bound, footage.uniform(bound), 0, 5)
    assert driven.picture["road"].shape[0] == 5 and driven.action.shape == (5, 2)
    assert (np.abs(driven.action) <= 1).all() and np.ptp(driven.action) > 0.1
